"""Large-margin softmax against Liu et al.'s formula by angles, its layer, its schedule, and training with it."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.lessons import accuracy_on, teach, teach_fixed_loss, with_fixed_loss
from l2t_bench.losses.image import cross_entropy
from l2t_bench.losses.margin import AngularLogits, LargeMargin, MarginLinear, psi, with_margin_layer
from l2t_bench.modules import call
from l2t_bench.verification.samples import random_problem

seeds = st.integers(0, 2**31)
margins = st.integers(1, 6)


def layer_and_batch(seed: int) -> tuple[MarginLinear, Tensor, Tensor]:
    """A last layer of 4 classes with inputs of 3 values and labels, in float64."""
    generator = torch.Generator().manual_seed(seed)
    layer = MarginLinear(3, 4).double().requires_grad_(False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 3, generator=generator, dtype=torch.float64))
    inputs = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    return layer, inputs, torch.randint(4, (5,), generator=generator)


def psi_by_angle(theta: float, m: int) -> float:
    k = min(int(theta * m / math.pi), m - 1)
    return (-1) ** k * math.cos(m * theta) - 2 * k


def direct(weight: Tensor, inputs: Tensor, target: Tensor, m: int, mixing: float) -> float:
    """Liu et al.'s loss word for word: an arccos for the angle, a sum of exponentials for the softmax."""
    total = 0.0
    for x, y in zip(inputs, target.tolist(), strict=True):
        scores = [float(w @ x) for w in weight]
        size = float(weight[y].norm() * x.norm())
        cosine = scores[y] / size
        widened = (mixing * size * cosine + size * psi_by_angle(math.acos(cosine), m)) / (1 + mixing)
        scores[y] = widened
        total -= widened - math.log(sum(math.exp(score) for score in scores))
    return total / len(target)


# -- the formula -------------------------------------------------------------------------------------------------------


@given(st.floats(0, math.pi), margins)
def test_psi_by_its_polynomial_is_psi_by_the_angle(theta: float, m: int) -> None:
    cosine = torch.tensor(math.cos(theta), dtype=torch.float64)
    assert float(psi(cosine, m)) == pytest.approx(psi_by_angle(theta, m), abs=1e-6)  # arccos of a cosine near 1


@given(margins)
def test_psi_falls_all_the_way_from_zero_to_pi_and_lies_below_the_cosine(m: int) -> None:
    cosine = torch.cos(torch.linspace(0, math.pi, 500, dtype=torch.float64))
    values = psi(cosine, m)
    assert bool((values.diff() <= 1e-12).all())
    assert bool((values <= cosine + 1e-12).all())
    assert float(values[0]) == pytest.approx(1)
    assert float(values[-1]) == pytest.approx(1 - 2 * m)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_psi_and_its_derivative_by_the_angle_are_continuous_where_k_changes(m: int) -> None:
    for j in range(1, m):
        around = torch.tensor([j * math.pi / m - 1e-6, j * math.pi / m + 1e-6], dtype=torch.float64, requires_grad=True)
        values = psi(torch.cos(around), m)
        (slopes,) = torch.autograd.grad(values.sum(), around)
        assert float(values.detach().diff().abs()) < 1e-10
        assert bool((slopes.abs() < 1e-4).all())


@given(seeds, margins, st.floats(0, 100))
def test_the_loss_is_the_direct_formula(seed: int, m: int, mixing: float) -> None:
    layer, inputs, target = layer_and_batch(seed)
    loss = LargeMargin(m, start=0.0, floor=mixing)
    expected = direct(layer.weight.detach(), inputs, target, m, mixing)
    assert float(loss(layer(inputs), target)) == pytest.approx(expected, rel=1e-7)


@given(seeds)
def test_with_margin_one_it_is_cross_entropy(seed: int) -> None:
    layer, inputs, target = layer_and_batch(seed)
    expected = float(cross_entropy(layer(inputs).logits, target))
    assert float(LargeMargin(1)(layer(inputs), target)) == pytest.approx(expected, rel=1e-10)


