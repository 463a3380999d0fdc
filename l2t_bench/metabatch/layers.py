"""Layers that torch computes by fused kernels without a rule for ``torch.func.vmap``: by plain operators instead."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType
from typing import Any

from torch import nn
from torch.overrides import TorchFunctionMode

from l2t_bench.modules import without_fast_attention

_RECURRENT: Mapping[str, str] = MappingProxyType(
    {"lstm": "lstm_impl", "gru": "gru_impl", "rnn_tanh": "rnn_tanh_input", "rnn_relu": "rnn_relu_input"}
)
"""torch's functions, and its own decompositions of them into plain operators."""


class _Decomposed(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if (name := _RECURRENT.get(getattr(func, "__name__", ""))) is not None:
            from torch._decomp import decompositions

            func = getattr(decompositions, name)
        return func(*args, **(kwargs or {}))


@contextmanager
def plain_layers(module: nn.Module) -> Iterator[None]:
    """Inside the block recurrent layers, and a Transformer's in eval mode, are plain operators; nothing else changes.

    Plain training takes a Transformer layer's plain path where a gradient is wanted, which ``vmap`` hides from it.
    """
    layers = list(module.modules())
    with ExitStack() as stack:
        if any(isinstance(layer, nn.RNNBase) for layer in layers):
            stack.enter_context(_Decomposed())
        if any(isinstance(layer, nn.TransformerEncoderLayer | nn.MultiheadAttention) for layer in layers):
            stack.enter_context(without_fast_attention())
        yield
