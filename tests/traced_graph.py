"""A function as its graph of ATen operators."""

from typing import Any

from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from l2t_bench.steppers.traced import Traced


def graph_of(function: Any, *inputs: Tensor, roles: tuple[str, ...]) -> Traced:
    graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    return Traced(graph, list(inputs), roles)
