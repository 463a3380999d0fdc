"""Several students' tensors as one: stacked along a new first dimension, and taken apart again."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from l2t_bench.batches import Batch, IndexedBatch
from l2t_bench.problem import StudentState
from l2t_bench.tensors import TensorDict, Tensors


class Apart(Exception):
    """The students cannot be stacked, and why; never seen outside: they are taken one by one then."""


def stacked(many: Sequence[Tensors]) -> TensorDict:
    """The tensors of N students, each (...), as tensors (N, ...)."""
    return {name: torch.stack([each[name] for each in many]) for name in many[0]}


def stacked_states(states: Sequence[StudentState]) -> StudentState:
    """The states of N students as one state whose tensors have a first dimension of N."""
    slots = {name: stacked([state.slots[name] for state in states]) for name in states[0].slots}
    return StudentState(
        stacked([state.params for state in states]), stacked([state.buffers for state in states]), slots
    )


def taken_apart(tensors: Tensors, count: int) -> list[TensorDict]:
    """``stacked`` undone: views, one dict for each of ``count`` students."""
    parts = {name: tensor.unbind(0) for name, tensor in tensors.items()}
    return [{name: part[at] for name, part in parts.items()} for at in range(count)]


def states_apart(state: StudentState, count: int) -> list[StudentState]:
    """``stacked_states`` undone: views."""
    slots = {name: taken_apart(held, count) for name, held in state.slots.items()}
    return [
        StudentState(params, buffers, {name: held[at] for name, held in slots.items()})
        for at, (params, buffers) in enumerate(
            zip(taken_apart(state.params, count), taken_apart(state.buffers, count), strict=True)
        )
    ]


def owned(state: StudentState) -> StudentState:
    """The state in memory of its own."""
    return StudentState(
        copied(state.params), copied(state.buffers), {name: copied(held) for name, held in state.slots.items()}
    )


def copied(tensors: Tensors) -> TensorDict:
    """In memory of their own: a view of one student's tensor would keep those of all students."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


class StackedBatch:
    """The batches of N students at one step: unpacks into (inputs, targets), whose tensors are (N, B, ...).

    Stacked when it is read, so that a recorded run holds no more than the students' own batches. Raises ``Apart`` for
    batches of unequal shapes, or that hold more than tensors.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = tuple(batches)

    def __iter__(self) -> Iterator[Any]:
        rows = IndexedBatch.stacked(self.batches)
        yield from _stacked_trees([tuple(batch) for batch in self.batches]) if rows is None else rows

    def __len__(self) -> int:
        return 2


def _stacked_trees(trees: Sequence[Any]) -> Any:
    flat, specs = zip(*map(pytree.tree_flatten, trees), strict=True)
    if any(spec != specs[0] for spec in specs) or not all(
        isinstance(leaf, Tensor) for leaves in flat for leaf in leaves
    ):
        raise Apart("their batches are not built alike, or hold more than tensors")
    columns = list(zip(*flat, strict=True))
    if any(leaf.shape != column[0].shape or leaf.dtype != column[0].dtype for column in columns for leaf in column):
        shapes = " and ".join(sorted({str(tuple(leaf.shape)) for column in columns for leaf in column}))
        raise Apart(f"their batches at one step have unequal shapes: {shapes}")
    return pytree.tree_unflatten([torch.stack(column) for column in columns], specs[0])


def norms(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """The Euclidean norm of all entries of each student together, shape (N,); ``dtype`` as in ``tensors.norm``."""
    flat = (tensor.reshape(len(tensor), -1) for tensor in tensors.values())
    each = [torch.linalg.vector_norm(tensor, dim=1, dtype=dtype) for tensor in flat]
    found: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
    return found
