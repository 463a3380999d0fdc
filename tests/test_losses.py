"""Losses and objectives against their formulas, at the ends of what floats can do, and twice differentiable."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.losses.image import cross_entropy
from l2t_bench.objectives import ExpectedAccuracy, accuracy

seeds = st.integers(0, 2**31)


def sample(seed: int, examples: int = 5, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and a phi in general position, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(examples, classes, generator=generator, dtype=torch.float64)
    target = torch.randint(classes, (examples,), generator=generator)
    return logits, target, torch.randn(classes, classes, generator=generator, dtype=torch.float64)


def probabilities(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@given(seeds)
def test_the_dynamic_loss_is_the_mean_of_minus_sigma_of_y_phi_log_p(seed: int) -> None:
    logits, target, phi = sample(seed)
    terms = []
    for row, y in zip(logits.tolist(), target.tolist(), strict=True):
        log_p = [math.log(p) for p in probabilities(row)]
        weighted = sum(phi[y, k].item() * log_p[k] for k in range(4))
        terms.append(-1 / (1 + math.exp(-weighted)))
    assert float(bilinear_sigmoid(logits, target, phi)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@given(seeds, st.floats(0.1, 3.0))
def test_with_phi_a_multiple_of_the_identity_its_gradient_is_cross_entropys_scaled_down(seed: int, c: float) -> None:
    logits, target, _ = sample(seed)
    logits.requires_grad_()
    losses = bilinear_sigmoid(logits, target, c * torch.eye(4, dtype=torch.float64)), cross_entropy(logits, target)
    (ours,), (theirs,) = (torch.autograd.grad(loss, logits) for loss in losses)
    log_p = torch.log_softmax(logits.detach(), dim=-1)[torch.arange(5), target]
    sigma = torch.sigmoid(c * log_p)
    torch.testing.assert_close(ours, (c * sigma * (1 - sigma))[:, None] * theirs, rtol=1e-10, atol=1e-14)


def test_an_untaught_student_of_ten_classes_feels_a_twelfth_of_cross_entropys_pull() -> None:
    logits, target = torch.zeros(1, 10, requires_grad=True), torch.tensor([3])
    losses = bilinear_sigmoid(logits, target, torch.eye(10)), cross_entropy(logits, target)
    (ours,), (theirs,) = (torch.autograd.grad(loss, logits) for loss in losses)
    assert float(ours.norm() / theirs.norm()) == pytest.approx(10 / 11**2, rel=1e-5)


@given(seeds)
def test_cross_entropy_is_the_mean_of_minus_log_p_and_ignores_phi(seed: int) -> None:
    logits, target, phi = sample(seed)
    terms = [-math.log(probabilities(row)[y]) for row, y in zip(logits.tolist(), target.tolist(), strict=True)]
    assert float(cross_entropy(logits, target, phi)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    assert torch.equal(cross_entropy(logits, target, phi), cross_entropy(logits, target))


@given(seeds, st.floats(0.2, 5.0))
def test_expected_accuracy_is_the_mean_probability_of_the_right_answer(seed: int, beta: float) -> None:
    logits, target, _ = sample(seed)
    terms = [
        probabilities([beta * value for value in row])[y]
        for row, y in zip(logits.tolist(), target.tolist(), strict=True)
    ]
    assert float(ExpectedAccuracy(beta)(logits, target)) == pytest.approx(sum(terms) / len(terms), rel=1e-12)


@given(seeds)
def test_a_sharper_expected_accuracy_tends_to_accuracy_itself(seed: int) -> None:
    logits, target, _ = sample(seed)
    assert float(ExpectedAccuracy(1e6)(logits, target)) == pytest.approx(accuracy(logits, target), abs=1e-6)


def test_accuracy_counts_the_right_answers() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 1.0], [0.0, 1.0]])
    assert accuracy(logits, torch.tensor([1, 1, 1])) == pytest.approx(2 / 3)


def extreme() -> tuple[Tensor, Tensor]:
    """Logits of +-100 in float32, right and wrong: probabilities of 1 and of 1e-87, which float32 does not have."""
    logits = torch.tensor([[100.0, -100.0, 0.0], [100.0, -100.0, 0.0], [-100.0, -100.0, 100.0], [0.0, 0.0, 0.0]])
    return logits.requires_grad_(), torch.tensor([0, 1, 2, 1])


@pytest.mark.parametrize(
    "function",
    [
        lambda logits, target: bilinear_sigmoid(logits, target, torch.eye(3)),
        lambda logits, target: bilinear_sigmoid(logits, target, -torch.eye(3)),
        cross_entropy,
        ExpectedAccuracy(),
        ExpectedAccuracy(4.0),
    ],
    ids=["bilinear sigmoid", "with negative phi", "cross entropy", "expected accuracy", "sharp expected accuracy"],
)
def test_logits_of_a_hundred_in_float32_give_finite_values_and_derivatives_of_both_orders(function: Any) -> None:
    logits, target = extreme()
    value = function(logits, target)
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    (curvature,) = torch.autograd.grad(gradient.square().sum(), logits)
    for found in (value, gradient, curvature):
        assert bool(torch.isfinite(found).all())


def test_at_the_extremes_the_values_are_still_those_of_the_formula() -> None:
    logits, target = extreme()[0].detach(), extreme()[1]
    expected = -(1 / 2 + 0 + 1 / 2 + 1 / 4) / 4  # sigma(log 1) = 1/2, sigma(-200) = 0, sigma(log 1/3) = 1/4
    assert float(bilinear_sigmoid(logits, target, torch.eye(3))) == pytest.approx(expected, rel=1e-6)
    assert float(ExpectedAccuracy()(logits, target)) == pytest.approx((1 + 0 + 1 + 1 / 3) / 4, rel=1e-6)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_the_dynamic_loss_has_right_derivatives_of_both_orders_by_logits_and_by_phi(check: Any) -> None:
    logits, target, phi = sample(11)
    assert check(lambda at, by: bilinear_sigmoid(at, target, by), (logits.requires_grad_(), phi.requires_grad_()))


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_expected_accuracy_has_a_right_derivative(beta: float) -> None:
    logits, target, _ = sample(12)
    assert torch.autograd.gradcheck(lambda at: ExpectedAccuracy(beta)(at, target), (logits.requires_grad_(),))


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan, math.inf])
def test_a_sharpness_that_is_no_positive_number_is_an_error(beta: float) -> None:
    with pytest.raises(l2t.UserError, match="beta must be positive"):
        ExpectedAccuracy(beta)
