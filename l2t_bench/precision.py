"""In what precision something is computed, whatever it was given: seen from what torch's functions give."""

from collections.abc import Callable
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
