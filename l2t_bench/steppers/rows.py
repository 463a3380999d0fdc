"""Where compiled steps write states: rows of bytes taken at once, each parameter at an aligned place in its row."""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import StudentState
from l2t_bench.resident import advise_huge_pages
from l2t_bench.tensors import TensorDict, Tensors

_ALIGNMENT = 64  # bytes: a cache line, and what vectorised and GPU kernels want


@dataclass(frozen=True)
class RowForm:
    """Names, shapes, dtypes and offsets (in bytes) of the tensors in a row, and its size in bytes."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    offsets: tuple[int, ...]
    size: int
    device: torch.device

    def rows(self, count: int) -> Sequence[TensorDict]:
        """So many rows of one allocation, not initialised, each as contiguous tensors by name."""
        if not self.names or not count:
            return [{} for _ in range(count)]
        held = torch.empty(count * self.size, dtype=torch.uint8, device=self.device)
        if self.device.type == "cpu":
            advise_huge_pages(held.data_ptr(), held.numel())
        columns: list[Any] = []
        for shape, dtype, offset in zip(self.shapes, self.dtypes, self.offsets, strict=True):
            within = torch.empty(shape, device="meta").stride()
            strides = (self.size // dtype.itemsize, *within)
            column = held.view(dtype).as_strided((count, *shape), strides, offset // dtype.itemsize)
            columns.append(column.unbind(0))
        return [dict(zip(self.names, views, strict=True)) for views in zip(*columns, strict=True)]


def row_form(tensors: Tensors, device: torch.device) -> RowForm:
    """The form of a row that holds tensors like these."""
    offsets, end = [], 0
    for tensor in tensors.values():
        offsets.append(end)
        end += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    return RowForm(
        tuple(tensors),
        tuple(tuple(tensor.shape) for tensor in tensors.values()),
        tuple(tensor.dtype for tensor in tensors.values()),
        tuple(offsets),
        end,
        device,
    )


class Places:
    """Places for the states of one run, with their slots, in the order in which they come.

    ``kept``: the states of these steps stay until the end, and lie in one allocation, without their ``passing``
    parameters, which nobody reads when the next but one is there: these take turns at two places. So do slots that
    nobody keeps (``slots_kept`` false).
    """

    def __init__(
        self, like: StudentState, kept: range, *, slots_kept: bool, passing: Container[str] = frozenset()
    ) -> None:
        device = next(iter(like.params.values())).device
        self._params = row_form(like.params, device)
        staying = row_form({name: held for name, held in like.params.items() if name not in passing}, device)
        by_turns = row_form({name: held for name, held in like.params.items() if name in passing}, device)
        turns = by_turns.rows(2 if kept else 0)
        self._slot_names = tuple(like.slots)
        self._slots = row_form({f"{slot} {n}": t for slot, held in like.slots.items() for n, t in held.items()}, device)
        self._kept = kept
        self._rows = [
            {name: (row if name in row else turns[index % 2])[name] for name in like.params}
            for index, row in zip(kept, staying.rows(len(kept)), strict=True)
        ]
        self._turns = None if slots_kept else self._slots.rows(2)

    def of(self, index: int) -> Adjoint:
        """Where the state after ``index`` steps goes: its parameters, and its slots."""
        params = self._rows[index - self._kept.start] if index in self._kept else self._params.rows(1)[0]
        flat = self._slots.rows(1)[0] if self._turns is None else self._turns[index % 2]
        named: dict[str, TensorDict] = {slot: {} for slot in self._slot_names}
        for name, tensor in zip(self._slots.names, flat.values(), strict=True):
            slot, _, own = name.partition(" ")
            named[slot][own] = tensor
        return Adjoint(params, named)


def adjoint_place(params: Tensors, slot_names: Sequence[str]) -> Adjoint:
    """A place for an adjoint, not initialised."""
    device = next(iter(params.values())).device
    first, *others = row_form(params, device).rows(1 + len(slot_names))
    return Adjoint(first, dict(zip(slot_names, others, strict=True)))


def copy_into(place: Adjoint, params: Tensors, slots: "dict[str, Tensors] | dict[str, TensorDict]") -> None:
    """Copy parameters and slots to where ``place`` has room for them."""
    for name, held in place.params.items():
        held.copy_(params[name])
    for slot, all_held in place.slots.items():
        for name, held in all_held.items():
            held.copy_(slots[slot][name])
