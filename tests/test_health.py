"""The health of the adjoint: the norms are those of the derivative by omega_t, and what is said of them is so."""

import dataclasses
import math
from typing import Any

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.errors import Diverged, UserError
from l2t_bench.gradient import TeacherGradient
from l2t_bench.health import END_ALONE, NONE_TO_WATCH, SOUND, AdjointHealth, AdjointWatch, health_of, history, said
from l2t_bench.metabatch.contract import teacher_gradients
from l2t_bench.optimizers import SGD
from l2t_bench.problem import TeachingProblem
from l2t_bench.verification.samples import general_theta, random_batch, random_problem

BACKWARDS = ("rmd", "rmd[store=sqrt]", "rmd[hvp=for]", "functorch", "higher", "torchopt", "torchopt[api=meta]")
"""The methods that go back step by step, whatever their way."""


@pytest.mark.parametrize("backend", BACKWARDS)
def test_every_method_that_goes_back_gives_the_same_norms_at_every_step(backend: str) -> None:
    problem = random_problem(optimizer=SGD(lr=0.3))
    theta = general_theta(problem)
    result = l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=15)
    health = result.health
    assert health is not None and health.first == 0 and len(health.norms) == 16
    reference = l2t.load_backend("functorch").teacher_gradient(problem, theta, steps=result.steps)
    assert reference.health is not None and reference.d_omega0 is not None
    assert health.norms == pytest.approx(reference.health.norms, rel=1e-11)
    flat = torch.cat([tensor.reshape(-1) for tensor in reference.d_omega0.values()])
    assert health.norms[0] == pytest.approx(float(flat.norm()), rel=1e-11), "at omega_0 it is the norm of d_omega0"


def test_a_truncated_method_knows_the_norms_of_its_window_and_the_one_at_its_cut() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    exact = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=20)
    found = l2t.load_backend("truncated[window=6]").teacher_gradient(problem, theta, steps=exact.steps)
    assert found.health is not None and exact.health is not None
    assert found.health.first == 14 and found.health.norms == pytest.approx(exact.health.norms[14:], rel=1e-12)
    assert found.diagnostics["w_bar_at_cut"] == pytest.approx(exact.health.norms[14], rel=1e-12)
    share = exact.health.norms[14] / exact.health.norms[20]
    assert found.diagnostics["cut_share"] == pytest.approx(share, rel=1e-12)


NOT_WALKED = ("one-step", "forward", "implicit", "torchopt-implicit")


@pytest.mark.parametrize("backend", NOT_WALKED)
def test_a_method_that_does_not_go_back_tells_the_adjoint_at_the_end_and_says_that_it_is_all(backend: str) -> None:
    problem = random_problem()
    theta = general_theta(problem)
    exact = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=12)
    result = l2t.load_backend(backend).teacher_gradient(problem, theta, steps=exact.steps)
    assert exact.health is not None and result.health is not None
    assert result.health.first == 12 and result.health.norms == pytest.approx(exact.health.norms[-1:], rel=1e-12)
    assert result.adjoint_said == "no adjoint is walked back: its length at the last step is all that is known"
    assert result.health.warning == "" and math.isnan(result.health.growth), "nothing has grown, and nothing is sound"


def test_a_black_box_has_no_adjoint_to_tell_of() -> None:
    problem = random_problem()
    result = l2t.load_backend("evolution[population=4]").teacher_gradient(problem, general_theta(problem), horizon=12)
    assert result.health is None
    assert result.adjoint_said == "no adjoint is walked back: none to watch", "in words, and no empty cell"


@pytest.mark.parametrize("backend", l2t.list_backends())
def test_every_result_says_in_words_whether_its_gradient_is_usable(backend: str) -> None:
    problem = random_problem(optimizer=SGD(lr=0.3))
    result = l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=12)
    expected = NONE_TO_WATCH if backend == "evolution" else END_ALONE if backend in NOT_WALKED else SOUND
    assert result.adjoint_said == expected


def test_of_several_results_the_first_warning_counts_and_then_any_adjoint() -> None:
    calm, dead, end = AdjointHealth(0, (1.0, 1.0)), AdjointHealth(0, (0.0, 0.0)), AdjointHealth(9, (1.0,))
    assert said(None, calm, dead) == dead.warning
    assert said(None, end, calm) == SOUND and said(None, end) == END_ALONE
    assert said(None, None) == said() == NONE_TO_WATCH


