"""The ladder of methods that are not exact: each is held to what it approximates, and a wrong one fails.

The mistakes are the ones that a cosine or a norm without a bound would let pass.
"""

import dataclasses
from functools import cache

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.backends.evolution import Evolution
from l2t_bench.backends.forward_mode import ForwardMode
from l2t_bench.backends.implicit import Implicit
from l2t_bench.backends.one_step import OneStep
from l2t_bench.backends.torchopt_implicit import TorchOptImplicit
from l2t_bench.backends.truncated import TruncatedRMD
from l2t_bench.gradient import Exactness, TeacherGradientBackend
from l2t_bench.names import make, split_spec
from l2t_bench.optimizers import SGD
from l2t_bench.problem import TeachingProblem
from l2t_bench.verification.approximations import check_finite_difference
from l2t_bench.verification.capabilities import Verdict, tried
from l2t_bench.verification.ladder import section
from l2t_bench.verification.probes import make_probe
from l2t_bench.verification.samples import Quadratic, general_theta, random_problem
from l2t_bench.verification.students import student_problem
from l2t_bench.verification.subject import Check, Outcome, Subject

HORIZONS = (2, 4)


@cache
def problem() -> TeachingProblem:
    return student_problem("mlp")


def climbed(backend: TeacherGradientBackend, on: TeachingProblem | None = None) -> dict[str, Check]:
    return {check.name: check for check in section(backend, on or problem(), horizons=HORIZONS).checks}


def failures(backend: TeacherGradientBackend, on: TeachingProblem | None = None) -> list[str]:
    return [name for name, check in climbed(backend, on).items() if check.outcome is Outcome.FAILED]


def scaled_copy(cls: type[Backend], factor: float, tensor: str | None = None) -> type[Backend]:
    """The method with its d_theta, or one tensor of it, times ``factor``."""

    def differentiate(self: Backend, run: Run) -> Derivative:
        found = cls.differentiate(self, run)
        d_theta = {name: factor * t if tensor in (None, name) else t for name, t in found.d_theta.items()}
        return dataclasses.replace(found, d_theta=d_theta)

    return type(f"Scaled{cls.__name__}", (cls,), {"differentiate": differentiate, "name": f"scaled-{cls.name}"})


METHODS = (
    "one-step",
    "evolution",
    "evolution[estimator=es]",
    "evolution[estimator=pes,window=2]",
    "evolution[window=2,sigma=1]",
    "forward",
    "forward[directions=100]",
    "implicit",
    "implicit[solver=neumann]",
    "implicit[solver=nystrom]",
    "implicit[solver=conjugate-residual]",
    "torchopt-implicit[solver=normal-cg]",
)


@pytest.mark.parametrize("method", METHODS)
def test_a_right_method_that_is_not_exact_is_held_to_what_it_approximates_and_passes(method: str) -> None:
    found = climbed(l2t.load_backend(method))
    failed = {name: check.figure for name, check in found.items() if check.outcome is Outcome.FAILED}
    assert not failed, failed
    held = [name for name, check in found.items() if check.outcome is Outcome.PASSED]
    promised = ("is the derivative through", "in standard errors", "the implicit formula", "central differences")
    assert any(each in name for name in held for each in promised), held


@pytest.mark.parametrize(
    ("cls", "options", "factor", "check"),
    [
        (OneStep, {}, -3, "is the derivative through the last 1 steps"),
        (OneStep, {}, 1.0001, "is the derivative through the last 1 steps"),
        (Evolution, {}, -3, "in standard errors"),
        (Evolution, {"estimator": "pes", "window": "2"}, 0.3, "in standard errors"),
        (Evolution, {"window": "2"}, -3, "in standard errors"),
        (ForwardMode, {}, -3, "in standard errors"),
        (ForwardMode, {}, 1.0001, "as many as theta has entries"),
        (Implicit, {}, -3, "the implicit formula"),
        (Implicit, {"solver": "neumann"}, 1.0001, "the implicit formula"),
        (TorchOptImplicit, {}, 1.0001, "the implicit formula"),
    ],
)
def test_a_wrong_sign_or_size_fails(cls: type[Backend], options: dict[str, str], factor: float, check: str) -> None:
    wrong = make(scaled_copy(cls, factor), "wrong", options)
    failed = failures(wrong)
    assert any(check in name for name in failed), failed


@pytest.mark.parametrize("cls", [Evolution, OneStep, Implicit])
def test_the_sign_of_one_tensor_of_theta_fails(cls: type[Backend]) -> None:
    longest = max(problem().init_teacher(0).items(), key=lambda entry: entry[1].numel())[0]
    assert failures(scaled_copy(cls, -1, longest)())


