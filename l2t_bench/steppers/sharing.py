"""What a step and the step back through it compute in common, and is cheaper kept between them than computed again."""

from collections.abc import Hashable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import Argument
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from l2t_bench.steppers.traced import RANDOM, SAME, Traced

_WORTH = 32
"""Floating-point operations per byte from which a result is kept: fewer take less time than the byte's way to memory
and back, at some tens of operations a byte on today's processors."""
_SHARE = 0.25
"""Of the size of a step's inputs, at the most: a store of states is chosen for the size of those."""


def shared(forward: Traced, back: Traced) -> tuple[Traced, Traced]:
    """The step also returns what it keeps, and the step back takes that as its last inputs, where it is worth it."""
    numbering = _Numbering()
    known = {number: node for node, number in numbering.of(forward).items()}
    room = _SHARE * sum(tensor.numel() * tensor.element_size() for tensor in back.inputs)
    kept: list[tuple[Node, Node]] = []
    for ours, number in numbering.of(back).items():
        theirs = known.get(number)
        if theirs is None or not _worth_keeping(ours) or (size := _size(ours)) > room:
            continue
        room -= size
        kept.append((theirs, ours))
    if not kept:
        return forward, back
    return _returning(forward, [node for node, _ in kept]), _taking(back, [node for _, node in kept])


def _worth_keeping(node: Node) -> bool:
    operations = flop_registry.get(getattr(node.target, "overloadpacket", None))
    if operations is None or not isinstance(node.meta.get("val"), Tensor):
        return False
    arguments = tree_map(lambda arg: arg.meta["val"] if isinstance(arg, Node) else arg, (node.args, node.kwargs))
    return bool(operations(*arguments[0], **arguments[1], out_val=node.meta["val"]) >= _WORTH * _size(node))


def _size(node: Node) -> int:
    value: Tensor = node.meta["val"]
    return value.numel() * value.element_size()


class _Numbering:
    """Value numbering: a number for each node that depends on inputs alone, equal for equal computations.

    Inputs are equal by their roles. Views that change nothing are left out of account. What is drawn at random, and all
    that comes of it, has no number: it must be drawn again, in its order.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def of(self, traced: Traced) -> Mapping[Node, int]:
        found: dict[Node, int] = {}
        roles = iter(traced.roles)
        for node in traced.graph.graph.nodes:
            if node.op == "placeholder":
                found[node] = self._number(("input", next(roles)))
            elif node.op == "call_function" and all(each in found for each in node.all_input_nodes):
                if node.target in SAME:
                    found[node] = found[node.all_input_nodes[0]]
                elif not isinstance(node.target, torch._ops.OpOverload) or _repeatable(node.target):
                    found[node] = self._number((str(node.target), self._told(node, found)))
        return found

    def _number(self, computation: Hashable) -> int:
        return self._numbers.setdefault(computation, len(self._numbers))

    def _told(self, node: Node, found: Mapping[Node, int]) -> str:
        return repr(tree_map(lambda arg: f"%{found[arg]}" if isinstance(arg, Node) else arg, (node.args, node.kwargs)))


def _repeatable(operator: torch._ops.OpOverload) -> bool:
    return RANDOM not in operator.tags and not operator._schema.is_mutable


def _returning(traced: Traced, nodes: list[Node]) -> Traced:
    graph = traced.graph.graph
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):  # a compiler may lay out what a convolution gives as it likes
        options: dict[str, Argument] = {"memory_format": torch.contiguous_format}
        kept = [graph.call_function(torch.ops.aten.clone.default, (node,), options) for node in nodes]
    output.args = ([*output.args[0], *kept],)
    traced.graph.recompile()
    return traced


def _taking(traced: Traced, nodes: list[Node]) -> Traced:
    graph = traced.graph.graph
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    examples = []
    for count, node in enumerate(nodes):
        with graph.inserting_after(last):
            last = graph.placeholder(f"kept_{count}")
        last.meta["val"] = value = node.meta["val"]
        node.replace_all_uses_with(last)
        examples.append(torch.zeros(value.shape, dtype=value.dtype, device=value.device))
    graph.eliminate_dead_code()
    traced.graph.recompile()
    return replace(traced, inputs=[*traced.inputs, *examples])
