"""Expected BLEU over a set of candidates, what the teacher of a translating student maximises (sections 3.3, 4.2)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from l2t_bench.bleu import sentence_bleu
from l2t_bench.data.specials import BEGIN, PAD
from l2t_bench.data.spelling import Spelling
from l2t_bench.errors import UserError
from l2t_bench.losses.sequence import word_log_p
from l2t_bench.modules import mix_seeds
from l2t_bench.problem import StudentView
from l2t_bench.students.search import Search


class Candidates(NamedTuple):
    """Of each sentence K translations: words (B, K, R), BLEU in [0, 1] (B, K), and whether one stands first (B, K).

    Constants of the differentiation. A translation that was found twice counts once: the second is not ``first``.
    """

    words: Tensor
    bleu: Tensor
    first: Tensor


@dataclass(frozen=True)
class ExpectedBLEU:
    """Mean over the sentences of sum_k Q_k BLEU_k, Q_k = p(y_k | x)^a / sum_j p(y_j | x)^a (Shen et al. 2016, Eq. 9).

    ``sharpness`` is a: 1 renormalises p over the candidates. log p of a sentence being a sum over its words, that often
    leaves all weight to one candidate, and M~ is flat: of a student that is hardly trained, to the reference. Shen et
    al. take 0.005, near to the mean over the candidates; the paper says nothing of it, and 0.1 is assumed here.

    Logits (B, K, R, V), target ``Candidates``; a scalar in [0, 1]. Raises ``UserError`` for another target and a
    sharpness that is not positive.
    """

    sharpness: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.sharpness < math.inf:
            raise UserError(f"sharpness must be positive, not {self.sharpness!r}")

    def __call__(self, logits: Tensor, target: Candidates) -> Tensor:
        if not isinstance(target, tuple) or len(target) != 3:
            raise UserError("expected BLEU needs the candidates that CandidateDev makes at omega_T, by prepare_dev")
        words, bleu, first = target
        log_p = word_log_p(logits, words).masked_fill(words == PAD, 0).sum(-1)
        scores = (self.sharpness * log_p).masked_fill(~first, torch.finfo(log_p.dtype).min)
        return (torch.softmax(scores, dim=-1) * bleu.to(log_p.dtype)).sum(-1).mean()


@dataclass(frozen=True)
class CandidateDev:
    """``prepare_dev``: the dev sentences with the candidates that the student at omega_T has for them.

    ``search`` finds them; with ``reference`` the reference is one more. A batch is ((source (B, S), words before
    (B, K, R)), ``Candidates``). ``spelling`` gives the words that BLEU is taken of, when it is first needed.
    """

    search: Search
    spelling: Callable[[], Spelling]
    reference: bool = True

    def __call__(self, view: StudentView, seed: int) -> list[tuple[tuple[Tensor, Tensor], Candidates]]:
        batches = []
        for number, ((source, _), targets) in enumerate(view.dev):
            asked = replace(self.search, seed=mix_seeds(seed, number))
            words = view.decode((source, asked))
            if self.reference:
                words = joined(targets[:, None], words)
            before = functional.pad(words[:, :, :-1], (1, 0), value=BEGIN)
            batches.append(((source, before), Candidates(words, self._bleu(words, targets), stands_first(words))))
        return batches

    def _bleu(self, words: Tensor, targets: Tensor) -> Tensor:
        """(B, K), in float64: the objective takes it in the student's precision."""
        spelling = self.spelling()
        scores = [
            [sentence_bleu(found, reference) for found in spelling.sentences(each)]
            for each, reference in zip(words, spelling.sentences(targets), strict=True)
        ]
        return torch.tensor(scores, dtype=torch.float64, device=words.device)


def joined(left: Tensor, right: Tensor) -> Tensor:
    """(B, J, L) and (B, K, M) as (B, J + K, longer of L and M), padded."""
    width = max(left.shape[2], right.shape[2])
    return torch.cat([functional.pad(each, (0, width - each.shape[2]), value=PAD) for each in (left, right)], dim=1)


def stands_first(words: Tensor) -> Tensor:
    """Which of a sentence's candidates (B, K, R) no earlier one equals: (B, K)."""
    same = (words[:, :, None] == words[:, None]).all(-1)
    return ~same.tril(-1).any(-1)
