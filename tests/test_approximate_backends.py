"""What the approximate and stochastic methods promise, each against the quantity that it approximates, in float64."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.gradient_cell import measure
from l2t_bench.engine.recorder import Recorder
from l2t_bench.gradient import Exactness, Refused, TeacherGradient
from l2t_bench.groups import Group
from l2t_bench.optimizers import SGD
from l2t_bench.problem import TeachingProblem
from l2t_bench.sampling import standard_normal
from l2t_bench.tensors import TensorDict, Tensors, inner, mean_of, scaled
from l2t_bench.verification import numeric
from l2t_bench.verification.samples import Quadratic, general_theta, random_problem
from l2t_bench.verification.vectors import cosine, relative_error

SOLVERS = ("cg,iterations=200", "conjugate-residual,iterations=200", "nystrom", "neumann,iterations=200")


def gradient(backend: str, problem: TeachingProblem, horizon: int = 12, seed: int = 0) -> TeacherGradient:
    return l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=horizon, seed=seed)


def restless() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, 4))


# -- implicit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["cg", "conjugate-residual"])
@pytest.mark.parametrize("optimizer", [SGD(0.3, 0.9), SGD(0.1, 0.9, weight_decay=0.05, nesterov=True)], ids=str)
def test_implicit_and_torchopts_implicit_are_one_quantity(solver: str, optimizer: SGD) -> None:
    problem = random_problem(student=restless(), optimizer=optimizer)
    ours = gradient(f"implicit[solver={solver},damping=1,iterations=100,batches=3]", problem, 5)
    theirs = gradient("torchopt-implicit[damping=1,iterations=100,batches=3]", problem, 5)
    assert relative_error(ours.d_theta, theirs.d_theta) < 1e-8
    assert ours.exactness is Exactness.STATIONARY and ours.diagnostics["residual"] < 1e-9 and not ours.warnings


@dataclasses.dataclass(frozen=True)
class Bowl:
    """The quadratic with its curvature moved by ``shift`` and a weight decay of its own for each parameter tensor."""

    shift: float = 0.0
    decays: tuple[float, float] = (0.0, 0.0)

    def problem(self) -> TeachingProblem:
        quadratic = Quadratic()
        return dataclasses.replace(
            quadratic.problem(),
            loss=lambda w, target, phi: 0.5 * w @ (self._moved(quadratic) @ w) - w @ (quadratic.B @ phi),
            optimizer=SGD(0.25, weight_decay=self.decays[0], groups=(Group("v", weight_decay=self.decays[1]),)),
        )

    def d_theta(self, damping: float = 0.0) -> TensorDict:
        """B'(H + damping)^-1 c."""
        quadratic = Quadratic()
        hessian = self._moved(quadratic) + torch.diag(
            torch.tensor([self.decays[0]] * 2 + [self.decays[1]] * 3).double()
        )
        u = torch.linalg.solve(hessian + damping * torch.eye(5).double(), quadratic.c)
        return {"weight": (quadratic.B.T @ u)[:, None]}

    def smallest(self) -> float:
        return float(torch.linalg.eigvalsh(self._moved(Quadratic()))[0])

    def _moved(self, quadratic: Quadratic) -> Tensor:
        return quadratic.A + self.shift * torch.eye(5).double()


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_weight_decay_of_groups_and_the_damping_are_part_of_the_curvature(solver: str) -> None:
    bowl = Bowl(decays=(0.1, 0.5))
    result = gradient(f"implicit[solver={solver},damping=0.2,batches=3]", bowl.problem())
    assert relative_error(result.d_theta, bowl.d_theta(damping=0.2)) < 1e-8
    assert relative_error(result.d_theta, bowl.d_theta()) > 1e-3, "the damping counts"
    assert relative_error(result.d_theta, Bowl().d_theta(damping=0.2)) > 1e-3, "the decay counts"


