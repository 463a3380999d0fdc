"""The actor-critic of sequence prediction (Bahdanau et al. 2017, Algorithm 1) as functions: rewards, targets, losses.

Translations are words (B, K, L), padded after their END; values Q(a; y_<r, y) of every next word and probabilities
p(a | y_<r, x) are (B, K, L, V). BLEU is a sentence's, from 0 to 1, of the vocabulary's own units.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from l2t_bench.bleu import sentence_bleu
from l2t_bench.data.specials import PAD
from l2t_bench.data.spelling import Spelling
from l2t_bench.losses.sequence import WordCrossEntropy
from l2t_bench.students.search import sayable


def rewards(words: Tensor, references: Tensor, vocabulary: int) -> Tensor:
    """What each word adds to the BLEU of what stands before it, against references (B, R): (B, K, L), in float64.

    Potential-based: those of a translation add up to its BLEU. Its END adds nothing.
    """
    units = Spelling(tuple(map(str, range(vocabulary))))
    found = torch.zeros(words.shape, dtype=torch.float64)
    for row, (drawn, reference) in enumerate(zip(words, units.sentences(references), strict=True)):
        for place, sentence in enumerate(units.sentences(drawn)):
            gained = _gains(sentence.split(), reference)
            found[row, place, : len(gained)] = torch.tensor(gained, dtype=torch.float64)
    return found.to(words.device)


def _gains(units: list[str], reference: str) -> list[float]:
    scores = [0.0, *(sentence_bleu(" ".join(units[:length]), reference) for length in range(1, len(units) + 1))]
    return [after - before for before, after in pairwise(scores)]


def policy(logits: Tensor) -> Tensor:
    """The probabilities that words are drawn by: of those that can be said."""
    return torch.softmax(sayable(logits), dim=-1)


def expected_values(probabilities: Tensor, values: Tensor) -> Tensor:
    """sum_a p(a | y_<r, x) Q(a; y_<r, y): (B, K, L)."""
    return (probabilities * values).sum(-1)


def critic_targets(gained: Tensor, expected: Tensor, words: Tensor) -> Tensor:
    """q_r: the reward of word r, and what is expected after it unless it is the last. (B, K, L), as all arguments."""
    going_on = functional.pad(words[..., 1:] != PAD, (0, 1))
    return gained + functional.pad(expected[..., 1:], (0, 1)).masked_fill(~going_on, 0)


def critic_loss(values: Tensor, targets: Tensor, words: Tensor, spread: float) -> Tensor:
    """Mean over translations of sum_r (Q(y_r) - q_r)^2 + spread sum_a (Q(a) - mean_b Q(b))^2; a scalar.

    ``spread`` (lambda_C) holds down the values of words that are hardly ever drawn. Padding does not count.
    """
    chosen = values.gather(-1, words[..., None]).squeeze(-1)
    apart = (values - values.mean(-1, keepdim=True)).square().sum(-1)
    return ((chosen - targets).square() + spread * apart).masked_fill(words == PAD, 0).sum(-1).mean()


@dataclass(frozen=True)
class ActorLoss:
    """Mean over translations of -sum_r sum_a p(a | y_<r, x) Q(a; y_<r, y), and ``likelihood`` of cross entropy.

    A student's loss under the values that phi holds, constants: logits (B, 1 + K, L, V) and target (B, 1 + K, L) of the
    reference and then of K drawn translations, phi (B, K, L, V) of those. ``likelihood`` is lambda_LL. Padding does not
    count; a scalar.
    """

    likelihood: float

    def __call__(self, logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        drawn = expected_values(policy(logits[:, 1:]), phi).masked_fill(target[:, 1:] == PAD, 0)
        return self.likelihood * WordCrossEntropy()(logits[:, 0], target[:, 0]) - drawn.sum(-1).mean()
