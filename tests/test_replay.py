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

HORIZON = 8
READ_AGAIN = (
    *("rmd", "rmd[store=sqrt]", "rmd[hvp=for]", "truncated[window=6]", "truncated[window=3,every=2]", "one-step"),
    *("implicit", "torchopt-implicit", "forward[directions=2]", "forward[directions=1000]"),
    *("evolution[population=4]", "evolution[estimator=es,population=2]", "evolution[estimator=pes,population=4]"),
)
READ_ONCE = ("rmd[store=graph]", "higher", "torchopt", "torchopt[api=meta]", "functorch", "forward")
"""These read a step once: a mistake there would not show in their own losses."""


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


@pytest.mark.parametrize("backend", [*READ_AGAIN, *READ_ONCE, "rmd[store=reversible]"])
def test_a_batch_that_is_another_one_when_it_is_read_again_is_an_error_whatever_the_method(backend: str) -> None:
    with pytest.raises(l2t.UserError, match=r"step [34] cannot be replayed|the batch of step 3 has changed by step 8"):
        differentiate(backend, redrawing())


@pytest.mark.parametrize("backend", [*READ_AGAIN, *READ_ONCE])
def test_a_student_with_random_numbers_of_its_own_at_the_last_steps_is_found_whatever_the_method(backend: str) -> None:
    with pytest.raises(l2t.UserError, match=r"step [67] cannot be replayed: .* draws random numbers"):
        differentiate(backend, random_problem(student=Restless(at_the_last_steps())))


@pytest.mark.parametrize("backend", [*READ_AGAIN, *READ_ONCE, "rmd[store=reversible]"])
def test_a_student_with_random_numbers_of_its_own_is_found_at_the_first_step_whatever_the_method(backend: str) -> None:
    with pytest.raises(l2t.UserError, match=r"step 0 cannot be replayed: .* draws random numbers"):
        differentiate(backend, random_problem(student=Restless(at_first)))


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