@pytest.mark.parametrize("solver", SOLVERS)
def test_curvature_that_is_not_positive_is_said_aloud_and_no_more_where_the_damping_lifts_it(solver: str) -> None:
    saddle = Bowl(shift=-1.5)
    assert saddle.smallest() < -0.1
    bent = gradient(f"implicit[solver={solver},damping=0]", saddle.problem(), horizon=5)
    assert any("curvature at omega_T is not positive" in warning for warning in bent.warnings)
    assert bent.diagnostics["smallest_ritz"] == pytest.approx(saddle.smallest(), abs=1e-8)
    lifted = gradient(f"implicit[solver={solver},damping=2]", saddle.problem(), horizon=5)
    assert lifted.warnings == ()


@pytest.mark.parametrize("solver", ["cg", "normal-cg"])
def test_torchopts_implicit_gradient_says_it_too(solver: str) -> None:
    own = f"torchopt-implicit[solver={solver},batches=1,iterations=200"
    sound = gradient(f"{own},damping=0]", Quadratic().problem(), horizon=5)
    assert sound.warnings == () and sound.diagnostics["smallest_ritz"] > 0
    bent = gradient(f"{own},damping=0]", bent_by(-12.0), horizon=5)  # downwards in every direction
    assert any("curvature at omega_T is not positive" in warning for warning in bent.warnings)
    assert bent.diagnostics["smallest_ritz"] < 0
    lifted = gradient(f"{own},damping=20]", bent_by(-12.0), horizon=5)
    assert lifted.warnings == ()


def bent_by(shift: float) -> TeachingProblem:
    return dataclasses.replace(Bowl(shift).problem(), optimizer=SGD(0.25))


@pytest.mark.parametrize("solver", ["cg", "normal-cg"])
def test_torchopts_solvers_see_a_direction_of_negative_curvature_among_positive_ones(solver: str) -> None:
    bent = gradient(f"torchopt-implicit[solver={solver},batches=1,damping=0,iterations=200]", bent_by(-1.5), horizon=5)
    assert any("curvature at omega_T is not positive" in warning for warning in bent.warnings)
    assert bent.diagnostics["smallest_ritz"] == pytest.approx(Bowl(-1.5).smallest(), abs=1e-8)


@pytest.mark.parametrize("solver", ["cg", "normal-cg"])
def test_and_their_smallest_ritz_value_is_that_of_our_own_after_as_many_steps(solver: str) -> None:
    settings = "batches=1,damping=0.1,iterations=3"
    theirs = gradient(f"torchopt-implicit[solver={solver},{settings}]", bent_by(-1.5), horizon=5)
    ours = gradient(f"implicit[solver=cg,{settings}]", bent_by(-1.5), horizon=5)
    assert theirs.diagnostics["smallest_ritz"] == pytest.approx(ours.diagnostics["smallest_ritz"], abs=1e-10)


@pytest.mark.parametrize("backend", ["implicit", "torchopt-implicit"])
def test_a_system_that_is_not_solved_is_said(backend: str) -> None:
    (warning,) = gradient(f"{backend}[iterations=1,damping=1,batches=1]", Quadratic().problem(), horizon=5).warnings
    assert "the linear system is not solved (residual 0." in warning


@pytest.mark.parametrize(
    "backend",
    [
        *(f"torchopt-implicit[solver={solver},damping=1,batches=3]" for solver in ("cg", "normal-cg")),
        *(f"implicit[solver={solver},damping=1,batches=3]" for solver in ("cg", "conjugate-residual", "nystrom")),
    ],
)
def test_a_dev_gradient_whose_squares_are_none_is_solved_for_as_any_other(backend: str) -> None:
    """A student that all but died has one; TorchOpt's conjugate gradients divided by zero."""
    problem, tiny = random_problem(), 2.0**-600
    objective = problem.objective
    faint = dataclasses.replace(problem, objective=lambda output, target: tiny * objective(output, target))
    plain, found = gradient(backend, problem, 5), gradient(backend, faint, 5)
    assert relative_error(scaled(1 / tiny, found.d_theta), plain.d_theta) < 1e-12
    assert found.diagnostics["residual"] == pytest.approx(plain.diagnostics["residual"], abs=1e-12)