@given(seeds, st.integers(1, 5))
def test_a_larger_margin_is_never_the_smaller_loss(seed: int, m: int) -> None:
    layer, inputs, target = layer_and_batch(seed)
    losses = [float(LargeMargin(margin)(layer(inputs), target)) for margin in (m, m + 1)]
    assert losses[0] <= losses[1] + 1e-12


# -- the schedule ------------------------------------------------------------------------------------------------------


def test_lambda_falls_from_its_start_by_the_stated_power_and_stops_at_its_floor() -> None:
    progress = torch.tensor([0.0, 1 / 3, 1.0], dtype=torch.float64)
    assert LargeMargin().mixing(progress).tolist() == pytest.approx([1000, 5, 5])
    assert LargeMargin(floor=0.0).mixing(progress).tolist() == pytest.approx([1000, 1000 / 4**5, 0.01])


def test_lambda_follows_the_steps_of_the_run_by_phi() -> None:
    layer, inputs, target = layer_and_batch(3)
    loss, phi = LargeMargin(), torch.tensor([0.25], dtype=torch.float64)
    expected = direct(layer.weight.detach(), inputs, target, 4, float(loss.mixing(phi)))
    assert float(loss(layer(inputs), target, phi)) == pytest.approx(expected, rel=1e-7)


def test_under_a_fixed_loss_phi_is_the_part_of_the_run_that_is_over() -> None:
    seen: list[float] = []

    def watching(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        seen.append(float(phi))
        return cross_entropy(logits, target)

    problem = random_problem()
    teach_fixed_loss(problem, watching, horizon=4, seed=0)
    exactly = [phi for phi in seen if phi in (0, 0.25, 0.5, 0.75)]  # the first step is looked at near its phi too
    assert sorted(set(exactly)) == [0, 0.25, 0.5, 0.75] and len(seen) - len(exactly) <= 2


# -- the layer ---------------------------------------------------------------------------------------------------------


def test_the_layer_tells_logits_and_norms_in_training_and_plain_logits_in_eval_mode() -> None:
    layer, inputs, _ = layer_and_batch(4)
    told = layer(inputs)
    assert isinstance(told, AngularLogits)
    torch.testing.assert_close(told.norms, inputs.norm(dim=1)[:, None] * layer.weight.norm(dim=1), rtol=1e-10, atol=0)
    assert torch.equal(layer.eval()(inputs), inputs @ layer.weight.T)
    assert torch.equal(told.logits, layer(inputs))


def test_a_student_gets_the_layer_in_the_place_of_its_last_linear_one_and_is_left_as_it_was() -> None:
    student = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Sequential(nn.Linear(6, 4)))
    made = with_margin_layer(student)
    assert [name for name, layer in made.named_modules() if isinstance(layer, MarginLinear)] == ["2.0"]
    assert [name for name, _ in student.named_parameters() if name not in dict(made.named_parameters())] == ["2.0.bias"]
    assert torch.equal(made.get_parameter("2.0.weight"), student.get_parameter("2.0.weight"))
    assert isinstance(with_margin_layer(nn.Linear(3, 2)), MarginLinear)


def test_its_student_starts_where_cross_entropys_does() -> None:
    problem = random_problem()
    ours = with_fixed_loss(problem, LargeMargin()).init_student(7).params
    theirs = problem.init_student(7).params
    assert len(ours) == len(theirs) - 1  # the last layer's bias
    for name, param in ours.items():
        assert torch.equal(param, theirs[name])


# -- what floats can do, and derivatives -------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("target", [0, 1])
def test_logits_of_a_hundred_and_inputs_of_zero_give_finite_values_and_derivatives_of_both_orders(
    m: int, target: int
) -> None:
    layer = MarginLinear(2, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.0]]))  # cosines of 1 and -1, a zero row
    inputs = torch.tensor([[10.0, 0.0], [-10.0, 0.0], [0.0, 0.0]], requires_grad=True)
    value = LargeMargin(m)(layer(inputs), torch.full((3,), target))
    held = (inputs, layer.weight)
    gradients = torch.autograd.grad(value, held, create_graph=True)
    curvatures = torch.autograd.grad(sum(gradient.sum() for gradient in gradients), held)  # type: ignore[arg-type]
    for found in (value, *gradients, *curvatures):
        assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_it_has_right_derivatives_of_both_orders_by_inputs_and_weights(m: int, check: Any) -> None:
    layer, inputs, target = layer_and_batch(11)
    phi = torch.tensor([0.5], dtype=torch.float64)

    def loss(at: Tensor, weight: Tensor) -> Tensor:
        return LargeMargin(m)(call(layer, {"weight": weight}, at)[0], target, phi)

    assert check(loss, (inputs.requires_grad_(), layer.weight.detach().clone().requires_grad_()))