class Undamped(Implicit):
    """The damping is in the system that is solved and not in what is promised."""

    def differentiate(self, run: Run) -> Derivative:
        return Implicit.differentiate(dataclasses.replace(self, damping=0.5 * self.damping), run)


def test_another_damping_than_the_one_that_is_said_fails() -> None:
    assert failures(Undamped()) == ["the implicit formula at omega_T"]


def test_a_finite_difference_to_one_side_only_fails_by_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    from l2t_bench.backends import one_step

    central = one_step._mixed_difference

    def to_one_side(run, step, state, phi, g_bar, size):  # type: ignore[no-untyped-def]
        moved = {name: param + 0.5 * size * g_bar[name] for name, param in state.params.items()}
        return central(run, step, dataclasses.replace(state, params=moved), phi, g_bar, 0.5 * size)

    monkeypatch.setattr(one_step, "_mixed_difference", to_one_side)
    assert failures(OneStep())
    for away in (4e-5, 4e-6):
        assert check_finite_difference(at_a_kink(away)).outcome is Outcome.FAILED, "a smaller step is no way around"


def at_a_kink(away: float) -> Subject:
    """One step of a ReLU student whose units are each ``away`` from the kink, for one example of the batch."""
    smooth = random_problem(student=torch.nn.Sequential(torch.nn.Linear(6, 7), torch.nn.ReLU(), torch.nn.Linear(7, 4)))
    inputs, start = smooth.train(0, 0)[0], dict(smooth.init_student(0).params)
    start["0.bias"] = away - (inputs[:7] * start["0.weight"]).sum(1)
    kinked = dataclasses.replace(smooth, init=lambda seed: start)
    theta = general_theta(kinked)
    return Subject(OneStep(), kinked, theta, 0, OneStep().teacher_gradient(kinked, theta, horizon=1))


def test_a_kink_within_the_difference_is_no_failure_of_it() -> None:
    for away, epsilon in ((1e-3, "0.0001"), (4e-5, "1e-05"), (4e-6, "1e-06")):
        found = check_finite_difference(at_a_kink(away))
        assert found.outcome is Outcome.PASSED and f"epsilon={epsilon}]" in found.name and found.bound == 1e-6


def test_an_objective_without_a_slope_and_an_optimiser_that_none_else_does_are_skipped() -> None:
    flat = dataclasses.replace(random_problem(keys=1), objective=lambda logits, target: (logits * 0).mean())
    mean = next(check for name, check in climbed(Evolution(), flat).items() if "standard errors" in name)
    assert mean.outcome is Outcome.SKIPPED and "no slope" in mean.note


def test_a_linear_loss_has_a_formula_too() -> None:
    quadratic = Quadratic()
    linear = dataclasses.replace(
        quadratic.problem(), loss=lambda w, target, phi: -(w @ (quadratic.B @ phi)), optimizer=SGD(0.1)
    )
    assert not failures(Implicit(), linear)


# -- truncation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    ["window=2,every=2", "window=2,every=3", "window=3,store=reversible", "window=2,store=sqrt", "window=2,hvp=for"],
)
def test_truncation_passes_with_all_its_options(options: str) -> None:
    backend = l2t.load_backend(f"truncated[{options}]")
    assert backend.capabilities.exactness is Exactness.TRUNCATED
    found = climbed(backend)
    assert not [name for name, check in found.items() if check.outcome is Outcome.FAILED]
    assert any("equals rmd" in name for name in found)
    assert any(name.startswith("the mean of truncated[window=2] at") for name in found) == ("every" in options)


@pytest.mark.parametrize("options", ["window=2,every=2", "window=2,store=reversible"])
def test_truncation_of_a_wrong_size_fails_with_those_options(options: str) -> None:
    assert failures(make(scaled_copy(TruncatedRMD, 1.001), "wrong", split_spec(f"x[{options}]")[1]))


# -- the capability table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (OneStep, {}),
        (Evolution, {}),
        (ForwardMode, {}),
        (Implicit, {}),
        (TorchOptImplicit, {}),
        (TruncatedRMD, {}),
        (TruncatedRMD, {"window": "2"}),
        (TruncatedRMD, {"window": "2", "every": "2"}),
    ],
)
def test_a_number_of_the_wrong_sign_does_not_count_as_one_that_runs(
    cls: type[Backend], options: dict[str, str]
) -> None:
    probe = make_probe("momentum")
    assert tried("right", make(cls, "right", options), probe).verdict is Verdict.RUNS
    assert tried("wrong", make(scaled_copy(cls, -3), "wrong", options), probe).verdict is Verdict.WRONG