def test_conjugate_residuals_solve_where_the_curvature_is_indefinite_and_neumann_says_that_it_does_not() -> None:
    saddle = Bowl(shift=-1.5)
    solved = gradient("implicit[solver=conjugate-residual,damping=0]", saddle.problem(), horizon=5)
    assert relative_error(solved.d_theta, saddle.d_theta()) < 1e-8 and solved.diagnostics["residual"] < 1e-8
    lost = gradient("implicit[solver=neumann,damping=0]", saddle.problem(), horizon=5)
    assert lost.diagnostics["residual"] > 0.1
    assert any("the linear system is not solved" in warning for warning in lost.warnings)


def test_a_series_that_leaves_the_finite_numbers_is_an_error_that_says_so() -> None:
    with pytest.raises(l2t.Diverged, match="solution is not finite: more damping, or another solver") as caught:
        gradient("implicit[solver=neumann,alpha=1000,iterations=200]", Bowl().problem(), horizon=5)
    length, residual = caught.value.history
    assert caught.value.step == 5 and length > 0 and not math.isfinite(residual)


def test_implicit_refuses_where_training_rests_at_no_stationary_point() -> None:
    for optimizer in (Adam(0.01, weight_decay=0.1, decoupled=True), SGD(0.1, groups=(Group("*.bias", lr=0),))):
        with pytest.raises(Refused, match="rest"):
            gradient("implicit", random_problem(optimizer=optimizer))
    for optimizer in (Adam(0.01, weight_decay=0.1), Adam(0.01, decoupled=True), SGD(0.1, clip=0.1)):
        assert l2t.load_backend("implicit").supports(random_problem(optimizer=optimizer), 10)


# -- one-step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(0.3),
        SGD(0.1, 0.9, weight_decay=0.05, nesterov=True),
        SGD(0.3, 0.9, clip=0.05, groups=(Group("*.bias", lr=2.0),)),
        Adam(0.01, weight_decay=0.1, decoupled=True),
    ],
    ids=["plain", "Nesterov", "clipped, in groups", "AdamW"],
)
def test_one_step_tends_to_the_derivative_of_the_last_step_with_the_square_of_epsilon(optimizer: Any) -> None:
    problem = random_problem(optimizer=optimizer)
    true = gradient("truncated[window=1]", problem).d_theta
    errors = [
        relative_error(gradient(f"one-step[epsilon={epsilon}]", problem).d_theta, true) for epsilon in (0.4, 0.2, 0.1)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15) and errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    assert relative_error(gradient("one-step[epsilon=1e-4]", problem).d_theta, true) < 1e-8


def test_a_last_step_that_does_not_move_the_student_is_said() -> None:
    problem = random_problem(optimizer=SGD(lambda index, horizon: 0.0 if index == horizon - 1 else 0.3))
    result = gradient("one-step", problem)
    assert result.exactness is Exactness.FINITE_DIFFERENCE
    assert all(not tensor.any() for tensor in result.d_theta.values())
    assert "the last step does not move the student" in result.warnings[0]


# -- forward -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("student", "optimizer"),
    [(restless(), SGD(0.1, 0.9, weight_decay=0.05, nesterov=True)), (None, Adam(0.01, clip=0.05))],
    ids=["BatchNorm and dropout under Nesterov", "Adam, clipped"],
)
def test_forward_along_every_entry_of_theta_is_the_exact_gradient_and_says_so(student: Any, optimizer: Any) -> None:
    problem = random_problem(student=student, optimizer=optimizer, keys=1)
    found, true = gradient("forward[directions=100]", problem, 5), gradient("rmd", problem, 5)
    assert found.exactness is Exactness.EXACT
    assert found.diagnostics["directions"] == sum(tensor.numel() for tensor in true.d_theta.values()) < 100
    assert relative_error(found.d_theta, true.d_theta) < 1e-12
    for name, buffer in true.final.buffers.items():
        assert torch.allclose(found.final.buffers[name], buffer, rtol=0, atol=1e-14), name


def test_forward_along_a_few_directions_is_the_gradients_projection_on_them() -> None:
    problem = random_problem()
    found, true = gradient("forward[directions=3]", problem), gradient("rmd", problem).d_theta
    drawn = [standard_normal(true, 0, index, 67) for index in range(3)]
    assert found.exactness is Exactness.STOCHASTIC
    assert relative_error(found.d_theta, projected(true, drawn)) < 1e-12
    assert found.diagnostics["standard_error"] > 0


