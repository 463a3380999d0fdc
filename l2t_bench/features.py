"""The student's status s_t that the teacher sees (paper, section 4.1). Constants of the differentiation."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.problem import StudentView


def next_measured(index: int, every: int) -> int:
    """The first step after ``index`` of 0, ``every``, 2 ``every`` ..."""
    return index - index % every + every


def recent_steps(index: int, count: int) -> range:
    """The last ``count`` steps up to ``index``, fewer where there are fewer."""
    return range(max(0, index - count + 1), index + 1)


@dataclass(frozen=True)
class PaperFeatures:
    """t/T, training accuracy, dev accuracy, dev precision of each class: 3 + C numbers in [0, 1].

    A pass over all data at every step is not affordable, so a stated rule takes its place:

    - s_t is measured anew at steps 0, ``every``, 2 ``every`` ... and is the same tensor in between;
    - the training accuracy is that of the last ``train_batches`` batches up to this step, under omega_t;
    - dev accuracy and precisions are measured on the first ``dev_examples`` dev examples (0 means all);
    - the precision of a class that is never predicted is 0.

    Takes any student whose output is a tensor of logits, shape (B, C). Raises ``UserError`` for another.
    """

    every: int = 20
    train_batches: int = 10
    dev_examples: int = 256

    def __post_init__(self) -> None:
        if self.every < 1 or self.train_batches < 1 or self.dev_examples < 0:
            raise UserError("features: every and train_batches must be at least 1, dev_examples not negative")

    def held_until(self, index: int) -> int:
        """The step after ``index`` at which s_t is measured anew: until then no state is looked at."""
        return next_measured(index, self.every)

    def __call__(self, view: StudentView) -> Tensor:
        if view.previous is not None and view.index % self.every:
            return view.previous
        recent = recent_steps(view.index, self.train_batches)
        trained = _predictions(view, [view.train(index) for index in recent], 0)
        return paper_status(view.index / view.horizon, trained, _predictions(view, view.dev, self.dev_examples))


paper = PaperFeatures()
"""The paper's features by the default rule."""


def paper_status(time: float, train: tuple[Tensor, Tensor], dev: tuple[Tensor, Tensor]) -> Tensor:
    """s_t of 3 + C numbers: ``time`` = t/T, accuracy on train and on dev, and on dev the precision of each class.

    ``train`` and ``dev`` are logits (B, C) with class indices (B,), as the student at step t gives them in eval mode.
    """
    trained, truth = train
    train_accuracy = (trained.argmax(-1) == truth).to(trained.dtype).mean()
    logits, target = dev
    predicted = logits.argmax(-1)
    right = (predicted == target).to(logits.dtype)
    classes = logits.shape[-1]
    hits = torch.zeros(classes, dtype=logits.dtype, device=logits.device).index_add_(0, predicted, right)
    # As the hits are counted: torch.bincount waits for the device to learn how many classes there are.
    calls = torch.zeros_like(hits).index_add_(0, predicted, torch.ones_like(right))
    now = torch.full((), time, dtype=logits.dtype, device=logits.device)
    return torch.cat([torch.stack([now, train_accuracy, right.mean()]), hits / calls.clamp(min=1)])


def _first(batches: Iterable[Any], limit: int) -> Iterator[tuple[Tensor, ...]]:
    """The batches that the first ``limit`` examples (0: all) are in."""
    count = 0
    for batch in batches:
        pair = tuple(batch)
        if not all(isinstance(part, Tensor) for part in pair):
            raise UserError("l2t.features.paper needs batches of two tensors; write your own features(view) for others")
        yield pair
        count += len(pair[0])
        if 0 < limit <= count:
            return


def _predictions(view: StudentView, batches: Iterable[Any], limit: int) -> tuple[Tensor, Tensor]:
    """Logits and targets of ``batches``, in one pass, of the first ``limit`` examples (0: all).

    No batch is read behind them: putting a whole dev set together to look at 256 of it is most of what a look costs.
    """
    pairs = list(_first(batches, limit))
    inputs, targets = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    inputs, targets = (inputs[:limit], targets[:limit]) if limit else (inputs, targets)
    logits = view.predict(inputs)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UserError("l2t.features.paper needs a student that outputs logits (B, C); write your own features(view)")
    return logits, targets
