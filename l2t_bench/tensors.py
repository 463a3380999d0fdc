"""Arithmetic on dicts of tensors that share their keys."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from l2t_bench.modules import tensor_leaves

Tensors = Mapping[str, Tensor]
TensorDict = dict[str, Tensor]


def zeros_like(tensors: Tensors) -> TensorDict:
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def ones_like(tensors: Tensors) -> TensorDict:
    return {name: torch.ones_like(tensor) for name, tensor in tensors.items()}


def added(left: Tensors, right: Tensors) -> TensorDict:
    """left + right, by the keys of ``left``."""
    return {name: tensor + right[name] for name, tensor in left.items()}


def scaled(factor: float | Tensor, tensors: Tensors) -> TensorDict:
    return {name: factor * tensor for name, tensor in tensors.items()}


def axpy(factor: float | Tensor, x: Tensor, y: Tensor) -> Tensor:
    """y + factor*x, in one pass over memory where ``factor`` is a number, and rounded as ``torch.optim`` does it."""
    if isinstance(factor, Tensor):
        return y + factor * x
    return y + x if factor == 1 else torch.add(y, x, alpha=factor)


def detached(tensors: Tensors) -> TensorDict:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def norm(tensors: Tensors, dtype: torch.dtype | None = None) -> Tensor:
    """The Euclidean norm of all entries together, a 0-dimensional tensor: nothing waits for the device.

    ``dtype``: in which squares are taken and added up; by default the entries' own.
    """
    each = [torch.linalg.vector_norm(tensor, dtype=dtype) for tensor in tensors.values()]
    total: Tensor = torch.linalg.vector_norm(torch.stack(each))
    return total


def wide(device: torch.device) -> torch.dtype | None:
    """In which an adjoint's squares are added up: on a GPU float64, what memory gives is slower; else its own.

    From 1e19 on and below 1e-23 float32 has no squares. On a CPU, where float64 takes four times as long, lengths that
    have none are taken again (``health.AdjointWatch``): on a GPU to ask for them would wait for it.
    """
    return torch.float64 if device.type == "cuda" else None


def global_norm(tensors: Tensors) -> float:
    """The Euclidean norm of all entries together."""
    return float(norm(tensors))


def any_nonzero(tensors: Tensors) -> bool:
    """Whether an entry is not zero; waits for the device."""
    return any(bool(tensor.any()) for tensor in tensors.values())


def relative_difference(ours: Tensors, theirs: Tensors, least: float = 1e-30) -> float:
    """|ours - theirs| / |theirs| over all entries together, 0 where there are none.

    |theirs| is taken to be ``least`` where it is smaller.
    """
    if not theirs:
        return 0.0
    apart = length_in_float64(ours[name] - tensor for name, tensor in theirs.items())
    return apart / max(length_in_float64(theirs.values()), least)


def length_in_float64(tensors: Iterable[Tensor]) -> float:
    """``global_norm`` of what is too long for float32's squares, too; one tensor after another is held in float64."""
    return float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(part.double()) for part in tensors])))


def inner(left: Tensors, right: Tensors) -> Tensor:
    """<left, right> over all entries together, by the keys of ``left``; a 0-dimensional tensor."""
    return torch.stack([(tensor * right[name]).sum() for name, tensor in left.items()]).sum()


def mean_of(many: Sequence[Tensors]) -> TensorDict:
    """The entrywise mean of several dicts."""
    return {name: torch.stack([each[name] for each in many]).mean(0) for name in many[0]}


def to_vector(tensors: Tensors) -> Tensor:
    """All entries in one vector, in the order of the keys as they stand."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()])


def from_vector(vector: Tensor, like: Tensors) -> TensorDict:
    """``to_vector`` undone: views of ``vector`` with the keys and shapes of ``like``."""
    parts = torch.split(vector, [tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def size_in_bytes(trees: Iterable[Any]) -> int:
    """Bytes of all tensors in these trees, each storage as far as the tensor reaches."""
    return sum(leaf.numel() * leaf.element_size() for tree in trees for leaf in tensor_leaves(tree))


def is_dense(tensor: Tensor) -> bool:
    """Whether every element has a place of its own, and the places have no gaps: a transposed matrix has, too.

    Such strides are kept with the bits: a sum over other strides is taken in another order, and is another sum.
    """
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True