def test_the_mean_of_such_projections_is_the_gradient_within_its_standard_error() -> None:
    true = gradient("rmd", random_problem(keys=1)).d_theta
    parts = [projected(true, [standard_normal(true, seed, 0, 67)]) for seed in range(4000)]
    stacked = torch.stack([torch.cat([part[name].reshape(-1) for name in sorted(part)]) for part in parts])
    expected = torch.cat([true[name].reshape(-1) for name in sorted(true)])
    z = (stacked.mean(0) - expected) / (stacked.std(0) / math.sqrt(len(parts)))
    assert float(z.abs().max()) < 4, "17 entries: a right estimate passes 99.9 times in 100"


class Distances(nn.Linear):
    """A layer whose kernel has no forward mode in torch."""

    def forward(self, inputs: Tensor) -> Tensor:
        return -torch.cdist(inputs, self.weight)


class Attentive(nn.Module):
    """A Transformer layer over three copies of the inputs, with dropout inside its attention."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.3, batch_first=True)
        self.head = nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.layer(torch.stack([inputs, inputs.sin(), inputs.cos()], 1)).mean(1))


def attentive_problem() -> TeachingProblem:
    problem = random_problem(student=Attentive())

    def init(seed: int) -> TensorDict:
        return scaled(0.3, standard_normal(dict(problem.student.named_parameters()), seed, 3))

    return dataclasses.replace(problem, init=init)


def test_a_layer_without_forward_mode_is_refused_by_name() -> None:
    with pytest.raises(Refused, match=r"no forward mode for this student \(Distances: .*_cdist_forward") as caught:
        gradient("forward", random_problem(student=Distances(6, 4, bias=False)))
    assert caught.value.instead == "rmd, with hvp=ror, needs none"


def test_forward_refuses_dropout_inside_attention_and_the_others_do_it() -> None:
    with pytest.raises(Refused, match="it draws other random numbers"):
        gradient("forward", attentive_problem(), horizon=4)
    true = gradient("truncated[window=1]", attentive_problem(), horizon=4).d_theta
    assert relative_error(gradient("one-step[epsilon=1e-4]", attentive_problem(), horizon=4).d_theta, true) < 1e-8
    for backend in ("implicit", "evolution[population=4]"):
        assert gradient(backend, attentive_problem(), horizon=4).d_theta


# -- evolution ---------------------------------------------------------------------------------------------------------


def projected(true: Tensors, directions: Sequence[Tensors]) -> TensorDict:
    return mean_of([scaled(inner(true, direction), direction) for direction in directions])


def noise_of(theta: Tensors, members: int, window: int = 0) -> list[TensorDict]:
    return [standard_normal(theta, 0, member, window, 71) for member in range(members)]


def test_mirrored_pairs_of_an_objective_linear_in_theta_know_no_error_of_sigma() -> None:
    quadratic = Quadratic()
    true = gradient("rmd", quadratic.problem(), horizon=6).d_theta
    for sigma in (0.01, 10):
        found = gradient(f"evolution[sigma={sigma},population=8]", quadratic.problem(), horizon=6).d_theta
        assert relative_error(found, projected(true, noise_of(true, 4))) < 1e-10


@pytest.mark.parametrize("window", [None, 3])
def test_small_mirrored_noise_projects_the_gradient_of_the_recorded_run(window: int | None) -> None:
    """With BatchNorm, dropout and s_t as they were recorded: what moves is theta alone."""
    problem = random_problem(student=restless())
    true = gradient("rmd" if window is None else f"truncated[window={window}]", problem).d_theta
    found = gradient(f"evolution[sigma=1e-3,population=8,window={window}]", problem)
    assert relative_error(found.d_theta, projected(true, noise_of(true, 4))) < 1e-5
    assert found.diagnostics["rollouts"] == 8


def test_persistent_strategies_with_one_window_are_mirrored_pairs() -> None:
    problem = random_problem()
    pairs, persistent = (
        gradient(f"evolution[estimator={name},population=4,window=12]", problem) for name in ("antithetic", "pes")
    )
    assert relative_error(persistent.d_theta, pairs.d_theta) < 1e-12


SIGMA, HORIZON = 0.8, 4


class Fixed(nn.Module):
    """A student of two parameters, begun alike for every seed, so that the seed of a run moves its noise alone."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def reset_parameters(self) -> None:
        nn.init.constant_(self.w, 0.3)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(inputs @ self.w)