def test_an_explosion_is_named_by_the_step_where_it_begins() -> None:
    calm = [1.0] * 30
    grown = [3.0**power for power in range(20, 0, -1)]  # t = 0 ... 19, three times a step on the way back
    health = AdjointHealth(0, (*grown, *calm))
    assert health.exploded_at is not None and 10 <= health.exploded_at <= 13, "ten steps of it, then it is said"
    assert f"explodes at step {health.exploded_at}" in health.warning
    assert AdjointHealth(0, tuple(calm)).exploded_at is None and AdjointHealth(0, tuple(calm)).warning == ""


def test_growth_below_the_set_factor_is_no_explosion_before_it_is_large_in_all() -> None:
    slow = tuple(1.9**power for power in range(60, -1, -1))
    assert AdjointHealth(37, slow[37:]).exploded_at is None
    grown = AdjointHealth(0, slow)
    assert 1.9 ** (60 - 34) > 1e7 > 1.9 ** (60 - 35) and grown.exploded_at == 34
    assert "explodes at step 34 (more than 10,000,000 times since the last step)" in grown.warning
    assert AdjointHealth(0, tuple(2.1**power for power in range(60, -1, -1))).exploded_at == 50


@pytest.mark.parametrize("steps", range(1, 6))
def test_over_a_few_steps_a_rate_means_nothing_and_a_thousandfold_does(steps: int) -> None:
    tripled = tuple(3.0**power for power in range(steps, -1, -1))
    assert AdjointHealth(0, tripled).exploded_at is None and AdjointHealth(0, tripled).warning == ""
    steep = (1025.0, *[1.0] * steps)
    assert AdjointHealth(0, steep).exploded_at == 0
    told = "1 step)" if steps == 1 else f"{steps} steps)"
    assert f"explodes at step 0 (more than 1,024 times over {told}" in AdjointHealth(0, steep).warning


@pytest.mark.parametrize("steps", range(1, 6))
def test_a_short_run_dies_only_where_something_of_theta_is_lost(steps: int) -> None:
    halved = tuple(0.5**power for power in range(steps, -1, -1))
    assert AdjointHealth(0, halved).warning == ""
    assert AdjointHealth(0, (0.0, *[1.0] * steps)).warning == "", "theta does nothing before step 0"
    at_cut = AdjointHealth(7, (0.0, *[1.0] * steps))
    assert at_cut.died_at == 7 and "dies at step 7" in at_cut.warning


def test_a_norm_that_comes_back_has_not_died() -> None:
    assert AdjointHealth(0, (1.0, 1.0, 0.0, 1.0)).died_at is None
    assert AdjointHealth(0, (0.0, 0.0, 1.0, 0.0, 1.0)).died_at == 1


def test_one_norm_alone_is_no_way_back() -> None:
    assert AdjointHealth(4, (2.0,)).warning == ""


def test_an_objective_that_is_flat_at_the_end_is_said_to_be() -> None:
    health = AdjointHealth(2, (0.0, 0.0, 0.0))
    assert health.exploded_at is None and health.died_at is None
    assert health.warning == "the adjoint is zero at step 4: the objective is flat there"


def test_a_death_is_named_by_the_step_where_nothing_is_left() -> None:
    fading = tuple(0.5**power for power in range(40, -1, -1))  # t = 0 ... 40; below 1e-7 from 24 steps back
    health = AdjointHealth(5, fading)
    assert health.died_at == 5 + 40 - 24
    assert "dies at step 21" in health.warning


def test_the_sample_has_the_first_and_the_last_step() -> None:
    health = AdjointHealth(3, tuple(float(value) for value in range(1000)))
    sample = health.sampled(64)
    assert sample[0] == (3, 0.0) and sample[-1] == (1002, 999.0) and len(sample) == 64
    assert AdjointHealth(0, (1.0, 2.0)).sampled() == [(0, 1.0), (1, 2.0)]


def unstable(lr: float = 3.0) -> TeachingProblem:
    """A student whose loss curves: at this lr its adjoint grows many times over at every step."""

    class Quadratic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))

        def reset_parameters(self) -> None:
            torch.nn.init.ones_(self.w)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.w

    batch = random_batch(0)
    return TeachingProblem(
        student=Quadratic(),
        teacher=torch.nn.Linear(1, 3).double(),
        loss=lambda w, target, phi: (w * w).sum() + 1e-3 * (w * phi).sum(),
        objective=lambda w, target: w.sum(),
        optimizer=SGD(lr=lr),
        train=lambda index, seed: batch,
        dev=batch,
    )


@pytest.mark.parametrize("backend", ["rmd", "rmd[store=sqrt]", "functorch", "higher", "torchopt"])
def test_an_exploding_adjoint_is_warned_of_with_its_step(backend: str) -> None:
    problem = unstable()  # the adjoint is multiplied by 1 - 2 lr = -5 at every step
    result = l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=30)
    assert result.health is not None and result.health.exploded_at == 20
    assert len(result.warnings) == 1 and "explodes at step 20" in result.warnings[0]


