"""s_t of a translating student: iteration, training BLEU and dev BLEU of greedy translations (section 4.2, B.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from l2t_bench.bleu import corpus_bleu
from l2t_bench.data.spelling import Spelling
from l2t_bench.errors import UserError
from l2t_bench.features import next_measured, recent_steps
from l2t_bench.problem import StudentView


@dataclass(frozen=True)
class TranslationFeatures:
    """t/T, BLEU on training and on dev sentences: 3 numbers in [0, 1]. The rule is that of the image problems:

    - s_t is measured anew at steps 0, ``every``, 2 ``every`` ... and is the same tensor in between;
    - the training BLEU is that of the last ``train_batches`` batches up to this step, under omega_t;
    - the dev BLEU is that of the first ``dev_sentences`` dev sentences (0 means all).

    Raises ``UserError`` for a rule that measures nothing.
    """

    spelling: Callable[[], Spelling]
    every: int = 20
    train_batches: int = 2
    dev_sentences: int = 64

    def __post_init__(self) -> None:
        if self.every < 1 or self.train_batches < 1 or self.dev_sentences < 0:
            raise UserError("features: every and train_batches must be at least 1, dev_sentences not negative")

    def held_until(self, index: int) -> int:
        """The step after ``index`` at which s_t is measured anew: until then no state is looked at."""
        return next_measured(index, self.every)

    def __call__(self, view: StudentView) -> Tensor:
        if view.previous is not None and view.index % self.every:
            return view.previous
        recent = recent_steps(view.index, self.train_batches)
        train = [row for index in recent for row in self._translated(view, view.train(index))]
        dev = (row for batch in view.dev for row in self._translated(view, batch))
        scores = [_bleu(train), _bleu(list(islice(dev, self.dev_sentences or None)))]
        return torch.tensor([view.index / view.horizon, *scores], dtype=torch.float64)

    def _translated(self, view: StudentView, batch: tuple[tuple[Tensor, Tensor], Tensor]) -> list[tuple[str, str]]:
        """Greedy translations of a batch, each beside its reference."""
        inputs, targets = batch
        spelling = self.spelling()
        return list(zip(spelling.sentences(view.decode(inputs)), spelling.sentences(targets), strict=True))


def _bleu(rows: list[tuple[str, str]]) -> float:
    return corpus_bleu([found for found, _ in rows], [reference for _, reference in rows]).score / 100
