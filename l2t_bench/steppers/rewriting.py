"""Operators of a traced step written otherwise, for less memory traffic or a quicker kernel.

The numbers are the same, but for the order in which a sum is taken. Each rule looks for what autograd writes, and
leaves all else as it is.
"""

import operator
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_map

from l2t_bench.steppers.traced import SAME, writes

_ATEN = torch.ops.aten
_VIEWS = (_ATEN.view.default, _ATEN._unsafe_view.default)
_TURNED = (*_VIEWS, _ATEN.t.default)
_ZEROS = (_ATEN.zeros.default, _ATEN.zeros_like.default, _ATEN.new_zeros.default)
_WINDOWS = 4
"""How many times as large as the gradient of a convolution the windows of its images may be, which a product holds."""


def rewritten(graph: GraphModule) -> GraphModule:
    """By all rules of this module, each of which changes the graph in place."""
    for rule in (
        sums_apart,
        masks_after_pooling,
        masks_of_what_is_pooled,
        weight_gradients_as_products,
        two_convolutions_as_one,
    ):
        for node in list(graph.graph.nodes):
            rule(graph.graph, node)
    graph.recompile()
    return graph


def sums_apart(graph: Graph, node: Node) -> None:
    """Write x + A B as A B - (-x), the same bits.

    Inductor makes one ``addmm`` of the sum, which copies x first: for a gradient added to a parameter's momentum it is
    two more passes over the parameters than in a loop of its own, where the sum costs none. Of A B + alpha x torch 2.11
    drops alpha there, so that alpha is taken out of the sum too.
    """
    if node.target is not _ATEN.add.Tensor or not _known(*node.args):
        return
    first, second = _args(node)
    if not _is_product(first) and not _is_product(second):
        return
    alpha = node.kwargs.get("alpha", 1)
    with graph.inserting_before(node):
        if alpha != 1:
            second = _call(graph, _ATEN.mul.Tensor, second, alpha)
        product, other = sorted((first, second), key=lambda arg: not _is_product(arg))
        negative = _call(graph, _ATEN.neg.default, other)
    node.target, node.args, node.kwargs = _ATEN.sub.Tensor, (product, negative), {}


def masks_after_pooling(graph: Graph, node: Node) -> None:
    """The gradient of ReLU then max-pooling: masked where it has one entry a window, before it is spread over them.

    A window's gradient goes to its largest entry alone, and there ReLU's output is what was pooled: where that is zero,
    so is the mask. Then the way back reads no value of ReLU's output, nor of the convolution before it.
    """
    if node.target is not _ATEN.threshold_backward.default:
        return
    spread, output, threshold = _args(node)
    spread = _without_zeros(spread)
    if spread.target is not _ATEN.max_pool2d_with_indices_backward.default:
        return
    gradient, *rest, places = _args(spread)
    pooled = _pooled(places, of=output)
    if pooled is None or not _known(gradient, output, places):
        return
    with graph.inserting_before(node):
        masked = _call(graph, _ATEN.threshold_backward.default, gradient, pooled, threshold)
        found = _call(graph, spread.target, masked, *rest, places)
    _replace(node, found)


def masks_of_what_is_pooled(graph: Graph, node: Node) -> None:
    """The tangent of ReLU then max-pooling: taken from each window's place first, and masked then; as above."""
    if node.target is not _ATEN.gather.default:
        return
    images, dim, index = _args(node)
    mask, places = _behind(images, _VIEWS), _behind(index, _VIEWS)
    if mask.target is not _ATEN.threshold_backward.default or not _known(images, mask, places):
        return
    tangent, output, threshold = _args(mask)
    pooled = _pooled(places, of=output)
    flat = [*_shape(mask)[:-2], _shape(mask)[-2] * _shape(mask)[-1]]
    if pooled is None or _shape(images) != flat or dim not in (-1, len(flat) - 1) or not _known(tangent):
        return
    with graph.inserting_before(node):
        unmasked = _call(graph, _ATEN.reshape.default, tangent, flat)
        taken = _call(graph, node.target, unmasked, dim, index)
        largest = _call(graph, _ATEN.reshape.default, pooled, _shape(node))
        found = _call(graph, mask.target, taken, largest, threshold)
    _replace(node, found)


def weight_gradients_as_products(graph: Graph, node: Node) -> None:
    """The weight gradient of a convolution of images with one channel, as a matrix product with their windows.

    On a CPU oneDNN takes it at a few per cent of its rate for more channels: an MNIST LeNet's first, which has a
    hundredth of the step's operations, took a fifth of its time. Of what rounds more than float32 does, the product
    would be rounded image by image.
    """
    if node.target is not _ATEN.convolution_backward.default:
        return
    gradient, images, weight, _, *how, (wants_input, wants_weight, wants_bias) = _args(node)
    parts: dict[Any, Node] = {user.args[1]: user for user in node.users}
    if not wants_weight or 1 not in parts or not _known(gradient, images, weight):
        return
    if not _of_one_channel(images, weight, how):
        return
    stride, padding = (_two(each) for each in how[:2])
    (count, channels, *_), (*_, height, width) = _shape(gradient), _shape(weight)
    with graph.inserting_before(node):
        margins = [padding[1], padding[1], padding[0], padding[0]]
        padded = _call(graph, _ATEN.constant_pad_nd.default, images, margins)
        rows = _call(graph, _ATEN.unfold.default, padded, 2, height, stride[0])
        windows = _call(graph, _ATEN.unfold.default, rows, 3, width, stride[1])
        columns = _call(graph, _ATEN.reshape.default, windows, [count, -1, height * width])
        entries = _call(graph, _ATEN.reshape.default, gradient, [count, channels, -1])
        products = _call(graph, _ATEN.bmm.default, entries, columns)
        summed = _call(graph, _ATEN.sum.dim_IntList, products, [0])
        found = {1: _call(graph, _ATEN.reshape.default, summed, _shape(weight))}
        if wants_bias and 2 in parts:
            found[2] = _call(graph, _ATEN.sum.dim_IntList, gradient, [0, 2, 3])
    node.args = (*node.args[:-1], [wants_input, False, False])
    for place, part in parts.items():
        if place in found:
            _replace(part, found[place])
        else:
            _erase_unread(part)


