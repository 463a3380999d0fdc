"""A student's state as one row of bytes, and back: the same bits, shapes, dtypes and strides."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from l2t_bench.problem import StudentState
from l2t_bench.tensors import TensorDict, is_dense

_PARAMS, _BUFFERS = "params", "buffers"


@dataclass(frozen=True)
class Form:
    """What a tensor is beside its bytes; ``part`` is params, buffers, or a slot's name with a dot before it."""

    part: str
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    size: int  # in bytes


@dataclass(frozen=True)
class Layout:
    """The tensors of a state, one behind the other and without gaps."""

    forms: tuple[Form, ...]

    @property
    def size(self) -> int:
        """Bytes of a row."""
        return sum(form.size for form in self.forms)

    def write(self, state: StudentState, row: Tensor, *, non_blocking: bool = False) -> None:
        """Copy ``state``, which is of this layout, into ``row``, a vector of ``size`` bytes on any device."""
        for (part, tensors), pieces in zip(_parts(state).items(), self._by_part(row).values(), strict=True):
            for name, (form, piece) in pieces.items():
                assert form.part == part
                piece.copy_(_bytes_of(tensors[name]), non_blocking=non_blocking)

    def read(self, row: Tensor, device: torch.device, *, non_blocking: bool = False) -> StudentState:
        """The state in ``row`` as new tensors on ``device``."""
        found: dict[str, TensorDict] = {_PARAMS: {}, _BUFFERS: {}}
        for part, pieces in self._by_part(row).items():
            found[part] = {
                name: piece.to(device, copy=True, non_blocking=non_blocking)
                .view(form.dtype)
                .as_strided(form.shape, form.stride)
                for name, (form, piece) in pieces.items()
            }
        params, buffers = found.pop(_PARAMS), found.pop(_BUFFERS)
        return StudentState(params, buffers, {part[1:]: tensors for part, tensors in found.items()})

    def _by_part(self, row: Tensor) -> dict[str, dict[str, tuple[Form, Tensor]]]:
        ends = list(accumulate(form.size for form in self.forms))
        found: dict[str, dict[str, tuple[Form, Tensor]]] = {}
        for form, end in zip(self.forms, ends, strict=True):
            found.setdefault(form.part, {})[form.name] = form, row[end - form.size : end]
        return found


def layout_of(state: StudentState) -> Layout:
    """The layout of a state's row."""
    return Layout(
        tuple(_form(part, name, tensor) for part, tensors in _parts(state).items() for name, tensor in tensors.items())
    )


def _parts(state: StudentState) -> Mapping[str, Mapping[str, Tensor]]:
    """What a state consists of; parts that hold no tensor left out."""
    named = {_PARAMS: state.params, _BUFFERS: state.buffers, **{f".{slot}": held for slot, held in state.slots.items()}}
    return {part: tensors for part, tensors in named.items() if tensors}


def _form(part: str, name: str, tensor: Tensor) -> Form:
    stride = tensor.stride() if is_dense(tensor) else torch.empty(tensor.shape, device="meta").stride()
    size = tensor.numel() * tensor.element_size()
    return Form(part, name, tensor.dtype, tuple(tensor.shape), tuple(stride), size)


def _bytes_of(tensor: Tensor) -> Tensor:
    """The tensor's bytes as a vector, in the order in which they lie in memory."""
    dense = tensor.detach() if is_dense(tensor) else tensor.detach().contiguous()
    return dense.as_strided((dense.numel(),), (1,)).view(torch.uint8)
