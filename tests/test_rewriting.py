"""Operators of a traced step written otherwise: the same numbers, by what is quicker."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, dropout, max_pool2d
from traced_graph import graph_of

from l2t_bench.steppers import compiling
from l2t_bench.steppers.rewriting import rewritten
from l2t_bench.steppers.traced import Traced


def names(traced: Traced) -> list[str]:
    return [str(node.target) for node in traced.graph.graph.nodes]


def before_and_after(
    function: Callable[..., list[Tensor]], *inputs: Tensor
) -> tuple[Traced, list[Tensor], list[Tensor]]:
    """The rewritten graph, and what the function gives by the graph as it was and as it is."""
    traced = graph_of(function, *inputs, roles=tuple(map(str, range(len(inputs)))))
    before = traced.graph(*inputs)
    rewritten(traced.graph)
    return traced, before, traced.graph(*inputs)


def draw(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def second_order(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The gradient of ``function`` by its inputs but the first, and the derivative of that gradient's square."""
    with torch.enable_grad():
        leaves = [each.detach().requires_grad_() for each in inputs[1:]]
        found = torch.autograd.grad(function(inputs[0], *leaves), leaves, create_graph=True)
        length = sum(each.square().sum() for each in found)
        return [each.detach() for each in (*found, *torch.autograd.grad(length, leaves))]


def test_a_sum_kept_apart_from_its_product_has_the_same_bits() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right, other = (torch.randn(6, 6, generator=generator) for _ in range(3))
    traced = graph_of(
        lambda a, b, c: [c + (a @ b).t().t(), (a @ b) + c, c + a], left, right, other, roles=("a", "b", "c")
    )
    before = traced.graph(left, right, other)
    rewritten(traced.graph)
    names = [str(node.target) for node in traced.graph.graph.nodes]
    assert names.count("aten.sub.Tensor") == 2 and names.count("aten.add.Tensor") == 1
    assert all(torch.equal(x, y) for x, y in zip(before, traced.graph(left, right, other), strict=True))


