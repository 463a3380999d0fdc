"""Batches held to what they were when they were drawn: a source may write into one that it has given.

Methods that keep their steps would then go back through other batches than those that they were taken with.
"""

import torch
from torch import Tensor

from l2t_bench.batches import Batch, IndexedBatch
from l2t_bench.errors import UserError
from l2t_bench.modules import tensor_leaves


class BatchChecksums:
    """The checksums of a run's batches; an ``IndexedBatch`` is rows of a data set, and needs none."""

    def __init__(self) -> None:
        self._then: dict[int, tuple[Batch, Tensor]] = {}

    def see(self, index: int, batch: Batch) -> None:
        if not isinstance(batch, IndexedBatch):
            self._then[index] = batch, checksum(batch)

    def look(self, now: int) -> None:
        """Raises ``UserError`` where a batch has changed by step ``now``. Waits for the device."""
        if not self._then:
            return
        differs = torch.stack([checksum(batch) != then for batch, then in self._then.values()]).tolist()
        if any(differs):
            index = list(self._then)[differs.index(True)]
            raise UserError(
                f"the batch of step {index} has changed by step {now}: train(index, seed) must return tensors that "
                "nothing writes into later; one that fills a buffer again returns a copy (tensor.clone(), "
                "torch.tensor(array))"
            )


def checksum(batch: Batch) -> Tensor:
    """A 64-bit sum over all of a batch's bits, each weighed by its place; nothing waits for the device."""
    sums = [_sum(leaf.detach(), 2 * at + 1) for at, leaf in enumerate(tensor_leaves(tuple(batch)))]
    return torch.stack(sums).sum() if sums else torch.zeros((), dtype=torch.int64)


def _sum(tensor: Tensor, factor: int) -> Tensor:
    dense = tensor.to_dense() if tensor.layout is not torch.strided else tensor
    flat = (torch.view_as_real(dense) if dense.is_complex() else dense).reshape(-1)
    bits = flat.double().view(torch.int64) if flat.is_floating_point() else flat.to(torch.int64)
    return factor * (bits * torch.arange(1, 2 * len(bits), 2, device=bits.device)).sum()