@pytest.mark.parametrize("backend", ["rmd", "functorch", "higher", "torchopt"])
def test_an_adjoint_that_is_not_finite_stops_with_the_step_where_it_began_and_the_norms_that_led_there(
    backend: str,
) -> None:
    problem = dataclasses.replace(unstable(), loss=steep)
    with pytest.raises(Diverged, match="adjoint is not finite") as caught:
        l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=8)
    assert caught.value.step is not None and 0 <= caught.value.step < 8
    assert len(caught.value.history) >= 2 and caught.value.history[0] == pytest.approx(3**0.5)


def steep(w: torch.Tensor, target: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """A loss of zero slope and huge curvature where the student stands: it stays, its adjoint does not."""
    return 1e90 * ((w - 1.0) ** 2).sum() + 0 * (w * phi).sum()


def at_rest(w: torch.Tensor, target: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    """A loss at whose minimum the student stands: it stays there, and its adjoint grows fivefold at every step."""
    return ((w - 1.0) ** 2).sum() + 1e-30 * (w * phi).sum()


@pytest.mark.parametrize("backend", [*BACKWARDS, "rmd[store=disk]", "rmd[students=2]"])
def test_an_adjoint_too_long_for_squares_in_float32_is_warned_of_and_not_said_to_be_infinite(backend: str) -> None:
    problem = dataclasses.replace(unstable(), loss=at_rest).to(dtype=torch.float32)
    result = teacher_gradients(l2t.load_backend(backend), problem, problem.init_teacher(0), horizon=35, seeds=(0, 1))[0]
    assert isinstance(result, TeacherGradient) and result.health is not None
    assert result.health.norms[0] == pytest.approx(3**0.5 * 5.0**35, rel=1e-4)
    assert result.health.exploded_at == 25 and "explodes at step 25" in " ".join(result.warnings)
    assert any(float(part.abs().max()) > 0 for part in result.d_theta.values())


@pytest.mark.parametrize("backend", BACKWARDS)
def test_an_adjoint_too_short_for_squares_in_float32_is_not_said_to_be_zero(backend: str) -> None:
    problem = dataclasses.replace(unstable(0.1), loss=at_rest, objective=lambda w, target: 1e-30 * w.sum())
    problem = problem.to(dtype=torch.float32)
    result = l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=3)
    assert result.health is not None and result.health.norms[-1] == pytest.approx(3**0.5 * 1e-30, rel=1e-4)
    assert result.health.warning == ""


FLAT = "the adjoint is zero at step 6: the objective is flat there"


@pytest.mark.parametrize(
    "backend",
    [
        *("rmd", "one-step", "forward", "torchopt-implicit", "torchopt-implicit[solver=normal-cg]"),
        *(f"implicit[solver={solver}]" for solver in ("cg", "neumann", "nystrom", "conjugate-residual")),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_objective_is_said_to_be_flat_and_has_a_gradient_of_zeros(backend: str, dtype: torch.dtype) -> None:
    problem = dataclasses.replace(random_problem(), objective=lambda logits, target: 0 * logits.sum()).to(dtype=dtype)
    result = l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=6)
    assert not any(bool(part.any()) for part in result.d_theta.values())
    assert FLAT in result.warnings and result.adjoint_said == FLAT


def test_tangents_that_explode_are_warned_of_with_the_step_from_which_they_do() -> None:
    problem = unstable()  # they are multiplied by 1 - 2 lr = -5 at every step
    result = l2t.load_backend("forward").teacher_gradient(problem, problem.init_teacher(0), horizon=30)
    (warning,) = result.warnings
    assert "derivative by theta explodes from step 10 (more than 1,024 times over 10 steps, and once more" in warning
    assert l2t.load_backend("forward").teacher_gradient(problem, problem.init_teacher(0), horizon=29).warnings == ()


def warmed_up(index: int, horizon: int) -> float:
    """A rate that is next to nothing for fifteen steps."""
    return 1e-8 if index < 15 else 0.1


@pytest.mark.parametrize(
    ("momentum", "lr"), [(0.0, 0.1), (0.99, 0.1), (0.9, l2t.linear_decay(0.1)), (0.0, warmed_up), (0.9, warmed_up)]
)
def test_tangents_that_only_come_to_be_are_not_said_to_explode(momentum: float, lr: Any) -> None:
    problem = random_problem(optimizer=SGD(lr=lr, momentum=momentum))
    result = l2t.load_backend("forward[directions=3]").teacher_gradient(problem, general_theta(problem), horizon=40)
    assert not [warning for warning in result.warnings if "explodes" in warning]


def test_a_tangent_that_is_not_finite_stops_with_the_step_that_made_it_so_and_the_lengths_that_led_there() -> None:
    problem = dataclasses.replace(
        unstable(), loss=lambda w, target, phi: steep(w, target, phi) + (1e-300 * w * phi).sum()
    )
    with pytest.raises(Diverged, match="its derivative by theta is not finite after step") as caught:
        l2t.load_backend("forward").teacher_gradient(problem, problem.init_teacher(0), horizon=70)
    assert caught.value.step is not None and 1 <= caught.value.step < 70
    assert len(caught.value.history) == caught.value.step + 1
    assert not math.isfinite(caught.value.history[-1]) and all(map(math.isfinite, caught.value.history[:-1]))


def test_a_student_that_diverges_leaves_the_losses_that_led_there() -> None:
    problem = dataclasses.replace(
        random_problem(optimizer=SGD(lr=1e150, momentum=0.9)),
        loss=lambda logits, target, phi: phi.diagonal().mean() * logits.square().mean(),
    )
    with pytest.raises(Diverged, match="loss is not finite at step") as caught:
        l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=20)
    assert caught.value.step is not None and len(caught.value.history) == caught.value.step + 1


def test_the_history_is_that_of_the_way_back_its_end_last() -> None:
    assert list(history({3: 1.0, 1: 9.0, 2: 4.0})) == [1.0, 4.0, 9.0]
    assert list(history({step: float(step) for step in range(100)}, limit=3)) == [2.0, 1.0, 0.0]


def test_a_watch_takes_no_second_look_at_a_step() -> None:
    watch = AdjointWatch()
    watch.see(4, {"a": torch.tensor([3.0, 4.0])})
    assert watch.norms() == {4: 5.0}
    watch.see(4, {"a": torch.tensor([0.0, 0.0])})
    watch.see(3, {"a": torch.tensor([1.0, 0.0])})
    assert watch.norms() == {3: 1.0, 4: 5.0}
    assert health_of(AdjointWatch().norms()) is None


def test_a_look_at_the_adjoint_is_at_what_has_come_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[float] = []
    finite = math.isfinite
    monkeypatch.setattr(math, "isfinite", lambda value: looked.append(value) or finite(value))
    watch = AdjointWatch()
    for index in (5, 4, 3):
        watch.see_norm(index, torch.tensor(float(index)))
        watch.check()
    assert looked == [5.0, 4.0, 3.0], "not all over again: a run's looks would take the square of its length"
    watch.see_norm(2, torch.tensor(math.inf))
    with pytest.raises(Diverged, match="from step 2 back") as caught:
        watch.check()
    assert list(caught.value.history) == [5.0, 4.0, 3.0, math.inf]


# -- what cannot be replayed ------------------------------------------------------------------------------------------


class Restless(torch.nn.Module):
    """A student that draws from a generator of its own: torch's seed does not reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)
        self.draw = torch.Generator().manual_seed(3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.linear(inputs) + torch.rand(4, generator=self.draw, dtype=torch.float64)

    def __deepcopy__(self, memo: object) -> "Restless":
        copy = Restless().double()
        copy.load_state_dict(self.state_dict())
        return copy


class Remembering(torch.nn.Module):
    """A student that keeps something between calls, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)
        self.calls = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.linear(inputs) * (1 + 0.01 * self.calls)


@pytest.mark.parametrize("student", [Restless, Remembering])
@pytest.mark.parametrize("backend", ["rmd", "rmd[store=sqrt]", "rmd[hvp=for]", "truncated[window=3]"])
def test_a_student_with_randomness_or_memory_of_its_own_is_caught_by_the_replay(
    backend: str, student: type[torch.nn.Module]
) -> None:
    problem = random_problem(student=student())
    with pytest.raises((UserError, l2t.Refused), match=r"replay|draws other"):
        l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=10)


def test_a_batch_that_changes_when_it_is_read_again_is_caught_at_the_first_replayed_step() -> None:
    class Fleeting:
        """Unpacks into other inputs each time."""

        def __init__(self, index: int) -> None:
            self.index, self.read = index, 0

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> object:
            self.read += 1
            return iter(random_batch(self.index + (1000 * self.read if self.index == 9 else 0)))

    problem = dataclasses.replace(random_problem(), train=lambda index, seed: Fleeting(index))
    with pytest.raises(UserError, match="step 9 cannot be replayed: its loss was"):
        l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=10)
