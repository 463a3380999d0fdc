"""Replayable batches: the same (index, seed) gives the same batch, bit for bit."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.modules import mix_seeds

_ORDERS = 32  # of the epochs drawn last: 400 kB each for 50,000 examples
_AUGMENTATION = 1  # keeps the seeds of augmentation apart from those of the orders

Batch = Any
"""Anything that unpacks into (inputs, targets): a tuple, or an ``IndexedBatch``."""


class Examples(NamedTuple):
    """A data set held in two tensors, first dimension the examples."""

    inputs: Tensor
    targets: Tensor


Augment = Callable[[Tensor, int], Tensor]
"""(inputs of a batch, seed) -> inputs as training sees them: a pure function, as ``CropFlip`` is."""


class IndexedBatch:
    """A batch kept as rows of a data set: unpacks into (inputs, targets), holds only the indices.

    A recorded run of T steps then costs T index vectors and not T copies of the images. An augmented batch holds the
    seed of its augmentation beside them, and draws the same one whenever it is unpacked.
    """

    def __init__(self, examples: Examples, rows: Tensor, augment: Augment | None = None, seed: int = 0) -> None:
        self._examples = examples
        self.rows = rows
        self._augment = augment
        self.seed = seed

    def __iter__(self) -> Iterator[Tensor]:
        # ``index_select`` copies rows whole; indexing by a tensor goes entry by entry, at every step there and back.
        inputs = self._examples.inputs.index_select(0, self.rows)
        yield inputs if self._augment is None else self._augment(inputs, self.seed)
        yield self._examples.targets.index_select(0, self.rows)

    def __len__(self) -> int:
        return 2

    @staticmethod
    def stacked(batches: Sequence[Any]) -> tuple[Tensor, Tensor] | None:
        """Inputs and targets of several batches, (N, B, ...), in one look-up; ``None`` where they are no such batches.

        They must be as many rows of one data set, not augmented: each student's augmentation is its own.
        """
        first = batches[0]
        if not all(type(batch) is IndexedBatch and batch._augment is None for batch in batches):
            return None
        if any(b._examples is not first._examples or b.rows.shape != first.rows.shape for b in batches):
            return None
        rows = torch.stack([batch.rows for batch in batches])
        return first._examples.inputs[rows], first._examples.targets[rows]


class IndexedBatches:
    """A batch source over a data set in memory: epochs of batches in an order shuffled by (seed, epoch).

    ``examples`` is an ``Examples`` or a function that loads one when the first batch is drawn. The examples that do not
    fill a batch are left out of their epoch. ``augment`` changes the inputs of each batch under a seed made of (index,
    seed). Raises ``UserError`` when the data set is smaller than a batch.
    """

    def __init__(
        self, examples: Examples | Callable[[], Examples], batch_size: int, augment: Augment | None = None
    ) -> None:
        if batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {batch_size}")
        self._source = examples
        self.batch_size = batch_size
        self.augment = augment
        # A pure function of (seed, epoch), kept for speed alone: students of a meta-batch draw in turn.
        self._order = lru_cache(maxsize=_ORDERS)(self._draw_order)

    @cached_property
    def examples(self) -> Examples:
        examples = self._source() if callable(self._source) else self._source
        if len(examples.inputs) < self.batch_size:
            raise UserError(f"{len(examples.inputs)} training examples are fewer than a batch of {self.batch_size}")
        return examples

    def __call__(self, index: int, seed: int) -> IndexedBatch:
        per_epoch = len(self.examples.inputs) // self.batch_size
        epoch, position = divmod(index, per_epoch)
        start = position * self.batch_size
        rows = self._order(seed, epoch)[start : start + self.batch_size]
        if self.augment is None:
            return IndexedBatch(self.examples, rows)
        return IndexedBatch(self.examples, rows, self.augment, mix_seeds(seed, index, _AUGMENTATION))

    def _draw_order(self, seed: int, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(mix_seeds(seed, epoch))
        return torch.randperm(len(self.examples.inputs), generator=generator).to(self.examples.inputs.device)