def two_convolutions_as_one(graph: Graph, node: Node) -> None:
    """A sum of two convolutions alike as one of twice as many channels, [dx, x] * [w, dw].

    So is the tangent of a convolution, dx * w + x * dw.
    """
    if node.target is not _ATEN.add.Tensor or node.kwargs or not _known(*node.args):
        return
    one, other = _args(node)
    if one is other or any(each.target is not _ATEN.convolution.default for each in (one, other)):
        return
    (images, weight, bias, *how), (images_too, weight_too, bias_too, *how_too) = _args(one), _args(other)
    *_, transposed, _, groups = how
    if how != how_too or bias is not None or bias_too is not None or transposed or groups != 1:
        return
    if any(list(each.users) != [node] for each in (one, other)):
        return
    alike = ((images, images_too), (weight, weight_too))
    if not all(_known(*pair) and _shape(pair[0]) == _shape(pair[1]) for pair in alike):
        return
    with graph.inserting_before(node):
        images_of_both, weight_of_both = (_call(graph, _ATEN.cat.default, [*pair], 1) for pair in alike)
        found = _call(graph, one.target, images_of_both, weight_of_both, None, *how)
    _replace(node, found)


def _of_one_channel(images: Node, weight: Node, how: Sequence[Any]) -> bool:
    """Whether these are of a plain convolution, on a CPU, of images with one channel and windows that have room."""
    _, _, dilation, transposed, _, groups = how
    value: Tensor = images.meta["val"]
    if transposed or groups != 1 or any(each != 1 for each in dilation) or value.device.type != "cpu":
        return False
    if len(_shape(weight)) != 4 or value.dtype not in (torch.float32, torch.float64):
        return False
    count, channels, height, width = _shape(weight)
    return channels == 1 and height * width <= _WINDOWS * count


def _pooled(places: Node, *, of: Node) -> Node | None:
    """What came of the max-pooling whose ``places`` these are, if it was one of ``of`` and is not written over."""
    if places.target is not operator.getitem:
        return None
    pooling, _ = _args(places)
    if pooling.target is not _ATEN.max_pool2d_with_indices.default:
        return None
    of_pooling, *_ = _args(pooling)
    if _behind(of_pooling, SAME) is not _behind(of, SAME):
        return None
    values = [user for user in pooling.users if user.args[1] == 0 and _stays(user)]
    return values[0] if values else None


def _stays(node: Node) -> bool:
    """Whether nothing writes into it, or into a view of it."""
    return not any(writes(user.target) or (_is_view(user.target) and not _stays(user)) for user in node.users)


def _is_view(target: object) -> bool:
    """Whether it is an operator whose result may lie where what it is given lies."""
    return isinstance(target, torch._ops.OpOverload) and bool(target.is_view)


def _without_zeros(node: Node) -> Node:
    """The other summand of a sum with zeros."""
    if node.target is _ATEN.add.Tensor and not node.kwargs and _known(*node.args):
        first, second = _args(node)
        for other, zeros in ((first, second), (second, first)):
            if _is_zeros(zeros) and _shape(other) == _shape(node):
                return cast("Node", other)
    return node


def _is_zeros(node: Any) -> bool:
    """Whether it is made of zeros and read by sums alone: else something may be written into it, or a view of it."""
    if not isinstance(node, Node) or any(user.target is not _ATEN.add.Tensor for user in node.users):
        return False
    return node.target in _ZEROS or (node.target is _ATEN.add.Tensor and all(map(_is_zeros, _args(node))))


def _is_product(node: Node) -> bool:
    """Whether it is a matrix product, or one seen otherwise."""
    return _behind(node, (*SAME, *_TURNED)).target is _ATEN.mm.default


def _behind(node: Node, operators: tuple[Any, ...]) -> Node:
    while node.target in operators:
        node = node.all_input_nodes[0]
    return node


def _two(numbers: Sequence[int]) -> tuple[int, int]:
    """One number stands for both directions."""
    first, *_, last = (*numbers, *numbers) if len(numbers) == 1 else numbers
    return first, last


def _args(node: Node) -> tuple[Any, ...]:
    """torch.fx has a union of twenty types for each."""
    return node.args


def _known(*nodes: Any) -> bool:
    """Whether all are nodes of which tracing has noted the one tensor that they give."""
    return all(isinstance(node, Node) and isinstance(node.meta.get("val"), Tensor) for node in nodes)


def _shape(node: Node) -> list[int]:
    value: Tensor = node.meta["val"]
    return list(value.shape)


def _call(graph: Graph, target: Any, *args: Any) -> Node:
    """A new node, with the (fake) value that it gives, as tracing leaves it with every node."""
    node = graph.call_function(target, args)
    node.meta["val"] = target(*tree_map(lambda arg: arg.meta["val"] if isinstance(arg, Node) else arg, args))
    return node


def _replace(node: Node, found: Node) -> None:
    node.replace_all_uses_with(found)
    _erase_unread(node)


def _erase_unread(node: Node) -> None:
    """What only led there goes too: the rules look at who reads a node."""
    if node.users or node.op != "call_function" or node.is_impure():
        return
    led_there = node.all_input_nodes
    node.graph.erase_node(node)
    for each in led_there:
        _erase_unread(each)
