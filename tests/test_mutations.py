"""The checks can fail: every known mistake in the reverse recursion is made on purpose, and the ladder must see it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import pytest
import torch

from l2t_bench.adjoint import PhiAdjoint
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.optimizers import SGD, Adjoint, Taken
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.registry import load_backend
from l2t_bench.rollout import train_student
from l2t_bench.second_order import StepGraph
from l2t_bench.tensors import TensorDict, added, scaled, zeros_like
from l2t_bench.verification import checks
from l2t_bench.verification.ladder import section
from l2t_bench.verification.samples import general_theta, random_batch, random_problem
from l2t_bench.verification.subject import Outcome, Subject
from l2t_bench.verification.vectors import cosine, norm_ratio

Trajectory = list[tuple[Step, StudentState]]


@dataclass(frozen=True)
class MutantRMD(Backend):
    """``rmd`` written out once more, with a place for each mistake; without one it is right."""

    mistake: str = "none"

    name: ClassVar[str] = "mutant"
    capabilities: ClassVar[Capabilities] = Capabilities(Exactness.EXACT, optimizers=("SGD",), memory_law="T*P + G")

    def differentiate(self, run: Run) -> Derivative:
        trajectory: Trajectory = []
        final = train_student(run.rollout, lambda step, state: trajectory.append((step, state)))
        value, w_bar = run.dev_gradient(final)
        d_theta = self.reverse(run, trajectory, final, w_bar)
        return Derivative(d_theta, value, final)

    def reverse(self, run: Run, trajectory: Trajectory, final: StudentState, w_bar: TensorDict) -> TensorDict:
        adjoint = Adjoint(w_bar, {"momentum": zeros_like(w_bar)})
        phi_adjoint = PhiAdjoint(run.problem, run.theta)
        for position in reversed(range(len(trajectory))):
            step, state = trajectory[position]
            replayed = self.replayed(run, trajectory, position, final)
            phi = phi_adjoint.leaf(replayed)
            g_bar, carried = self.pull_back(run.problem.optimizer, adjoint, step, state)
            hessian_product, d_phi = StepGraph(run.problem, state, replayed, phi).products(g_bar)
            after = Adjoint(added(carried.params, hessian_product), carried.slots)
            if self.mistake == "new w_bar in theta_bar":
                late, _ = self.pull_back(run.problem.optimizer, Adjoint(after.params, adjoint.slots), step, state)
                _, d_phi = StepGraph(run.problem, state, replayed, phi).products(late)
            phi_adjoint.add(d_phi)
            adjoint = after
        phi_adjoint.flush()
        sign = -1 if self.mistake == "the sign" else 1
        return {name: sign * tensor for name, tensor in phi_adjoint.d_theta.items()}

    def pull_back(
        self, optimizer: Any, adjoint: Adjoint, step: Step, state: StudentState
    ) -> tuple[TensorDict, Adjoint]:
        index = step.index if self.mistake != "no first-step rule" else step.index + 1
        if self.mistake == "the paper's recursion on a momentum run":
            optimizer = SGD(lr=1.0, weight_decay=optimizer.weight_decay)
        if self.mistake == "weight decay dropped":
            optimizer = dataclasses.replace(optimizer, weight_decay=0.0)
        taken = Taken(index, step.lr, state.params, {}, {})
        g_bar, carried = optimizer.pull_back(adjoint, taken)
        if self.mistake == "mu dropped from b_bar":
            carried = Adjoint(carried.params, {"momentum": scaled(1 / optimizer.momentum, carried.slots["momentum"])})
        return g_bar, carried

    def replayed(self, run: Run, trajectory: Trajectory, position: int, final: StudentState) -> Step:
        step = trajectory[position][0]
        if self.mistake == "phi_t off by one":
            return dataclasses.replace(step, features=trajectory[min(position + 1, len(trajectory) - 1)][0].features)
        if self.mistake == "s_t recomputed":
            view = run.problem.view(final, step.index, run.horizon, run.rollout.seed, None)
            return dataclasses.replace(step, features=run.problem.step_features(view))
        if self.mistake == "the batch drawn again":
            return dataclasses.replace(step, batch=run.problem.train(step.index, run.rollout.seed + 1))
        return step


MISTAKES = (
    "mu dropped from b_bar",
    "new w_bar in theta_bar",
    "weight decay dropped",
    "phi_t off by one",
    "s_t recomputed",
    "the batch drawn again",
    "no first-step rule",
    "the sign",
    "the paper's recursion on a momentum run",
)


def demanding_problem() -> TeachingProblem:
    """Momentum, dampening and weight decay at once, and an s_t that depends on the student."""

    def features(view: Any) -> torch.Tensor:
        inputs, _ = random_batch(77, 16)
        return torch.tanh(view.predict(inputs).mean(0)[:1]) + view.index / view.horizon

    return dataclasses.replace(
        random_problem(optimizer=SGD(lr=0.3, momentum=0.9, dampening=0.4, weight_decay=0.05)), features=features
    )


SEERS = ("central differences, every entry", "forward-mode probe", "agreement with higher")


def ladder_outcomes(mistake: str) -> dict[str, Outcome]:
    return {check.name: check.outcome for check in section(MutantRMD(mistake), demanding_problem()).checks}


def test_without_a_mistake_the_ladder_is_passed() -> None:
    assert set(ladder_outcomes("none").values()) == {Outcome.PASSED}


@pytest.mark.parametrize(
    "mistake", [MISTAKES[0], *(pytest.param(mistake, marks=pytest.mark.slow) for mistake in MISTAKES[1:])]
)
def test_a_known_mistake_fails_the_ladder_as_verify_climbs_it(mistake: str) -> None:
    outcomes = ladder_outcomes(mistake)
    for check in SEERS:
        assert outcomes[check] is Outcome.FAILED, f"{mistake!r} slips through: {check}"


@cache
def differences() -> checks.Differences:
    """Central differences of the run know no backend, and no mistake of one."""
    return checks.entry_differences(subject_of("none"))


def subject_of(mistake: str) -> Subject:
    problem = demanding_problem()
    theta = general_theta(problem)
    return Subject(
        MutantRMD(mistake), problem, theta, 0, MutantRMD(mistake).teacher_gradient(problem, theta, horizon=12)
    )


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_known_mistake_fails_central_differences_forward_mode_and_agreement(mistake: str) -> None:
    subject = subject_of(mistake)
    seen = (
        checks.check_entries(subject, differences()),
        checks.check_forward_probe(subject),
        checks.check_agreement(subject, load_backend("higher")),
    )
    assert tuple(check.name for check in seen) == SEERS
    for check in seen:
        assert check.outcome is Outcome.FAILED, f"{mistake!r} slips through: {check.name}"


def test_a_cosine_alone_would_not_see_the_papers_recursion_on_a_momentum_run() -> None:
    problem = random_problem(optimizer=SGD(lr=0.02, momentum=0.9))
    theta = general_theta(problem)
    right, wrong = (
        MutantRMD(mistake).teacher_gradient(problem, theta, horizon=40)
        for mistake in ("none", "the paper's recursion on a momentum run")
    )
    assert cosine(wrong.d_theta, right.d_theta) > 0.9
    assert norm_ratio(wrong.d_theta, right.d_theta) < 0.5


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("forward parity with torch.optim", lambda final, result: {"final": final}),
        ("a step along d_theta raises M~ as predicted", lambda final, result: {"d_theta": _halved(result.d_theta)}),
    ],
)
def test_the_other_rungs_can_fail_too(name: str, spoil: Callable[..., dict[str, Any]]) -> None:
    problem = random_problem()
    theta = general_theta(problem)
    result = MutantRMD().teacher_gradient(problem, theta, horizon=12)
    moved = StudentState({k: p + 1e-10 for k, p in result.final.params.items()}, result.final.buffers)
    spoilt = Subject(MutantRMD(), problem, theta, 0, dataclasses.replace(result, **spoil(moved, result)))
    by_name = {check.name: check for check in (checks.check_forward_parity(spoilt), checks.check_ascent(spoilt))}
    assert by_name[name].outcome is Outcome.FAILED


def _halved(tensors: TensorDict) -> TensorDict:
    return {name: tensor / 2 for name, tensor in tensors.items()}


def test_a_backend_that_keeps_state_is_caught_by_three_calls_in_a_row() -> None:
    calls: list[int] = []

    @dataclass(frozen=True)
    class Drifting(MutantRMD):
        name: ClassVar[str] = "drifting"

        def differentiate(self, run: Run) -> Derivative:
            calls.append(1)
            found = super().differentiate(run)
            return dataclasses.replace(
                found, d_theta={n: t * (1 + 1e-12 * len(calls)) for n, t in found.d_theta.items()}
            )

    problem = random_problem()
    theta = general_theta(problem)
    subject = Subject(Drifting(), problem, theta, 0, Drifting().teacher_gradient(problem, theta, horizon=6))
    assert checks.check_repeatable(subject).outcome is Outcome.FAILED
    assert checks.check_replay(subject).outcome is Outcome.FAILED
