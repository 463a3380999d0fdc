"""A traced function: a graph of plain ATen operators with the inputs that it was traced with."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule

_ATEN = torch.ops.aten
SAME = (_ATEN.detach.default, _ATEN.alias.default)
"""Operators that give what they are given."""
RANDOM = torch.Tag.nondeterministic_seeded


def writes(target: object) -> bool:
    """Whether it is an operator that writes into what it is given."""
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


@dataclass(frozen=True)
class Traced:
    """``roles`` names what each input is, so that inputs of two functions can be told to be the same."""

    graph: GraphModule
    inputs: list[Tensor]
    roles: tuple[str, ...]
    hyper: tuple[str, ...] = ()  # the names of the hyper-gradients that it returns

    @property
    def random(self) -> bool:
        """Whether it draws from torch's generators: they must then be seeded before each call."""
        targets = (node.target for node in self.graph.graph.nodes if node.op == "call_function")
        return any(isinstance(target, torch._ops.OpOverload) and RANDOM in target.tags for target in targets)
