"""A traced function: a graph of plain ATen operators with the inputs that it was traced with."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

_ATEN = torch.ops.aten
SAME = (_ATEN.detach.default, _ATEN.alias.default)
"""Operators that give what they are given."""
_SEEN_OTHERWISE = (*SAME, _ATEN.t.default, _ATEN.view.default, _ATEN._unsafe_view.default)
RANDOM = torch.Tag.nondeterministic_seeded


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


def keep_sums_apart(graph: GraphModule) -> None:
    """Write x + A B as A B - (-x), the same bits, in place.

    Inductor makes one ``addmm`` of the sum, which copies x first: for a gradient added to a parameter's momentum it is
    two more passes over the parameters than in a loop of its own, where the sum costs none. Of A B + alpha x torch 2.11
    drops alpha there, so that alpha is taken out of the sum too.
    """
    for node in list(graph.graph.nodes):
        if node.target is not _ATEN.add.Tensor or not all(isinstance(arg, Node) for arg in node.args):
            continue
        if not any(map(_is_product, node.args)):
            continue
        first, second = node.args
        alpha = node.kwargs.get("alpha", 1)
        with graph.graph.inserting_before(node):
            if alpha != 1:
                second = graph.graph.call_function(_ATEN.mul.Tensor, (second, alpha))
            product, other = sorted((first, second), key=lambda arg: not _is_product(arg))
            negative = graph.graph.call_function(_ATEN.neg.default, (other,))
        node.target, node.args, node.kwargs = _ATEN.sub.Tensor, (product, negative), {}
    graph.recompile()


def _is_product(node: Node) -> bool:
    """Whether it is a matrix product, or one seen otherwise."""
    while node.target in _SEEN_OTHERWISE:
        node = node.all_input_nodes[0]
    return node.target is _ATEN.mm.default