def test_a_scaled_sum_with_a_matrix_product_keeps_its_scale() -> None:
    left, right, other = (torch.randn(3, 3) for _ in range(3))
    ways = (lambda a, b, c: [torch.add(a @ b, c, alpha=0.05)], lambda a, b, c: [torch.add(c, (a @ b).t(), alpha=0.05)])
    for way in ways:
        traced = graph_of(way, left, right, other, roles=("a", "b", "c"))
        rewritten(traced.graph)
        assert not any("add" in str(node.target) for node in traced.graph.graph.nodes)
        found, wanted = compiling._compiled(traced, random=False)(left, right, other)[0], way(left, right, other)[0]
        assert torch.allclose(found, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_relu_before_pooling_is_masked_by_what_is_pooled_and_read_no_more_on_the_way_back(stride: int) -> None:
    """Windows that do not meet, that meet and that leave places out; the second convolution reads what is pooled."""

    def loss(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return conv2d(max_pool2d(torch.relu(conv2d(x, w)), 2, stride), u).tanh().sum()

    inputs = draw(3, 2, 11, 11), draw(4, 2, 3, 3), draw(2, 4, 2, 2)
    traced, before, after = before_and_after(lambda *inputs: second_order(loss, *inputs), *inputs)
    assert all(torch.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(before, after, strict=True))
    nodes = traced.graph.graph.nodes
    relu = next(node for node in nodes if str(node.target) == "aten.relu.default")
    shaped = "aten.max_pool2d_with_indices_backward.default"  # it has its argument for the shape alone
    readers = {str(user.target) for user in relu.users} - {shaped, "aten.detach.default", "aten.alias.default"}
    assert readers == {"aten.max_pool2d_with_indices.default"}
    masks = [node for node in nodes if str(node.target) == "aten.threshold_backward.default"]
    assert masks and all(node.args[1].target is not relu for node in masks)


def test_a_mask_is_left_where_another_thing_was_pooled_or_what_was_spread_is_changed_before_it() -> None:
    x = draw(2, 3, 8, 8)

    def other(x: Tensor) -> list[Tensor]:
        places = max_pool2d(x, 2, return_indices=True)[1]
        spread = torch.ops.aten.max_pool2d_with_indices_backward(
            torch.ones_like(places, dtype=x.dtype), x, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )
        return [torch.ops.aten.threshold_backward(spread, torch.relu(-x), 0)]

    def summed(x: Tensor) -> list[Tensor]:
        first = torch.relu(x)
        places = max_pool2d(first, 2, return_indices=True)[1]
        spread = torch.ops.aten.max_pool2d_with_indices_backward(
            torch.ones_like(places, dtype=x.dtype), first, [2, 2], [2, 2], [0, 0], [1, 1], False, places
        )
        zeros = torch.zeros_like(x)
        zeros.add_(x)
        return [torch.ops.aten.threshold_backward(spread + zeros, first, 0)]

    for function in (other, summed):
        traced = graph_of(function, x, roles=("x",))
        count = names(traced).count("aten.threshold_backward.default")
        before = traced.graph(x)
        rewritten(traced.graph)
        assert names(traced).count("aten.threshold_backward.default") == count == 1
        assert all(torch.equal(a, b) for a, b in zip(before, traced.graph(x), strict=True))


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("padding", [0, (1, 2)])
@pytest.mark.parametrize("wants_input", [False, True])
def test_the_weight_gradient_of_a_convolution_of_one_channel_is_a_product(
    stride: int | tuple[int, int], padding: int | tuple[int, int], wants_input: bool
) -> None:
    def gradients(x: Tensor, w: Tensor, b: Tensor) -> list[Tensor]:
        leaves = [each.detach().requires_grad_() for each in ((x, w, b) if wants_input else (w, b))]
        images = leaves[0] if wants_input else x
        return list(torch.autograd.grad(conv2d(images, *leaves[-2:], stride, padding).tanh().sum(), leaves))

    traced, before, after = before_and_after(gradients, draw(5, 1, 9, 12), draw(4, 1, 3, 2), draw(4))
    assert names(traced).count("aten.bmm.default") == 1
    assert names(traced).count("aten.convolution_backward.default") == wants_input
    assert all(torch.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize(
    "convolution",
    [
        lambda x, w: conv2d(x, w.repeat(1, 2, 1, 1)),  # of two channels
        lambda x, w: conv2d(x[:, :1], w, dilation=2),
        lambda x, w: conv2d(x[:, :1].repeat(1, 4, 1, 1), w, groups=4),
    ],
)
def test_the_weight_gradient_of_another_convolution_stays_its_own(convolution: Callable[..., Tensor]) -> None:
    def gradient(x: Tensor, w: Tensor) -> list[Tensor]:
        w = w.detach().requires_grad_()
        return list(torch.autograd.grad(convolution(x, w).tanh().sum(), [w]))

    traced, before, after = before_and_after(gradient, draw(5, 2, 9, 9), draw(4, 1, 3, 3))
    assert "aten.convolution_backward.default" in names(traced) and "aten.bmm.default" not in names(traced)
    assert torch.equal(before[0], after[0])


def test_the_sum_of_two_convolutions_alike_is_one_convolution() -> None:
    def tangent(x: Tensor, dx: Tensor, w: Tensor, dw: Tensor) -> list[Tensor]:
        return [conv2d(dx, w, stride=2, padding=1) + conv2d(x, dw, stride=2, padding=1)]

    inputs = draw(3, 4, 8, 8), draw(3, 4, 8, 8) + 1, draw(5, 4, 3, 3), draw(5, 4, 3, 3) + 1
    traced, before, after = before_and_after(tangent, *inputs)
    assert names(traced).count("aten.convolution.default") == 1
    assert torch.allclose(before[0], after[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: [conv2d(x, w) + conv2d(x, -w, padding=1)[:, :, 1:-1, 1:-1]],
        lambda x, w: [(first := conv2d(x, w)) + conv2d(-x, w), first],
        lambda x, w: [torch.add(conv2d(x, w), conv2d(-x, w), alpha=2)],
        lambda x, w: [conv2d(x, w, w[:, 0, 0, 0]) + conv2d(-x, w)],
        lambda x, w: [conv2d(x, w) + conv2d(x[:1], w)],
        lambda x, w: [(first := conv2d(x, w)) + first],
        lambda x, w: [conv2d(x, w, groups=1) + conv2d(x, w[:, :1].repeat(1, 2, 1, 1)[:, :1], groups=4)],
    ],
)
def test_convolutions_that_are_not_alike_or_are_read_elsewhere_too_stay_apart(
    function: Callable[..., list[Tensor]],
) -> None:
    traced, before, after = before_and_after(function, draw(3, 4, 8, 8), draw(4, 4, 3, 3))
    assert "aten.cat.default" not in names(traced)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_what_is_drawn_at_random_is_drawn_though_it_is_not_read() -> None:
    """The next draw would be another one."""
    x = draw(4, 4)

    def function(x: Tensor) -> list[Tensor]:
        dropout(x, 0.5)
        return [dropout(x, 0.5)]

    traced = graph_of(function, x, roles=("x",))
    torch.manual_seed(0)
    (before,) = traced.graph(x)
    rewritten(traced.graph)
    torch.manual_seed(0)
    assert torch.equal(before, traced.graph(x)[0])
