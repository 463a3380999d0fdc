"""In what precision something is computed, whatever it was given: seen from what torch's functions give, or set."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class LowestPrecision(TorchFunctionMode):
    """Inside the block, remembers the coarsest floating-point dtype that any function gave; float64 where none did.

    Functions, not operators: a mode for these has torch import its compiler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lowest = torch.float64

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point:
                self.lowest = max(self.lowest, leaf.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        return found


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """On a GPU, convolutions in float32 inside the block, unless matrix products too may be less.

    torch's default is TF32, ten bits of mantissa, for cuDNN's convolutions and float32 for matrix products. Over five
    hundred steps of LeNet the teacher gradients of exact methods were a tenth apart by it. Who wants TF32 asks for it
    by ``torch.set_float32_matmul_precision("high")`` or ``torch.backends.fp32_precision = "tf32"``, and it is left on
    then. What was set for convolutions and recurrent layers apart by ``fp32_precision`` stays.
    """
    allowed = device.type == "cuda" and matmul_precision() == "highest" and tf32_in_cudnn()
    if not allowed:
        yield
        return
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = True


def tf32_in_cudnn() -> bool:
    """Whether cuDNN's operators may all compute in TF32."""
    try:
        return torch.backends.cudnn.allow_tf32
    except RuntimeError:  # set by operator: asked for
        return False


def matmul_precision() -> str:
    """What matrix products of float32 are computed in, in the words of ``torch.set_float32_matmul_precision``.

    torch's own question raises where it was set by ``fp32_precision``, which it knows for less than float32 alone.
    """
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest" if torch.backends.cuda.matmul.fp32_precision == "ieee" else "high"


def float32_settings() -> tuple[str, ...]:
    """All that torch is set to for float32 on a GPU, operator by operator. Never raises."""
    cudnn: Any = torch.backends.cudnn  # to the type checker it has no operators
    return matmul_precision(), cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


def tf32_convolutions() -> bool:
    """Whether convolutions are TF32 inside ``full_float32`` on a GPU."""
    with full_float32(torch.device("cuda")):
        return float32_settings()[1] == "tf32"