def small_problem() -> TeachingProblem:
    """theta is one number, and M~ far from linear in it over the reach of the noise."""
    inputs = torch.randn(6, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    batch = inputs, torch.sign(inputs[:, 0] + 0.3 * inputs[:, 1])
    return TeachingProblem(
        student=Fixed(),
        teacher=nn.Linear(1, 1, bias=False).double(),
        loss=lambda output, target, phi: (torch.sigmoid(2 * phi) * (output - target) ** 2).mean(),
        objective=lambda output, target: -((output - 0.6 * target) ** 2).mean(),
        optimizer=SGD(0.6, 0.5),
        train=lambda index, seed: batch,
        dev=batch,
        features=lambda view: torch.ones(1, dtype=torch.float64),
        name="small",
    )


THETA = {"weight": torch.tensor([[-0.5]], dtype=torch.float64)}


def estimate(spec: str, seed: int = 0) -> tuple[float, float]:
    """An estimate of the derivative, and its standard error."""
    problem = small_problem()
    result = l2t.load_backend(f"evolution[sigma={SIGMA},{spec}]").teacher_gradient(
        problem, THETA, horizon=HORIZON, seed=seed
    )
    found = result.d_theta["weight"].item()
    return found, result.diagnostics["standard_error"] * abs(found)


@cache
def recorded_run() -> numeric.RecordedRun:
    problem = small_problem()
    return numeric.RecordedRun(problem, THETA, l2t.record(problem, THETA, horizon=HORIZON), 0)


def objective_under(theta_at: Callable[[int], float]) -> float:
    run = recorded_run()
    return numeric.objective(run, numeric.replay(run, lambda index: {"weight": THETA["weight"] + theta_at(index)}))


def smoothed(group_of: Callable[[int], int | None], groups: int) -> float:
    """E[(sum of the noise) M~] / sigma^2 by Gauss-Hermite quadrature; step t has the noise of its group, or none."""
    points, weights = np.polynomial.hermite_e.hermegauss(24 if groups == 1 else 16)
    weights = weights / weights.sum()
    total = 0.0
    for at in np.ndindex(*[len(points)] * groups):
        noise = [SIGMA * points[index] for index in at]

        def moved(step: int, noise: list[float] = noise) -> float:
            group = group_of(step)
            return 0.0 if group is None else noise[group]

        total += float(np.prod(weights[list(at)])) * sum(noise) * objective_under(moved) / SIGMA**2
    return total


@cache
def whole_run_smoothed() -> float:
    return smoothed(lambda step: 0, 1)


@cache
def window_wise_smoothed() -> float:
    return smoothed(lambda step: step // 2, 2)


def test_the_smoothed_gradients_of_the_small_problem_differ_from_each_other_and_from_the_plain_one() -> None:
    """So that the tests below can tell them apart."""
    plain = l2t.load_backend("rmd").teacher_gradient(small_problem(), THETA, horizon=HORIZON).d_theta["weight"].item()
    last_window = smoothed(lambda step: 0 if step >= 2 else None, 1)
    figures = [plain, whole_run_smoothed(), window_wise_smoothed(), last_window]
    assert min(abs(a / b - 1) for a in figures for b in figures if a != b) > 0.02, figures


@pytest.mark.parametrize(
    ("spec", "true"),
    [
        ("estimator=es,population=1000", whole_run_smoothed),
        ("estimator=antithetic,population=1000", whole_run_smoothed),
        ("estimator=pes,window=2,population=1000", window_wise_smoothed),
    ],
    ids=["es", "antithetic", "pes"],
)
def test_estimates_are_the_gradient_of_the_smoothed_objective_within_their_standard_error(
    spec: str, true: Callable[[], float]
) -> None:
    found, error = estimate(spec)
    assert error < 0.1 * abs(true()), "a standard error that would hide a mistake proves nothing"
    assert abs(found - true()) < 3.5 * error, "a right estimate passes 99.95 times in 100"


def test_truncated_strategies_are_biased_where_persistent_ones_are_not() -> None:
    found, error = estimate("estimator=antithetic,window=2,population=1000")
    for whole in (whole_run_smoothed(), window_wise_smoothed()):
        assert abs(found - whole) > 10 * error
    assert abs(found - smoothed(lambda step: 0 if step >= 2 else None, 1)) < 3.5 * error


def test_the_standard_error_is_the_spread_of_independent_estimates() -> None:
    found = [estimate("population=20", seed=seed) for seed in range(30)]
    values, errors = (torch.tensor(column, dtype=torch.float64) for column in zip(*found, strict=True))
    assert len(values.unique()) == 30, "another student, other noise"
    assert float(values.std() / errors.mean()) == pytest.approx(1, abs=0.4)
    z = (values.mean() - whole_run_smoothed()) / (values.std() / 30**0.5)
    assert abs(float(z)) < 3.5


def test_the_direction_improves_with_the_population() -> None:
    problem = random_problem(keys=1)
    true = gradient("rmd", problem, horizon=4).d_theta
    cosines = [cosine(gradient(f"evolution[population={n}]", problem, horizon=4).d_theta, true) for n in (8, 48, 288)]
    assert cosines == sorted(cosines) and cosines[-1] > 0.9


def test_evolution_climbs_an_objective_that_has_no_derivative() -> None:
    hits = dataclasses.replace(
        random_problem(keys=1), objective=lambda logits, target: (logits.argmax(-1) == target).double().mean()
    )
    result = gradient("evolution[sigma=1,population=20]", hits)
    assert any(tensor.any() for tensor in result.d_theta.values())


def test_an_estimate_that_is_noise_says_so_and_one_that_saw_nothing_too() -> None:
    noisy, sound = (gradient(f"evolution[population={n}]", random_problem(keys=1), 4) for n in (4, 200))
    assert noisy.diagnostics["standard_error"] > 0.9 and "mostly noise" in noisy.warnings[0]
    assert sound.diagnostics["standard_error"] < 0.6 and not sound.warnings
    flat = dataclasses.replace(random_problem(), objective=lambda logits, target: (logits * 0).mean())
    blind = gradient("evolution[population=4]", flat)
    assert "the same for every perturbed student" in blind.warnings[0]


def test_a_perturbed_student_that_diverges_stops_the_estimate_with_the_step() -> None:
    fragile = dataclasses.replace(
        small_problem(), loss=lambda output, target, phi: (torch.exp(40 * phi) * (output - target) ** 2).mean()
    )
    moved = dataclasses.replace(fragile, objective=lambda output, target: torch.log(1 - output.abs().mean()))
    with pytest.raises(l2t.Diverged, match="a student under perturbed theta diverged by step 3: lower sigma"):
        l2t.load_backend("evolution[sigma=10,population=8]").teacher_gradient(moved, THETA, horizon=4)


# -- what they say of themselves reaches people ------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["implicit", "one-step", "evolution[population=4]", "forward"])
def test_predictions_of_seconds_follow_the_horizon(backend: str) -> None:
    scaling = l2t.load_backend(backend).scaling(random_problem(), 10_000)  # type: ignore[attr-defined]
    assert scaling.steps_back == (
        10_000 if backend.startswith("evolution") else {"implicit": 10, "one-step": 1}.get(backend, 0)
    )
    assert not scaling.bytes, "no trajectory is kept"


def test_a_cells_result_keeps_the_warnings_and_has_no_number_that_json_lacks(tmp_path: Path) -> None:
    cell = Cell(
        suite="quick",
        suite_version=1,
        profile="smoke",
        kind="gradient",
        problem="digits/mlp[hidden=4,keys=1,dev=50]",
        method="implicit[damping=0,iterations=3]",
        seed=0,
        task="l2t_bench.engine.gradient_cell:measure",
        settings={"horizons": [4], "repeats": [1]},
    )
    (found,) = measure(cell, Recorder(tmp_path))["runs"]
    assert any("the linear system is not solved" in warning for warning in found["warnings"])
    assert set(found["diagnostics"]) == {"residual", "smallest_ritz"}