class Progress(nn.Module):
    """A teacher of one parameter: it tells the loss how far the run is."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, features: Tensor) -> Tensor:
        return self.slope * features


@pytest.mark.parametrize("backend", ["higher", "torchopt", "functorch", "rmd[hvp=for]"])
def test_the_layer_is_differentiated_alike_by_every_exact_backend(backend: str) -> None:
    problem = replace(with_fixed_loss(random_problem(), LargeMargin(3)), teacher=Progress())
    theta = {"slope": torch.ones((), dtype=torch.float64)}
    exact = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=5, seed=0)
    other = l2t.load_backend(backend).teacher_gradient(problem, theta, steps=exact.steps, seed=0)
    assert abs(float(exact.d_theta["slope"])) > 0
    torch.testing.assert_close(other.d_theta["slope"], exact.d_theta["slope"], rtol=1e-10, atol=1e-14)


def test_students_taken_at_once_are_taught_by_it_as_alone() -> None:
    problem = replace(with_fixed_loss(random_problem(), LargeMargin(3)), teacher=Progress())
    theta = {"slope": torch.ones((), dtype=torch.float64)}
    alone = [l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=5, seed=seed) for seed in (0, 1)]
    backend = l2t.load_backend("rmd[students=2]")
    for ours, theirs in zip(
        l2t.teacher_gradients(backend, problem, theta, horizon=5, seeds=(0, 1)), alone, strict=True
    ):
        assert isinstance(ours, l2t.TeacherGradient)
        torch.testing.assert_close(ours.d_theta["slope"], theirs.d_theta["slope"], rtol=1e-10, atol=1e-14)


def test_a_student_learns_by_it_and_is_judged_by_plain_logits() -> None:
    taught = with_fixed_loss(l2t.build_problem("digits/mlp[train=300,dev=200,lr=0.1,schedule=linear]"), LargeMargin())
    student = teach(taught, {}, horizon=150, seed=0)
    assert accuracy_on(taught, student) > 0.8


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin", ["0", "-2", "1.5", "many"])
def test_a_margin_that_is_no_positive_integer_is_an_error(margin: str) -> None:
    with pytest.raises(l2t.UserError, match="margin must be"):
        l2t.load_loss(f"large-margin[margin={margin}]")


def test_a_margin_or_schedule_that_makes_no_sense_is_an_error_from_python_too() -> None:
    for wrong in ({"margin": 2.0}, {"margin": True}, {"start": -1.0}, {"floor": math.inf}, {"power": math.nan}):
        with pytest.raises(l2t.UserError):
            LargeMargin(**wrong)  # type: ignore[arg-type]


def test_a_student_that_does_not_tell_its_norms_is_an_error() -> None:
    with pytest.raises(l2t.UserError, match="MarginLinear as the student's last layer"):
        LargeMargin()(torch.zeros(2, 4), torch.tensor([0, 1]))
    with pytest.raises(l2t.UserError, match="has none"):
        with_margin_layer(nn.Conv2d(1, 2, 3))


def test_labels_and_progress_that_do_not_fit_are_errors() -> None:
    layer, inputs, target = layer_and_batch(1)
    with pytest.raises(l2t.UserError, match="labels must be from 0 to 3"):
        LargeMargin()(layer(inputs), torch.full((5,), 4))
    with pytest.raises(l2t.UserError, match="5 rows of logits do not go with 4 labels"):
        LargeMargin()(layer(inputs), target[:4])
    with pytest.raises(l2t.UserError, match="reads t/T from phi"):
        LargeMargin()(layer(inputs), target, torch.eye(4))
