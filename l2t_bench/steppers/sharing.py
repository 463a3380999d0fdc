"""What a step and the step back through it compute in common, and is cheaper kept between them than computed again."""

import math
import operator
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.node import Argument
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from l2t_bench.steppers.traced import RANDOM, SAME, Traced, writes

_WORTH = 32
"""Floating-point operations per byte from which a product is kept: fewer take less time than the byte's way to memory
and back, at some tens of operations a byte on today's processors."""
_WORTH_OF_CONVOLUTION = 8
"""The same of a convolution, which reaches a fraction of a product's rate where it has few channels: an MNIST LeNet's
first, of one channel, has 12 operations a byte, and to keep it was seen to save a tenth of the step."""
_POOLED = torch.ops.aten.max_pool2d_with_indices.default
"""Kept, if there is room: a compiler looks for each window's largest entry, and its place, one by one."""
_BEFORE_POOLING = {torch.ops.aten.max_pool2d_with_indices_backward.default: 1}
"""Which argument of an operator is there for its shape alone."""
Activations = Literal["some", "all"]
ACTIVATIONS: Mapping[Activations, float] = MappingProxyType({"some": 0.25, "all": math.inf})
"""What may be kept, by the size of a step's inputs. ``some``: a store of states is chosen for the size of those.
``all``: whatever is cheaper kept than computed again."""


def shared(forward: Traced, back: Traced, activations: Activations = "some") -> tuple[Traced, Traced]:
    """The step also returns what it keeps, and the step back takes that as its last inputs, where it is worth it.

    Kept is what the step back reads of the step, and not what only led there: where it reads what was pooled and not
    the convolution before it, what was pooled. What has no room is computed again, from what comes before it if that
    is kept; the largest first.
    """
    numbering = _Numbering()
    known = {number: node for node, number in numbering.of(forward).items()}
    theirs = {
        node: known[number] for node, number in numbering.of(back).items() if number in known and _worth_keeping(node)
    }
    room = ACTIVATIONS[activations] * sum(tensor.numel() * tensor.element_size() for tensor in back.inputs)
    while sum(map(_size, kept := _read_of(back, theirs))) > room:
        for node in _largest(kept):
            del theirs[node]
    if not kept:
        return forward, back
    return _returning(forward, [(theirs[node], _kept_as(node)) for node in kept]), _taking(back, kept)


def _read_of(traced: Traced, offered: Container[Node]) -> list[Node]:
    """The nodes on offer that what is returned or written is reached from, without another of them in between."""
    found: list[Node] = []
    seen: set[Node] = set()
    ahead = [node for node in traced.graph.graph.nodes if node.op == "output" or writes(node.target)]
    while ahead:
        node = ahead.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in offered:
            found.append(node)
        else:
            unread = node.args[_BEFORE_POOLING[node.target]] if node.target in _BEFORE_POOLING else None
            ahead.extend(other for other in node.all_input_nodes if other is not unread)
    return found


def _largest(nodes: Iterable[Node]) -> list[Node]:
    """The one that takes most; values and places of one pooling are taken again together."""
    together: dict[Node, list[Node]] = {}
    for node in nodes:
        together.setdefault(node.all_input_nodes[0] if node.target is operator.getitem else node, []).append(node)
    return max(together.values(), key=lambda each: sum(map(_size, each)))


def _worth_keeping(node: Node) -> bool:
    if not isinstance(node.meta.get("val"), Tensor):
        return False
    if node.target is operator.getitem:
        return node.all_input_nodes[0].target is _POOLED
    packet = getattr(node.target, "overloadpacket", None)
    if packet not in flop_registry:
        return False
    arguments = tree_map(lambda arg: arg.meta["val"] if isinstance(arg, Node) else arg, (node.args, node.kwargs))
    operations = flop_registry[packet](*arguments[0], **arguments[1], out_val=node.meta["val"])
    enough = _WORTH_OF_CONVOLUTION if packet is torch.ops.aten.convolution else _WORTH
    return bool(operations >= enough * _size(node))


def _size(node: Node) -> int:
    value: Tensor = node.meta["val"]
    return value.numel() * _kept_as(node).itemsize


def _kept_as(node: Node) -> torch.dtype:
    """Its own dtype; of a largest entry's place in its image, which torch has as int64, one that is wide enough."""
    dtype: torch.dtype = node.meta["val"].dtype
    if node.target is not operator.getitem or dtype.is_floating_point:
        return dtype
    height, width = node.all_input_nodes[0].all_input_nodes[0].meta["val"].shape[-2:]
    return torch.int16 if height * width <= 1 << 15 else torch.int32


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


def _repeatable(target: torch._ops.OpOverload) -> bool:
    return RANDOM not in target.tags and not writes(target)


def _returning(traced: Traced, wanted: list[tuple[Node, torch.dtype]]) -> Traced:
    graph = traced.graph.graph
    kept = []
    for node, dtype in wanted:
        # Of its own, in one layout (a compiler may lay out what a convolution gives as it likes), and taken at once: an
        # activation may be written into the very tensor later.
        options: dict[str, Argument] = {"memory_format": torch.contiguous_format, "dtype": dtype}
        with graph.inserting_after(node):
            kept.append(graph.call_function(torch.ops.aten._to_copy.default, (node,), options))
    output = next(node for node in graph.nodes if node.op == "output")
    output.args = ([*output.args[0], *kept],)
    traced.graph.recompile()
    return traced


def _taking(traced: Traced, nodes: list[Node]) -> Traced:
    graph = traced.graph.graph
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    examples = []
    for count, node in enumerate(nodes):
        value, dtype = node.meta["val"], _kept_as(node)
        with graph.inserting_after(last):
            last = graph.placeholder(f"kept_{count}")
        last.meta["val"] = value.to(dtype)
        as_it_was = last
        if dtype != value.dtype:
            with graph.inserting_before(node):
                as_it_was = graph.call_function(torch.ops.aten._to_copy.default, (last,), {"dtype": value.dtype})
        node.replace_all_uses_with(as_it_was)
        examples.append(torch.zeros(value.shape, dtype=dtype, device=value.device))
    graph.eliminate_dead_code()
    traced.graph.recompile()
    return replace(traced, inputs=[*traced.inputs, *examples])
