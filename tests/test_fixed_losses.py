"""The fixed losses against their formulas, at their limits, at the ends of float32, and twice differentiable."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.losses.contract import FixedLoss, check_labels
from l2t_bench.losses.image import CrossEntropy, Focal, LabelSmoothing, cross_entropy
from l2t_bench.losses.smooth01 import Smooth01, margin
from l2t_bench.objectives import accuracy

seeds = st.integers(0, 2**31)
LOGIT_LOSSES = [
    "cross-entropy",
    "label-smoothing",
    "label-smoothing[smoothing=0]",
    "focal",
    "focal[gamma=0]",
    "focal[gamma=0.5]",
    "smooth01",
    "smooth01[form=error]",
    "smooth01[k=1]",
    "smooth01[k=1,form=error]",
]


def sample(seed: int, examples: int = 5, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits and labels in general position, in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(examples, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (examples,), generator=generator)


def probabilities(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def mean_over(logits: Tensor, target: Tensor, term: Any) -> float:
    """The mean of ``term(probabilities, label)`` over the examples."""
    rows = zip(logits.tolist(), target.tolist(), strict=True)
    return sum(term(probabilities(row), y) for row, y in rows) / len(target)


def margin_of(p: list[float], y: int) -> float:
    return math.log(p[y]) - max(math.log(value) for k, value in enumerate(p) if k != y)


# -- formulas and limits -----------------------------------------------------------------------------------------------


@given(seeds)
def test_the_margin_is_log_p_of_the_label_over_its_best_rival(seed: int) -> None:
    logits, target = sample(seed)
    rows = zip(logits.tolist(), target.tolist(), strict=True)
    expected = [margin_of(probabilities(row), y) for row, y in rows]
    torch.testing.assert_close(margin(logits, target), torch.tensor(expected, dtype=torch.float64))


@given(seeds, st.floats(0.1, 10))
def test_the_papers_smooth_loss_is_the_mean_of_minus_log_sigma_of_k_times_the_margin(seed: int, k: float) -> None:
    logits, target = sample(seed)
    expected = mean_over(logits, target, lambda p, y: math.log1p(math.exp(-k * margin_of(p, y))))
    assert float(Smooth01(k, "log")(logits, target)) == pytest.approx(expected, rel=1e-9)


@given(seeds, st.floats(0.1, 10))
def test_its_other_form_is_the_mean_of_one_minus_sigma_of_k_times_the_margin(seed: int, k: float) -> None:
    logits, target = sample(seed)
    expected = mean_over(logits, target, lambda p, y: 1 - 1 / (1 + math.exp(-k * margin_of(p, y))))
    assert float(Smooth01(k, "error")(logits, target)) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(seeds)
def test_the_error_form_tends_to_the_0_1_error_as_k_grows(seed: int) -> None:
    logits, target = sample(seed)
    error = 1 - accuracy(logits, target)
    assert float(Smooth01(1e7, "error")(logits, target)) == pytest.approx(error, abs=1e-6)


@given(seeds)
def test_the_papers_form_over_k_tends_to_the_hinge_at_zero_and_not_to_the_0_1_error(seed: int) -> None:
    logits, target = sample(seed)
    hinge = float((-margin(logits, target)).clamp(min=0).mean())
    assert float(Smooth01(1e6, "log")(logits, target)) / 1e6 == pytest.approx(hinge, abs=1e-6)


def test_of_one_wrong_example_the_papers_form_grows_without_bound_where_the_error_form_tends_to_one() -> None:
    logits, target = torch.tensor([[0.0, 1.0]], dtype=torch.float64), torch.tensor([0])
    log = [float(Smooth01(k, "log")(logits, target)) for k in (10.0, 100.0, 1000.0)]
    assert log == pytest.approx([10, 100, 1000], rel=1e-4)
    assert float(Smooth01(100.0, "error")(logits, target)) == pytest.approx(1)
    for form, tie in (("log", math.log(2)), ("error", 0.5)):  # a tie, whatever K is
        assert float(Smooth01(100.0, form)(torch.zeros(1, 2), target)) == pytest.approx(tie)  # type: ignore[arg-type]


@given(seeds, st.floats(0, 0.99))
def test_label_smoothing_is_cross_entropy_against_the_smoothed_labels(seed: int, smoothing: float) -> None:
    logits, target = sample(seed)

    def term(p: list[float], y: int) -> float:
        return -sum(((1 - smoothing) * (k == y) + smoothing / len(p)) * math.log(value) for k, value in enumerate(p))

    assert float(LabelSmoothing(smoothing)(logits, target)) == pytest.approx(mean_over(logits, target, term), rel=1e-12)


@given(seeds, st.floats(0, 5))
def test_focal_loss_is_cross_entropy_weighted_by_a_power_of_one_minus_p(seed: int, gamma: float) -> None:
    logits, target = sample(seed)
    expected = mean_over(logits, target, lambda p, y: -((1 - p[y]) ** gamma) * math.log(p[y]))
    assert float(Focal(gamma)(logits, target)) == pytest.approx(expected, rel=1e-8, abs=1e-14)


@given(seeds)
def test_without_smoothing_or_focus_both_are_cross_entropy(seed: int) -> None:
    logits, target = sample(seed)
    for loss in (CrossEntropy(), LabelSmoothing(0.0), Focal(0.0)):
        torch.testing.assert_close(loss(logits, target), cross_entropy(logits, target), rtol=1e-12, atol=0)


# -- what floats can do, and derivatives -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@pytest.mark.parametrize("target", [0, 1, 2])
def test_logits_of_a_hundred_in_float32_give_finite_values_and_derivatives_of_both_orders(
    name: str, target: int
) -> None:
    rows = [[100.0, -100.0, 0.0], [-100.0, 100.0, 100.0], [0.0, 0.0, 0.0], [100.0, 99.0, -100.0], [-100.0] * 3]
    logits = torch.tensor(rows, requires_grad=True)
    value = l2t.load_loss(name)(logits, torch.full((len(rows),), target))
    (gradient,) = torch.autograd.grad(value, logits, create_graph=True)
    (curvature,) = torch.autograd.grad((gradient * torch.arange(15.0).reshape(5, 3)).sum(), logits)
    for found in (value, gradient, curvature):
        assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_values_at_the_ends_of_float32_are_those_of_float64(name: str) -> None:
    logits = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 100.0, 99.0], [0.5, 0.0, 0.0]])
    target, loss = torch.tensor([1, 1, 0]), l2t.load_loss(name)
    assert float(loss(logits, target)) == pytest.approx(float(loss(logits.double(), target)), rel=1e-5)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_fixed_losses_have_right_derivatives_of_both_orders(name: str, check: Any) -> None:
    logits, target = sample(11)
    loss = l2t.load_loss(name)
    # margins of order 0.01: with K = 50 the loss is curved there, and flat far from it
    near = logits[:, :1] + 0.01 * logits if "smooth01" in name else logits
    assert check(lambda at: loss(at, target), (near.detach().requires_grad_(),))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own, of jvp
@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_second_derivatives_forward_over_reverse_are_those_of_reverse_over_reverse(name: str) -> None:
    logits, target = sample(5)
    loss, along = l2t.load_loss(name), sample(6)[0]
    gradient = torch.func.grad(lambda at: loss(at, target))
    _, forward = torch.func.jvp(gradient, (logits,), (along,))
    _, pull_back = torch.func.vjp(gradient, logits)
    torch.testing.assert_close(forward, pull_back(along)[0], rtol=1e-9, atol=1e-12)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smooth01[k=0]", "k must be positive"),
        ("smooth01[k=-5]", "k must be positive"),
        ("smooth01[form=exact]", "form must be one of log, error"),
        ("label-smoothing[smoothing=1]", r"smoothing must be in \[0, 1\)"),
        ("label-smoothing[smoothing=-0.1]", r"smoothing must be in \[0, 1\)"),
        ("focal[gamma=-1]", "gamma must be a finite number from 0 on"),
        ("focal[alpha=1]", "focal has no option 'alpha'"),
        ("crossentropy", "did you mean 'cross-entropy'"),
    ],
)
def test_an_option_without_a_meaning_is_an_error(name: str, message: str) -> None:
    with pytest.raises(l2t.UserError, match=message):
        l2t.load_loss(name)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_settings_that_are_no_finite_numbers_are_errors(value: float) -> None:
    for make in (Smooth01, LabelSmoothing, Focal):
        with pytest.raises(l2t.UserError):
            make(value)


@pytest.mark.parametrize("name", LOGIT_LOSSES)
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(3, 4), torch.tensor([0, 1]), "3 rows of logits do not go with 2 labels"),
        (torch.zeros(1, 4), torch.tensor([0, 1]), "1 rows of logits do not go with 2 labels"),
        (torch.zeros(2, 4), torch.tensor([0, 4]), "labels must be from 0 to 3 for 4 classes; there are 0 to 4"),
        (torch.zeros(2, 4), torch.tensor([-1, 2]), "labels must be from 0 to 3 for 4 classes; there are -1 to 2"),
        (torch.zeros(2, 4), torch.tensor([-100, 2]), "there are -100 to 2"),  # what torch's own takes for "ignore"
        (torch.zeros(4), torch.tensor([0, 1]), "logits must be of shape"),
        (torch.zeros(2, 4), torch.tensor([0.0, 1.0]), "target must be class indices"),
        (torch.zeros(2, 4), torch.zeros(2, 4), "target must be class indices"),
    ],
    ids=["fewer labels", "more labels", "too large", "negative", "ignored", "no classes", "floats", "one-hot"],
)
def test_a_batch_that_does_not_fit_is_an_error(name: str, logits: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(l2t.UserError, match=message):
        l2t.load_loss(name)(logits, target)


@pytest.mark.parametrize("name", ["smooth01", "focal"])
def test_a_single_class_has_no_rivals(name: str) -> None:
    with pytest.raises(l2t.UserError, match="at least two classes"):
        l2t.load_loss(name)(torch.zeros(2, 1), torch.tensor([0, 0]))


def test_labels_can_be_looked_at_before_training() -> None:
    check_labels(torch.tensor([0, 3]), 4)
    check_labels(torch.tensor([], dtype=torch.int64), 4)
    with pytest.raises(l2t.UserError, match="there are 0 to 4"):
        check_labels(torch.tensor([0, 4]), 4)


# -- names -------------------------------------------------------------------------------------------------------------


def test_every_listed_loss_is_one_and_takes_the_place_of_a_teachers() -> None:
    for name in l2t.list_losses():
        assert isinstance(l2t.load_loss(name), FixedLoss)


def test_options_of_a_loss_stand_in_its_name() -> None:
    assert l2t.load_loss("smooth01[k=20,form=error]") == Smooth01(20.0, "error")


def test_what_is_no_loss_is_not_loaded_as_one(tmp_path: Any) -> None:
    (tmp_path / "mine_loss.py").write_text("class Mine:\n    pass\n")
    with pytest.raises(l2t.UserError, match="is not a loss"):
        l2t.load_loss(f"{tmp_path}/mine_loss.py:Mine")
