"""Operators of a traced step written otherwise: the same numbers to rounding, and only where that is so."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, dropout, max_pool2d
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


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


CONSTANT = draw(4, 4, 3, 3)
"""What a student holds that is no parameter: a graph has it as an attribute."""


def close(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-12, atol=1e-12) for x, y in zip(before, after, strict=True))


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
    assert names(traced).count("aten.sub.Tensor") == 2 and names(traced).count("aten.add.Tensor") == 1
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


@pytest.mark.parametrize(
    ("pooling", "beside"),
    [
        ({"kernel_size": 2}, 0),  # windows that do not meet
        ({"kernel_size": 2, "stride": 1}, 0),  # that do
        ({"kernel_size": 2, "stride": 3}, 0),  # that leave places out
        ({"kernel_size": 3, "stride": 2, "padding": 1}, 0),
        ({"kernel_size": 2, "dilation": 2}, 0),
        ({"kernel_size": 2, "ceil_mode": True}, 0),
        ({"kernel_size": 2}, 1),  # of a part of the images
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_relu_before_pooling_is_masked_by_what_is_pooled_and_not_read_on_the_way_back(
    pooling: dict[str, Any], beside: int, layout: torch.memory_format
) -> None:
    """The second convolution reads what is pooled."""

    def loss(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return conv2d(max_pool2d(torch.relu(conv2d(x, w)[:, :, beside:, beside:]), **pooling), u).tanh().sum()

    inputs = draw(3, 2, 11, 11).to(memory_format=layout), draw(4, 2, 3, 3), draw(2, 4, 2, 2)
    traced, before, after = before_and_after(lambda *inputs: second_order(loss, *inputs), *inputs)
    assert close(before, after)
    masks = [node for node in traced.graph.graph.nodes if node.target is torch.ops.aten.threshold_backward.default]
    assert len(masks) == 3 and all(came_of(node.args[1]) is operator.getitem for node in masks)
    assert len([node for node in traced.graph.graph.nodes if node.target is torch.ops.aten.gather.default]) == 1


def came_of(node: Any) -> Any:
    """The operator that gave what the node is, seen otherwise or not."""
    aten = torch.ops.aten
    while node.target in (aten.detach.default, aten.alias.default, aten.view.default, aten.reshape.default):
        node = node.args[0]
    return node.target


def test_relu_is_masked_by_itself_where_what_was_pooled_is_written_over() -> None:
    """torch saves the places of a pooling and not its values, and so lets them be written over."""

    def loss(x: Tensor, w: Tensor, gate: Tensor) -> Tensor:
        pooled = max_pool2d(torch.relu(conv2d(x, w)), 2)
        pooled[:2].mul_(gate)
        return pooled.tanh().sum()

    inputs = draw(3, 2, 11, 11), draw(4, 2, 3, 3), draw(1) - 3
    traced, before, after = before_and_after(lambda *inputs: second_order(loss, *inputs), *inputs)
    assert close(before, after)
    masks = [node for node in traced.graph.graph.nodes if node.target is torch.ops.aten.threshold_backward.default]
    assert masks and all(came_of(node.args[1]) is torch.ops.aten.relu.default for node in masks)


def spread_over(pooled: Tensor, places: Tensor) -> Tensor:
    found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
        torch.ones_like(places, dtype=pooled.dtype), pooled, [2, 2], [2, 2], [0, 0], [1, 1], False, places
    )
    return found


def of_another_pooling(x: Tensor) -> list[Tensor]:
    places = max_pool2d(x, 2, return_indices=True)[1]
    return [torch.ops.aten.threshold_backward(spread_over(x, places), torch.relu(-x), 0)]


def with_zeros_that_are_written_into(x: Tensor) -> list[Tensor]:
    first, zeros = torch.relu(x), torch.zeros_like(x)
    places = max_pool2d(first, 2, return_indices=True)[1]
    zeros[0].add_(x[0])
    return [torch.ops.aten.threshold_backward(spread_over(first, places) + zeros, first, 0)]


def of_places_in_other_images(x: Tensor) -> list[Tensor]:
    first = torch.relu(x)
    places = max_pool2d(first, 2, return_indices=True)[1]
    masked = torch.ops.aten.threshold_backward(x, first, 0)
    return [masked.view(2, -1).gather(-1, places.view(2, -1))]


@pytest.mark.parametrize("function", [of_another_pooling, with_zeros_that_are_written_into, of_places_in_other_images])
def test_a_mask_is_left_where_it_is_not_that_of_what_was_pooled(function: Callable[..., list[Tensor]]) -> None:
    traced, before, after = before_and_after(function, draw(2, 3, 8, 8))
    assert torch.equal(before[0], after[0])
    mask = next(node for node in traced.graph.graph.nodes if "threshold_backward" in str(node.target))
    assert came_of(mask.args[1]) is torch.ops.aten.relu.default


@pytest.mark.parametrize("stride", [1, 2, (2, 3)])
@pytest.mark.parametrize("padding", [0, (1, 2), "valid"])
@pytest.mark.parametrize("wants_input", [False, True])
def test_the_weight_gradient_of_a_convolution_of_one_channel_is_a_product(
    stride: int | tuple[int, int], padding: int | tuple[int, int] | str, wants_input: bool
) -> None:
    def gradients(x: Tensor, w: Tensor, b: Tensor) -> list[Tensor]:
        leaves = [each.detach().requires_grad_() for each in ((x, w, b) if wants_input else (w, b))]
        images = leaves[0] if wants_input else x
        return list(torch.autograd.grad(conv2d(images, *leaves[-2:], stride, padding).tanh().sum(), leaves))

    traced, before, after = before_and_after(gradients, draw(5, 1, 9, 12), draw(4, 1, 3, 2), draw(4))
    assert names(traced).count("aten.bmm.default") == 1
    assert names(traced).count("aten.convolution_backward.default") == wants_input
    assert close(before, after)


@pytest.mark.parametrize(
    "convolution",
    [
        lambda x, w: conv2d(x, w.repeat(1, 2, 1, 1)),  # of two channels
        lambda x, w: conv2d(x[:, :1], w, dilation=2),
        lambda x, w: conv2d(x[:, :1].repeat(1, 4, 1, 1), w, groups=4),
        lambda x, w: conv_transpose2d(x[:, :1].repeat(1, 4, 1, 1), w),
        lambda x, w: conv2d(x[:, :1].bfloat16(), w.bfloat16()).double(),
        lambda x, w: conv2d(x[:, :1], w[:1, :, :, :]),  # of windows that take nine times as much as one channel
    ],
)
def test_the_weight_gradient_of_another_convolution_stays_its_own(convolution: Callable[..., Tensor]) -> None:
    def gradient(x: Tensor, w: Tensor) -> list[Tensor]:
        w = w.detach().requires_grad_()
        return list(torch.autograd.grad(convolution(x, w).tanh().sum(), [w]))

    traced, before, after = before_and_after(gradient, draw(5, 2, 9, 9), draw(4, 1, 3, 3))
    assert "aten.convolution_backward.default" in names(traced)
    assert close(before, after)


def test_a_sum_of_two_convolutions_alike_is_one_convolution() -> None:
    def tangent(x: Tensor, dx: Tensor, w: Tensor, dw: Tensor) -> list[Tensor]:
        return [conv2d(dx, w, stride=2, padding=1) + conv2d(x, dw, stride=2, padding=1)]

    inputs = draw(3, 4, 8, 8), draw(3, 4, 8, 8, seed=1), draw(5, 4, 3, 3), draw(5, 4, 3, 3, seed=1)
    traced, before, after = before_and_after(tangent, *inputs)
    assert names(traced).count("aten.convolution.default") == 1
    assert close(before, after)


def test_a_sum_of_four_convolutions_alike_is_one_too() -> None:
    """So is the tangent of a layer that has two inputs, each with weights of its own."""

    def tangent(x: Tensor, w: Tensor) -> list[Tensor]:
        return [(conv2d(x, w) + conv2d(-x, w)) + (conv2d(2 * x, w) + conv2d(x, w * w))]

    traced, before, after = before_and_after(tangent, draw(3, 4, 8, 8), draw(5, 4, 3, 3))
    assert names(traced).count("aten.convolution.default") == 1
    assert close(before, after)


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: [conv2d(x, w, padding=1) + conv2d(x, -w, padding=2, dilation=2)],
        lambda x, w: [(first := conv2d(x, w)) + conv2d(-x, w), first],
        lambda x, w: [torch.add(conv2d(x, w), conv2d(-x, w), alpha=2)],
        lambda x, w: [conv2d(x, w, w[:, 0, 0, 0]) + conv2d(-x, w)],
        lambda x, w: [conv2d(x, w) + conv2d(x[:1], w)],
        lambda x, w: [conv2d(x, w) + conv2d(x, w[:1])],  # one kernel beside several
        lambda x, w: [(first := conv2d(x, w)) + first],
        lambda x, w: [conv2d(x, w[:, :1], groups=4) + conv2d(-x, w[:, :1], groups=4)],
        lambda x, w: [conv_transpose2d(x, w) + conv_transpose2d(-x, w)],
    ],
)
def test_convolutions_that_are_not_alike_or_are_read_elsewhere_too_stay_apart(
    function: Callable[..., list[Tensor]],
) -> None:
    traced, before, after = before_and_after(function, draw(3, 4, 8, 8), draw(4, 4, 3, 3))
    assert "aten.cat.default" not in names(traced)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def test_what_a_student_holds_that_is_no_parameter_may_be_convolved_too() -> None:
    def function(x: Tensor, w: Tensor) -> list[Tensor]:
        w = w.detach().requires_grad_()
        total = conv2d(CONSTANT[:, :1], w[:, :1]).tanh().sum() + (conv2d(x, CONSTANT) + conv2d(-x, w)).tanh().sum()
        return list(torch.autograd.grad(total, [w]))

    _, before, after = before_and_after(function, draw(3, 4, 8, 8), draw(4, 4, 3, 3))
    assert close(before, after)


def test_the_rewritten_graph_knows_the_value_of_each_node() -> None:
    """What is kept for the step back is chosen by it."""

    def loss(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
        return conv2d(max_pool2d(torch.relu(conv2d(x, w)), 2), u).tanh().sum()

    inputs = draw(3, 1, 11, 11), draw(4, 1, 3, 3), draw(2, 4, 2, 2)
    traced, _, _ = before_and_after(lambda *inputs: second_order(loss, *inputs), *inputs)
    ours = (
        "constant_pad_nd",
        "unfold",
        "bmm",
        "cat",
        "convolution.default",
        "gather",
        "threshold_backward",
        "neg",
        "mul",
    )
    nodes = [node for node in traced.graph.graph.nodes if any(f"aten.{each}" in str(node.target) for each in ours)]
    assert {"aten.bmm.default", "aten.cat.default"} < {str(node.target) for node in nodes}
    assert all(isinstance(node.meta.get("val"), Tensor) for node in nodes)


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
