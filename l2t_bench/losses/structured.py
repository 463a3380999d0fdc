"""Losses of whole sequences: translations that the student draws, set against each other by their BLEU (section 4.2).

The drawn translations, and the reference as one more, are constants of a step. BLEU is a sentence's, from 0 to 1, of
the vocabulary's own units: of sub-words where the text is in sub-words.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from l2t_bench.bleu import sentence_bleu
from l2t_bench.data.specials import PAD
from l2t_bench.data.spelling import Spelling
from l2t_bench.errors import UserError
from l2t_bench.expected_bleu import joined, stands_first
from l2t_bench.losses.sequence import word_log_p
from l2t_bench.students.drawing import Drawn, with_drawing


class Rivals(NamedTuple):
    """Of each sentence the reference and then what was drawn, (B, 1 + K) each; which of them no earlier one equals.

    log p is in nats, a sum over the words, of which END is one and ``lengths`` the number; BLEU is a constant.
    """

    log_p: Tensor
    bleu: Tensor
    first: Tensor
    lengths: Tensor


def rivals_of(output: Any, target: Tensor) -> Rivals:
    """What a loss of whole sequences reads of ``Drawn`` and the references (B, R). Raises ``UserError`` for another."""
    if not isinstance(output, Drawn):
        raise UserError(
            f"a loss of drawn translations needs a student that draws them in training, not {type(output).__name__}: "
            "train the student that the loss's student(student) makes"
        )
    words = joined(target[:, None], output.words)
    log_p = torch.cat([_log_p(output.logits, target)[:, None], _log_p(output.drawn, output.words)], dim=1)
    return Rivals(log_p, _bleu(words, output.logits).to(log_p), stands_first(words), (words != PAD).sum(-1))


def _log_p(logits: Tensor, words: Tensor) -> Tensor:
    """log p of whole sequences: logits (..., R, V), words (..., R) -> (...)."""
    return word_log_p(logits, words).masked_fill(words == PAD, 0).sum(-1)


def _bleu(words: Tensor, logits: Tensor) -> Tensor:
    """BLEU of words (B, K, L) against the first of each sentence: (B, K)."""
    units = Spelling(tuple(map(str, range(logits.shape[-1]))))
    sentences = [units.sentences(each) for each in words]
    scores = [[sentence_bleu(found, each[0]) for found in each] for each in sentences]
    return torch.tensor(scores, dtype=torch.float64)


def _only_first(scores: Tensor, first: Tensor) -> Tensor:
    """Scores with those of repeated translations out of question."""
    return scores.masked_fill(~first, torch.finfo(scores.dtype).min)


@dataclass(frozen=True)
class OfDrawn:
    """A loss that reads ``count`` drawn translations a sentence. Raises ``UserError`` for a count below 1."""

    count: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            raise UserError(f"count must be a positive integer, not {self.count!r}")

    def student(self, student: nn.Module) -> nn.Module:
        """A copy that draws as it is trained: ``with_drawing``."""
        return with_drawing(student, self.count)


@dataclass(frozen=True)
class Reinforce(OfDrawn):
    """Mean over the sentences of -1/K sum_k log p(y_k | x) (BLEU_k - b), y_k drawn; the paper's L_rl (section 4.2).

    b, the baseline, is the mean BLEU of a sentence's K drawn translations, assumed: the paper names none. With one
    alone nothing is learned, so ``count`` must be at least 2. The reference is not among them. Output ``Drawn``, target
    (B, R) words; a scalar.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 2:
            raise UserError("reinforce sets each translation against the mean: count must be at least 2")

    def __call__(self, output: Any, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        log_p, bleu, *_ = rivals_of(output, target)
        drawn = bleu[:, 1:]
        return -(log_p[:, 1:] * (drawn - drawn.mean(1, keepdim=True))).mean()


@dataclass(frozen=True)
class MinimumRisk(OfDrawn):
    """Mean over the sentences of sum_k Q_k (1 - BLEU_k), Q_k = p_k^a / sum_j p_j^a (Shen et al. 2016, Eq. 9 to 11).

    Over the reference and what was drawn, one found twice counted once. ``sharpness`` is a: they take 0.005 with a
    hundred translations; 0.1 is assumed with few. Output ``Drawn``, target (B, R) words; a scalar in [0, 1]. Raises
    ``UserError`` for a sharpness that is not positive.
    """

    sharpness: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.sharpness < math.inf:
            raise UserError(f"sharpness must be positive, not {self.sharpness!r}")

    def __call__(self, output: Any, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        log_p, bleu, first, _ = rivals_of(output, target)
        return (torch.softmax(_only_first(self.sharpness * log_p, first), dim=-1) * (1 - bleu)).sum(-1).mean()


@dataclass(frozen=True)
class SoftmaxMargin(OfDrawn):
    """Mean over the sentences of -s(u*) + log sum_u exp(s(u) + C(u)), C = 1 - BLEU (Edunov et al. 2018, SoftmaxMargin).

    As they have it: over the candidates that the student finds, the reference not among them unless ``reference``; u*,
    the pseudo-reference, is the one of least C (the first of equals); s is a mean over the words, END among them.
    Not as they have it: s is of log p, where their code takes the output layer's numbers before the softmax; candidates
    are drawn (theirs: a beam of 16); no loss of single words is added (theirs: 0.4 of a smoothed one). A candidate
    found twice counts once; where all are one, nothing is learned. Output ``Drawn``, target (B, R) words; a scalar, in
    nats.
    """

    reference: bool = False

    def __call__(self, output: Any, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        found = rivals_of(output, target)
        scores, costs, first = found.log_p / found.lengths, 1 - found.bleu, found.first
        if not self.reference:
            scores, costs, first = scores[:, 1:], costs[:, 1:], stands_first(output.words)
        best = scores.gather(1, costs.argmin(1, keepdim=True)).squeeze(1)
        return (torch.logsumexp(_only_first(scores + costs, first), dim=-1) - best).mean()
