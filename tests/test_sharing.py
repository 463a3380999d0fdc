"""What a step passes on to the step back through it, and what that takes again."""

import pytest
import torch
from torch import Tensor, nn
from traced_graph import graph_of

from l2t_bench.steppers.sharing import shared


def test_a_product_that_two_functions_have_in_common_is_passed_on_and_not_taken_again() -> None:
    w, x, v = torch.randn(200, 300), torch.randn(40, 300), torch.randn(40, 200)
    forward = graph_of(lambda w, x: [torch.relu(x @ w.t()).sum()], w, x, roles=("w", "x"))
    back = graph_of(lambda w, x, v: [((x @ w.t()).tanh() * v).sum()], w, x, v, roles=("w", "x", "v"))
    expected = back.graph(w, x, v)[0]
    first, then = shared(forward, back)
    loss, kept = first.graph(w, x)
    assert torch.equal(kept, x @ w.t()) and torch.equal(loss, torch.relu(x @ w.t()).sum())
    assert torch.equal(then.graph(w, x, v, kept)[0], expected)
    assert not any("mm" in str(node.target) for node in then.graph.graph.nodes)


def convolved_and_pooled(x: Tensor, w: Tensor) -> Tensor:
    return nn.functional.max_pool2d(nn.functional.conv2d(x, w), 2)


