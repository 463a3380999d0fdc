"""Operators of a traced step written otherwise, for the same values: less memory traffic, or a quicker kernel.

Sums may be taken in another order, no more; compiled steps are held to plain ones in any case. Each rule looks for what
autograd writes, and leaves all else as it is.
"""

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from l2t_bench.steppers.traced import SAME

_ATEN = torch.ops.aten
_VIEWS = (_ATEN.view.default, _ATEN._unsafe_view.default)
_TURNED = (*_VIEWS, _ATEN.t.default)
_ZEROS = (_ATEN.zeros.default, _ATEN.zeros_like.default, _ATEN.new_zeros.default)


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
        graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def sums_apart(graph: Graph, node: Node) -> None:
    """Write x + A B as A B - (-x), the same bits.

    Inductor makes one ``addmm`` of the sum, which copies x first: for a gradient added to a parameter's momentum it is
    two more passes over the parameters than in a loop of its own, where the sum costs none. Of A B + alpha x torch 2.11
    drops alpha there, so that alpha is taken out of the sum too.
    """
    if node.target is not _ATEN.add.Tensor or not all(isinstance(arg, Node) for arg in node.args):
        return
    first, second = _args(node)
    if not _is_product(first) and not _is_product(second):
        return
    alpha = node.kwargs.get("alpha", 1)
    with graph.inserting_before(node):
        if alpha != 1:
            second = graph.call_function(_ATEN.mul.Tensor, (second, alpha))
        product, other = sorted((first, second), key=lambda arg: not _is_product(arg))
        negative = graph.call_function(_ATEN.neg.default, (other,))
    node.target, node.args, node.kwargs = _ATEN.sub.Tensor, (product, negative), {}


def masks_after_pooling(graph: Graph, node: Node) -> None:
    """The gradient of ReLU then max-pooling: masked where it has one entry a window, before it is spread over them.

    A window's gradient goes to its largest entry alone, and there ReLU's output is what was pooled: where that is zero,
    so is the mask. Then nothing on the way back reads ReLU's output, or the convolution before it.
    """
    if node.target is not _ATEN.threshold_backward.default:
        return
    spread, output, threshold = _args(node)
    spread = _without_zeros(spread)
    if spread.target is not _ATEN.max_pool2d_with_indices_backward.default:
        return
    gradient, *rest, places = _args(spread)
    pooled = _pooled(places, of=output)
    if pooled is None:
        return
    with graph.inserting_before(node):
        masked = graph.call_function(_ATEN.threshold_backward.default, (gradient, pooled, threshold))
        found = graph.call_function(spread.target, (masked, *rest, places))
    _replace(node, found)


def masks_of_what_is_pooled(graph: Graph, node: Node) -> None:
    """The tangent of ReLU then max-pooling: taken from each window's place first, and masked then; as above."""
    if node.target is not _ATEN.gather.default:
        return
    source, dim, index = _args(node)
    mask = _behind(source, _VIEWS)
    places = _behind(index, _VIEWS)
    if mask.target is not _ATEN.threshold_backward.default:
        return
    tangent, output, threshold = _args(mask)
    pooled = _pooled(places, of=output)
    if pooled is None:
        return
    with graph.inserting_before(node):
        unmasked = graph.call_function(_ATEN.view.default, (tangent, _shape(source)))
        taken = graph.call_function(node.target, (unmasked, dim, index))
        windows = graph.call_function(_ATEN.view.default, (pooled, _shape(node)))
        found = graph.call_function(mask.target, (taken, windows, threshold))
    _replace(node, found)


