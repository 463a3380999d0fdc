"""What is read again must be what the run was taken with: every method that reads a step again holds it to its loss."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.problem import TeachingProblem
from l2t_bench.rollout import Rollout, check_replay
from l2t_bench.verification.samples import general_theta, random_batch, random_problem
from l2t_bench.verification.vectors import relative_error

HORIZON = 8
READ_AGAIN = (
    *("rmd", "rmd[store=sqrt]", "rmd[hvp=for]", "truncated[window=6]", "truncated[window=3,every=2]", "one-step"),
    *("implicit", "torchopt-implicit", "forward[directions=2]", "forward[directions=1000]"),
    *("evolution[population=4]", "evolution[estimator=es,population=2]", "evolution[estimator=pes,population=4]"),
)
READ_ONCE = ("rmd[store=graph]", "higher", "torchopt", "torchopt[api=meta]", "functorch", "forward")
"""What is read once cannot be another one: these differentiate the run that was taken."""


class Redrawn:
    """A batch that from step 3 on is drawn anew each time it is read."""

    def __init__(self, index: int) -> None:
        self._index, self._read = index, 0

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Tensor]:
        self._read += 1
        yield from random_batch(self._index + (1000 * self._read if self._index > 2 else 0))


class Restless(nn.Module):
    """A student that draws numbers of its own, at the steps whose batch says so."""

    def __init__(self, when: Callable[[Tensor], bool]) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(6, 7), nn.Linear(7, 4)
        self._when, self._own = when, np.random.default_rng(0)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(inputs))
        if self.training and self._when(inputs):
            hidden = hidden * torch.as_tensor(1 + 0.3 * self._own.standard_normal(hidden.shape))
        out: Tensor = self.out(hidden)
        return out


def redrawing() -> TeachingProblem:
    return dataclasses.replace(random_problem(), train=lambda index, seed: Redrawn(index))


def at_first(inputs: Tensor) -> bool:
    return True


def at_the_last_steps() -> Callable[[Tensor], bool]:
    last = [random_problem().train(index, 0)[0] for index in (HORIZON - 2, HORIZON - 1)]
    return lambda inputs: any(torch.equal(inputs, each) for each in last)


def differentiate(backend: str, problem: TeachingProblem, **given: Any) -> l2t.TeacherGradient:
    how = given or {"horizon": HORIZON}
    return l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), **how)


@pytest.mark.parametrize("backend", READ_AGAIN)
def test_a_batch_that_is_another_one_when_it_is_read_again_is_found_by_whoever_reads_it_again(backend: str) -> None:
    with pytest.raises(l2t.UserError, match=r"step [3-7] cannot be replayed: its loss was"):
        differentiate(backend, redrawing())


@pytest.mark.parametrize("backend", READ_AGAIN)
def test_a_student_with_random_numbers_of_its_own_at_later_steps_is_found_by_whoever_takes_them_again(
    backend: str,
) -> None:
    with pytest.raises(l2t.UserError, match=r"step [67] cannot be replayed: .* draws random numbers"):
        differentiate(backend, random_problem(student=Restless(at_the_last_steps())))


@pytest.mark.parametrize("backend", [*READ_AGAIN, *READ_ONCE, "rmd[store=reversible]"])
def test_a_student_with_random_numbers_of_its_own_is_found_at_the_first_step_whatever_the_method(backend: str) -> None:
    with pytest.raises(l2t.UserError, match=r"step 0 cannot be replayed: .* draws random numbers"):
        differentiate(backend, random_problem(student=Restless(at_first)))


def test_methods_that_read_a_step_once_agree_on_the_run_that_they_took() -> None:
    problem = redrawing()
    theta = general_theta(problem)
    found = {name: l2t.load_backend(name).teacher_gradient(problem, theta, horizon=HORIZON) for name in READ_ONCE}
    for name in set(READ_ONCE) - {"forward"}:
        assert relative_error(found[name].d_theta, found["functorch"].d_theta) < 1e-12, name
    along = found["forward"].d_theta
    assert any(tensor.any() for tensor in along.values())


@pytest.mark.parametrize("backend", [*READ_AGAIN, *READ_ONCE])
def test_a_teacher_that_draws_random_numbers_is_an_error(backend: str) -> None:
    class Random(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, features: Tensor) -> Tensor:
            phi: Tensor = self.inner(features)
            return phi * (1 + 0.3 * torch.randn_like(phi))

    problem = random_problem()
    with pytest.raises(l2t.UserError, match="the teacher gives another phi when it is called again"):
        differentiate(backend, dataclasses.replace(problem, teacher=Random(problem.teacher)))


def test_the_part_of_a_run_that_is_taken_again_may_begin_anywhere() -> None:
    problem = random_problem()
    rollout = Rollout(problem, general_theta(problem), horizon=5)
    state = rollout.initial()
    states = [state]
    for index in range(5):
        step = rollout.step(index, state)
        state, loss = l2t.rollout.student_step(problem, state, step, rollout.phi(step))
        rollout.observe(loss)
        states.append(state)
    for first in range(5):
        check_replay(rollout, states[first], rollout.steps[first:])
    with pytest.raises(l2t.UserError, match="step 2 cannot be replayed"):
        check_replay(rollout, states[3], rollout.steps[2:])


# -- what was handed to a features function ----------------------------------------------------------------------------


def test_features_written_into_those_of_the_step_before_are_an_error_with_the_step() -> None:
    def accumulated(view: Any) -> Tensor:
        held = view.previous if view.previous is not None else torch.zeros(1, dtype=torch.float64)
        held[0] = view.index / view.horizon
        return held

    problem = dataclasses.replace(random_problem(), features=accumulated)
    for backend in ("rmd", "functorch", "evolution"):
        with pytest.raises(
            l2t.UserError, match=r"writes into view\.previous at step 1: .*\(view\.previous\.clone\(\)\)"
        ):
            differentiate(backend, problem)


def test_features_kept_as_they_were_are_none() -> None:
    kept = dataclasses.replace(
        random_problem(),
        features=lambda view: torch.full((1,), 0.5, dtype=torch.float64) if view.previous is None else view.previous,
    )
    steps = differentiate("functorch", kept).steps
    assert all(step.features is steps[0].features for step in steps)