def test_of_a_convolution_and_its_pooling_what_is_taken_is_passed_on_and_not_what_led_there() -> None:
    x, w, v = torch.randn(20, 1, 28, 28), torch.randn(8, 1, 5, 5), torch.randn(400, 400)
    forward = graph_of(lambda x, w: [convolved_and_pooled(x, w).sum()], x, w, roles=("x", "w"))

    def backward(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
        return [convolved_and_pooled(x, w).tanh() * v[0, 0]]

    back = graph_of(backward, x, w, v, roles=("x", "w", "v"))
    expected = back.graph(x, w, v)[0]
    first, then = shared(forward, back)
    _, kept = first.graph(x, w)
    assert torch.equal(kept, convolved_and_pooled(x, w))
    assert torch.equal(then.graph(x, w, v, kept)[0], expected)
    assert not any("conv" in str(node.target) or "pool" in str(node.target) for node in then.graph.graph.nodes)


def test_a_convolution_that_the_step_back_has_for_its_shape_alone_is_not_passed_on() -> None:
    """torch's derivative of pooling is given what was pooled, and reads its places."""
    x, w, v = torch.randn(20, 1, 28, 28), torch.randn(8, 1, 5, 5), torch.randn(1000, 1000)

    def gradient(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
        w = w.detach().requires_grad_()
        return list(torch.autograd.grad(convolved_and_pooled(x, w).tanh().sum() * v[0, 0], [w]))

    forward = graph_of(lambda x, w: [convolved_and_pooled(x, w).sum()], x, w, roles=("x", "w"))
    _, then = shared(forward, graph_of(gradient, x, w, v, roles=("x", "w", "v")))
    kept = [(tuple(tensor.shape), tensor.dtype) for tensor in then.inputs[3:]]
    assert sorted(kept, key=str) == [((20, 8, 12, 12), torch.float32), ((20, 8, 12, 12), torch.int16)]


def test_what_is_written_and_not_returned_is_passed_on_too_as_it_was_before_it_was_written_over() -> None:
    w, x = torch.randn(200, 300), torch.randn(40, 300)

    def forward(w: Tensor, x: Tensor) -> list[Tensor]:
        product = x @ w.t()
        total = product.sum()
        product.mul_(2)
        return [total]

    def back(w: Tensor, x: Tensor, v: Tensor) -> list[Tensor]:
        v.copy_((x @ w.t()).tanh())
        return [v.sum() * 0]

    v = torch.zeros(40, 200)
    pair = graph_of(forward, w, x, roles=("w", "x")), graph_of(back, w, x, v, roles=("w", "x", "v"))
    first, then = shared(*pair)
    _, kept = first.graph(w, x)
    assert torch.equal(kept, x @ w.t())
    then.graph(w, x, v, kept)
    assert torch.equal(v, (x @ w.t()).tanh())


@pytest.mark.parametrize(("side", "dtype"), [(181, torch.int16), (182, torch.int32)])
def test_the_places_of_what_is_pooled_are_passed_on_by_no_more_bytes_than_an_image_has_places(
    side: int, dtype: torch.dtype
) -> None:
    x = torch.randn(1, 1, side, side)

    def places(x: Tensor) -> Tensor:
        found: Tensor = nn.functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)[1]
        return found

    forward = graph_of(lambda x: [places(x).sum()], x, roles=("x",))
    back = graph_of(lambda x: [places(x) * 2], x, roles=("x",))
    expected = back.graph(x)[0]
    first, then = shared(forward, back)
    _, kept = first.graph(x)
    assert kept.dtype == then.inputs[-1].dtype == dtype and int(kept.max()) == side**2 - 1
    assert torch.equal(then.graph(x, kept)[0], expected) and then.graph(x, kept)[0].dtype == torch.int64


def test_what_has_no_room_is_taken_again_from_what_has() -> None:
    """The second product is larger than a quarter of the inputs, the first is not."""
    x, w, v = torch.randn(50, 300), torch.randn(80, 300), torch.randn(900, 80)
    roles = ("x", "w", "v")
    forward = graph_of(lambda x, w, v: [((x @ w.t()) @ v.t()).sum()], x, w, v, roles=roles)
    back = graph_of(lambda x, w, v: [((x @ w.t()) @ v.t()).tanh().sum()], x, w, v, roles=roles)
    expected = back.graph(x, w, v)[0]
    first, then = shared(forward, back)
    _, kept = first.graph(x, w, v)
    assert torch.equal(kept, x @ w.t()) and torch.equal(then.graph(x, w, v, kept)[0], expected)
    assert sum("mm" in str(node.target) for node in then.graph.graph.nodes) == 1


def test_what_is_drawn_at_random_or_of_other_inputs_is_not_passed_on() -> None:
    w, x = torch.randn(200, 300), torch.randn(40, 300)

    def function(w: Tensor, x: Tensor) -> list[Tensor]:
        return [(nn.functional.dropout(x, 0.5) @ w.t()).sum()]

    for roles in (("w", "x"), ("w", "another x")):
        pair = graph_of(function, w, x, roles=("w", "x")), graph_of(function, w, x, roles=roles)
        assert shared(*pair) == pair
    plain = graph_of(lambda w, x: [(x @ w.t()).sum()], w, x, roles=("w", "x"))
    other = graph_of(lambda w, x: [(x @ w.t()).sum()], w, x, roles=("w", "another x"))
    assert shared(plain, other) == (plain, other)


def test_a_pooling_that_has_no_room_is_taken_again_whole() -> None:
    """There is room for its values, of eight bytes, or its places, of two, but not for both."""
    x, w, v = (torch.randn(*shape).double() for shape in ((20, 1, 28, 28), (8, 1, 5, 5), (220, 400)))

    def gradient(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
        w = w.detach().requires_grad_()
        return list(torch.autograd.grad(convolved_and_pooled(x, w).tanh().sum() * v[0, 0], [w]))

    entries = convolved_and_pooled(x, w).numel()
    room = 0.25 * 8 * (x.numel() + w.numel() + v.numel())
    assert 2 * entries < 8 * entries < room < (2 + 8) * entries
    forward = graph_of(lambda x, w: [convolved_and_pooled(x, w).sum()], x, w, roles=("x", "w"))
    pair = forward, graph_of(gradient, x, w, v, roles=("x", "w", "v"))
    assert shared(*pair) == pair


def test_all_activations_are_passed_on_where_that_is_asked_for() -> None:
    x, w, v = torch.randn(50, 300), torch.randn(80, 300), torch.randn(900, 80)
    roles = ("x", "w", "v")
    forward = graph_of(lambda x, w, v: [((x @ w.t()) @ v.t()).sum()], x, w, v, roles=roles)
    back = graph_of(lambda x, w, v: [((x @ w.t()) @ v.t()).tanh().sum()], x, w, v, roles=roles)
    first, then = shared(forward, back, "all")
    _, kept = first.graph(x, w, v)
    assert torch.equal(kept, (x @ w.t()) @ v.t())
    assert not any("mm" in str(node.target) for node in then.graph.graph.nodes)