def weight_gradients_as_products(graph: Graph, node: Node) -> None:
    """The weight gradient of a convolution of images with one channel, as a matrix product with their windows.

    On a CPU oneDNN takes it at a few per cent of its rate for more channels: an MNIST LeNet's first, which has a
    hundredth of the step's operations, took a fifth of its time.
    """
    if node.target is not _ATEN.convolution_backward.default or not _of_one_channel(node):
        return
    gradient, images, weight, _, stride, padding, _, _, _, _, (wants_input, wants_weight, wants_bias) = _args(node)
    given = {each.args[1]: each for each in node.users}
    if not wants_weight or 1 not in given:
        return
    (count, channels, *_), (*_, height, width) = _shape(gradient), _shape(weight)
    with graph.inserting_before(node):
        padded = graph.call_function(
            _ATEN.constant_pad_nd.default, (images, [padding[1], padding[1], padding[0], padding[0]])
        )
        rows = graph.call_function(_ATEN.unfold.default, (padded, 2, height, stride[0]))
        windows = graph.call_function(_ATEN.unfold.default, (rows, 3, width, stride[1]))
        columns = graph.call_function(_ATEN.reshape.default, (windows, [count, -1, height * width]))
        entries = graph.call_function(_ATEN.reshape.default, (gradient, [count, channels, -1]))
        products = graph.call_function(_ATEN.bmm.default, (entries, columns))
        summed = graph.call_function(_ATEN.sum.dim_IntList, (products, [0]))
        found = graph.call_function(_ATEN.view.default, (summed, _shape(weight)))
        if wants_bias and 2 in given:
            _replace(given[2], graph.call_function(_ATEN.sum.dim_IntList, (gradient, [0, 2, 3])))
    _replace(given[1], found)
    node.args = (*node.args[:-1], [wants_input, False, False])
    if not wants_input:
        for each in list(node.users):
            graph.erase_node(each)
        graph.erase_node(node)


def two_convolutions_as_one(graph: Graph, node: Node) -> None:
    """The tangent of a convolution, dx * w + x * dw, as one of twice as many channels: [dx, x] * [w, dw]."""
    if node.target is not _ATEN.add.Tensor or node.kwargs or not all(isinstance(arg, Node) for arg in node.args):
        return
    one, other = _args(node)
    if one is other or not all(each.target is _ATEN.convolution.default for each in (one, other)):
        return
    (images, weight, bias, *how), (images_too, weight_too, bias_too, *how_too) = _args(one), _args(other)
    *_, transposed, _, groups = how
    if how != how_too or bias is not None or bias_too is not None or transposed or groups != 1:
        return
    if any(list(each.users) != [node] for each in (one, other)) or _shape(images) != _shape(images_too):
        return
    with graph.inserting_before(node):
        images_of_both = graph.call_function(_ATEN.cat.default, ([images, images_too], 1))
        weight_of_both = graph.call_function(_ATEN.cat.default, ([weight, weight_too], 1))
        found = graph.call_function(one.target, (images_of_both, weight_of_both, None, *how))
    _replace(node, found)


def _of_one_channel(node: Node) -> bool:
    """Whether it goes back through a plain convolution, on a CPU, of images with one channel."""
    _, images, weight, _, _, _, dilation, transposed, _, groups, _ = _args(node)
    plain = not transposed and groups == 1 and all(each == 1 for each in dilation)
    return plain and images.meta["val"].device.type == "cpu" and len(_shape(weight)) == 4 and _shape(weight)[1] == 1


def _pooled(places: Node, *, of: Node) -> Node | None:
    """What came of the max-pooling whose ``places`` these are, if it was one of ``of``."""
    if places.target is not operator.getitem:
        return None
    pooling, _ = _args(places)
    if pooling.target is not _ATEN.max_pool2d_with_indices.default:
        return None
    of_pooling, *_ = _args(pooling)
    if _behind(of_pooling, SAME) is not _behind(of, SAME):
        return None
    values = [each for each in pooling.users if each.args[1] == 0]
    return values[0] if values else None


def _without_zeros(node: Node) -> Node:
    """The other summand of a sum with zeros."""
    if node.target is _ATEN.add.Tensor and not node.kwargs:
        first, second = _args(node)
        for other, zeros in ((first, second), (second, first)):
            if _is_zeros(zeros) and isinstance(other, Node) and _shape(other) == _shape(node):
                return other
    return node


def _is_zeros(node: Any) -> bool:
    """Whether it is made of zeros and nothing is written into it."""
    if not isinstance(node, Node) or any(user.target is not _ATEN.add.Tensor for user in node.users):
        return False
    return node.target in _ZEROS or (node.target is _ATEN.add.Tensor and all(map(_is_zeros, _args(node))))


def _is_product(node: Node) -> bool:
    """Whether it is a matrix product, or one seen otherwise."""
    return _behind(node, (*SAME, *_TURNED)).target is _ATEN.mm.default


def _args(node: Node) -> tuple[Any, ...]:
    """torch types an argument as all that one may be."""
    return node.args


def _behind(node: Node, operators: tuple[Any, ...]) -> Node:
    while node.target in operators:
        node = node.all_input_nodes[0]
    return node


def _shape(node: Node) -> list[int]:
    value: Tensor = node.meta["val"]
    return list(value.shape)


def _replace(node: Node, found: Node) -> None:
    found.meta["val"] = node.meta["val"]
    node.replace_all_uses_with(found)
