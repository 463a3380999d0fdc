"""Second derivatives of convolutions and batch normalisation that are written anew: torch's own, in float64."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import l2t_bench as l2t
from l2t_bench.double_backward import OwnDoubleBackward
from l2t_bench.problem import TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import StepGraph, TorchStepGraph, quiet_forward_mode
from l2t_bench.students.resnet import ResNet
from l2t_bench.verification.samples import general_theta, random_problem

Layer = Callable[..., Tensor]


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def twice(layer: Layer, inputs: list[Tensor], asked: list[int]) -> list[Tensor]:
    """The products of the second derivatives of a loss of ``layer`` with a vector, by all inputs.

    ``asked``: the inputs whose first derivatives are multiplied.
    """
    loss = (layer(*inputs).sin() + layer(*inputs).square()).sum()
    first = torch.autograd.grad(loss, [inputs[at] for at in asked], create_graph=True)
    vectors = [random(*each.shape, seed=9 + at).detach() for at, each in enumerate(first)]
    found = torch.autograd.grad(first, inputs, vectors, allow_unused=True, materialize_grads=True)
    return [loss.detach(), *(each.detach() for each in first), *found]


def assert_same_twice(layer: Layer, inputs: list[Tensor], asked: list[int]) -> None:
    theirs = twice(layer, inputs, asked)
    with OwnDoubleBackward():
        ours = twice(layer, inputs, asked)
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their, rtol=1e-12, atol=1e-12)


CONVOLUTIONS: dict[str, tuple[Layer, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": (F.conv2d, (3, 2, 6, 7), (4, 2, 3, 3), {}),
    "padded, with strides": (F.conv2d, (3, 2, 6, 7), (4, 2, 3, 3), {"padding": 1, "stride": (2, 1)}),
    "strides that leave a border out": (F.conv2d, (3, 2, 8, 8), (4, 2, 3, 3), {"stride": 2}),
    "dilated": (F.conv2d, (3, 2, 7, 7), (4, 2, 3, 3), {"dilation": 2}),
    "in groups": (F.conv2d, (3, 4, 5, 5), (6, 2, 3, 3), {"groups": 2}),
    "of one channel, 1x1": (F.conv2d, (2, 1, 5, 5), (3, 1, 1, 1), {}),
    "of signals": (F.conv1d, (3, 2, 9), (4, 2, 3), {"padding": 1}),
    "of volumes": (F.conv3d, (2, 2, 4, 4, 4), (3, 2, 2, 2, 2), {}),
    "padding in words": (F.conv2d, (3, 2, 6, 7), (4, 2, 3, 3), {"padding": "same"}),
}


@pytest.mark.parametrize("asked", [[0, 1, 2], [1, 2], [1], [0], [2]])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_second_derivatives_of_a_convolution_are_torchs(kind: str, asked: list[int]) -> None:
    convolve, images, kernel, how = CONVOLUTIONS[kind]
    inputs = [random(*images), random(*kernel, seed=1), random(kernel[0], seed=2)]
    assert_same_twice(lambda x, w, b: convolve(x, w, b, **how), inputs, asked)
    if 2 not in asked:
        assert_same_twice(lambda x, w: convolve(x, w, **how), inputs[:2], asked)


@pytest.mark.parametrize("asked", [[0, 1, 2], [1, 2], [0], [1], [2]])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 5), (4, 3, 2, 3), (2, 3, 2, 2, 2)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_second_derivatives_of_a_batch_normalisation_are_torchs(
    shape: tuple[int, ...], eps: float, asked: list[int]
) -> None:
    def layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, w, b, training=True, eps=eps)

    assert_same_twice(layer, [random(*shape), random(3, seed=1), random(3, seed=2)], asked)


@pytest.mark.parametrize("frozen", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}])
@pytest.mark.parametrize("kind", ["convolution", "batch normalisation"])
def test_what_is_frozen_or_no_function_of_a_parameter_is_left_out(kind: str, frozen: set[int]) -> None:
    def layer(*inputs: Tensor) -> Tensor:
        x, w, b = (each.detach() if at in frozen else each for at, each in enumerate(inputs))
        if kind == "convolution":
            return F.conv2d(x, w, b, padding=1)
        return F.batch_norm(x, None, None, w, b, training=True)

    weight = random(4, 2, 3, 3, seed=1) if kind == "convolution" else random(2, seed=1)
    inputs = [random(3, 2, 5, 5), weight, random(len(weight), seed=2)]
    assert_same_twice(layer, inputs, [at for at in range(3) if at not in frozen])


@pytest.mark.parametrize("lies", ["channels last", "transposed"])
def test_how_the_images_lie_changes_no_number(lies: str) -> None:
    def layer(x: Tensor, w: Tensor, b: Tensor, scale: Tensor) -> Tensor:
        x = x.to(memory_format=torch.channels_last) if lies == "channels last" else x.transpose(2, 3)
        running = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
        return F.batch_norm(F.conv2d(x, w, b), *running, scale, b, training=True)

    inputs = [random(3, 2, 5, 6), random(4, 2, 3, 3, seed=1), random(4, seed=2), random(4, seed=3)]
    assert_same_twice(layer, inputs, [0, 1, 2, 3])


def test_in_float32_large_means_cost_no_more_digits_than_in_torchs_own() -> None:
    """Vectors and gradients whose means are a thousand times their spread."""

    def products(dtype: torch.dtype) -> list[Tensor]:
        given = [random(64, 2, 4, 4, seed=0), random(2, seed=1), random(2, seed=2)]
        x, w, b = (each.detach().to(dtype).requires_grad_() for each in given)
        g, u = ((random(64, 2, 4, 4, seed=seed).detach() + 1e3).to(dtype) for seed in (3, 4))
        out = F.batch_norm(x, None, None, w, b, training=True)
        first = torch.autograd.grad(out, x, g, create_graph=True)[0]
        return list(torch.autograd.grad(first, [x, w], u))

    exact = products(torch.float64)
    theirs = products(torch.float32)
    with OwnDoubleBackward():
        ours = products(torch.float32)
    for own, their, right in zip(ours, theirs, exact, strict=True):
        off, allowed = ((found.double() - right).norm() / right.norm() for found in (own, their))
        assert off <= max(4 * allowed, 1e-5)


def test_third_derivatives_are_those_of_differences_where_torch_has_none() -> None:
    def second(x: Tensor, w: Tensor, kernel: Tensor) -> Tensor:
        with OwnDoubleBackward():
            layered = F.batch_norm(F.conv2d(x, kernel, padding=1), None, None, w, w, training=True)
        (first,) = torch.autograd.grad(layered.sin().sum(), kernel, create_graph=True)
        return torch.autograd.grad(first.square().sum(), w, create_graph=True)[0]

    assert torch.autograd.gradcheck(second, (random(2, 2, 3, 3), random(2, seed=1), random(2, 2, 3, 3, seed=2)))


def test_running_statistics_are_moved_as_torch_moves_them() -> None:
    def moved() -> list[Tensor]:
        running = [torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)]
        F.batch_norm(random(4, 3, 2, 2), *running, random(3), random(3), training=True, momentum=0.3)
        return running

    theirs = moved()
    with OwnDoubleBackward():
        assert all(map(torch.equal, moved(), theirs))


def names_of(root: Any) -> set[str]:
    """The names of all nodes of a graph."""
    found, left = set(), [root]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found.add(node)
            left.extend(parent for parent, _ in node.next_functions)
    return {node.name() for node in found}


LEFT: dict[str, Layer] = {
    "running statistics": lambda x, w: F.batch_norm(x, *torch.ones(2, 2).double(), w, w),
    "no scale and shift": lambda x, w: F.batch_norm(x, None, None, training=True),
    "padding in words": lambda x, w: F.conv2d(x, w.view(2, 1, 1, 1).expand(2, 2, 3, 3), padding="same"),
    "no batch dimension": lambda x, w: F.conv2d(x[0], w.view(2, 1, 1, 1).expand(2, 2, 3, 3)),
    "complex numbers": lambda x, w: F.conv2d(x + 0j, torch.complex(w, w).view(2, 1, 1, 1).expand(2, 2, 3, 3)).real,
    "another layer": lambda x, w: F.layer_norm(x, x.shape[1:]),
}


@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_to_torch_is_torchs_node(kind: str) -> None:
    with OwnDoubleBackward():
        out = LEFT[kind](random(3, 2, 5, 5), random(2, seed=1))
    assert not any("_Convolution" in name or "_BatchNorm" in name for name in names_of(out.grad_fn)), kind


def test_inside_a_transform_of_torch_func_and_under_autocast_layers_are_torchs() -> None:
    x, w = random(3, 2, 5, 5), random(2, 2, 3, 3, seed=1)
    with OwnDoubleBackward():
        by_map = torch.func.vmap(lambda kernel: F.conv2d(x, kernel))(torch.stack([w, w]))
        gradient = torch.func.grad(lambda kernel: F.conv2d(x, kernel).square().sum())(w)
        with torch.autocast("cpu", torch.bfloat16):
            low = F.conv2d(x.float(), w.float())
    torch.testing.assert_close(by_map[1], F.conv2d(x, w))
    assert gradient.shape == w.shape and low.dtype is torch.bfloat16


def test_forward_mode_inside_goes_by_torchs_rules() -> None:
    x, w = random(3, 2, 5, 5), random(2, 2, 3, 3, seed=1)
    with OwnDoubleBackward(), quiet_forward_mode(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones_like(x))
        slope = torch.autograd.forward_ad.unpack_dual(F.conv2d(dual, w)).tangent
    torch.testing.assert_close(slope, F.conv2d(torch.ones_like(x), w))


def test_a_batch_of_one_value_a_channel_is_torchs_error() -> None:
    with OwnDoubleBackward(), pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(random(1, 3), None, None, random(3), random(3), training=True)


def residual_problem() -> TeachingProblem:
    def images(seed: int) -> tuple[Tensor, Tensor]:
        return random(6, 3, 8, 8, seed=seed).detach(), torch.arange(6) % 4

    student = ResNet(depth=8, classes=4, filters=2).double()
    return replace(random_problem(), student=student, train=lambda index, seed: images(index), dev=images(99))


def test_a_students_step_is_differentiated_so() -> None:
    problem = residual_problem()
    rollout = Rollout(problem, general_theta(problem), horizon=1)
    state = rollout.initial()
    step = rollout.step(0, state)
    graph = StepGraph(problem, state, step, rollout.phi(step).detach().requires_grad_())
    names = names_of(next(iter(graph._graph.values())).grad_fn)
    assert {"_ConvolutionBackBackward", "_BatchNormBackBackward"} <= names
    theirs = TorchStepGraph(problem, state, step, rollout.phi(step).detach().requires_grad_())
    torchs = names_of(next(iter(theirs._graph.values())).grad_fn)
    assert not any("_Convolution" in name or "_BatchNorm" in name for name in torchs)
    assert names & torchs - {"AccumulateGrad"}, "of the same step"


@pytest.mark.parametrize("backend", ["higher", "torchopt", "functorch", "torchopt-implicit"])
def test_other_libraries_are_looked_at_by_torchs_rules(backend: str) -> None:
    assert l2t.load_backend(backend).second_order() is TorchStepGraph  # type: ignore[attr-defined]
