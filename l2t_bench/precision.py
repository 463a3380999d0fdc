"""In what precision something is computed, whatever it was given: seen from the tensors that come of its operators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode


class LowestPrecision(TorchDispatchMode):
    """Inside the block, remembers the coarsest floating-point dtype that any operator gave; float64 where none did."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lowest = torch.float64

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in pytree.tree_leaves(found):
            if isinstance(leaf, Tensor) and leaf.dtype.is_floating_point:
                self.lowest = max(self.lowest, leaf.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        return found
