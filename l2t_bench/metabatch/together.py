"""The teacher gradients of a meta-batch in one vmapped rollout and one vmapped reverse pass."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from l2t_bench.adjoint import dev_gradient, objective_gradient
from l2t_bench.backend import Run, check_objective, cost_of
from l2t_bench.errors import Diverged, Refused
from l2t_bench.gradient import Cost, TeacherGradient
from l2t_bench.kept_run import There
from l2t_bench.measure import Meter
from l2t_bench.metabatch.contract import of_student
from l2t_bench.metabatch.problem import stacked_problem
from l2t_bench.metabatch.rollout import AllDiverged, StackedRollout, StackedWatch
from l2t_bench.metabatch.stacking import copied, owned, stacked, states_apart, taken_apart
from l2t_bench.optimizers import Adjoint
from l2t_bench.precision import full_float32
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.telling import told_by
from l2t_bench.sweep import Swept
from l2t_bench.tensors import TensorDict, Tensors

if TYPE_CHECKING:
    from l2t_bench.stored import StoredRMD


def taken_together(
    method: "StoredRMD", problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
) -> list[TeacherGradient | Diverged]:
    """The teacher gradients of students ``seeds``, all in one run.

    Each cost has a student's share of the seconds and counts, and the bytes of all of them. Raises ``Refused`` as
    ``teacher_gradient`` does, and whatever torch raises for students that ``vmap`` cannot take.
    """
    meter = Meter(problem.device)
    try_out = method.try_out(problem)
    rollouts = [Rollout(problem, theta, horizon=horizon, seed=seed, try_out=try_out) for seed in seeds]
    verdict = method.supports(problem, horizon)
    if isinstance(verdict, Refused):
        raise verdict
    rollout = StackedRollout(stacked_problem(problem, len(seeds)), rollouts, method.second_order())
    watch = StackedWatch(rollout.students)
    try:
        with torch.enable_grad(), full_float32(problem.device):
            return _differentiated(method, Run(rollout, meter, watch), rollout, watch)
    except AllDiverged:
        return [rollout.students.diverged[at] for at in range(len(seeds))]


def _differentiated(
    method: "StoredRMD", run: Run, rollout: StackedRollout, watch: StackedWatch
) -> list[TeacherGradient | Diverged]:
    students, count = rollout.students, rollout.problem.count
    with method.trained(run) as (store, final):
        with run.meter.phase("dev"):
            values, w_bar = _dev_gradients(rollout, final)
        watch.see(run.horizon, w_bar)
        at_end, w_bars = states_apart(final, count), taken_apart(w_bar, count)
        for at in students.alive:
            try:
                check_objective(values[at], w_bars[at], run.horizon, run.horizon)
            except Diverged as diverged:
                students.lose(at, diverged)
        swept = method.swept(run, store, w_bar)
        told = told_by(store.stepper, rollout.problem.alone)
    cost = _share(cost_of(run.meter), count)
    found: list[TeacherGradient | Diverged] = []
    for at, passage in enumerate(_swept_apart(swept, count)):
        if at in students.diverged:
            found.append(students.diverged[at])
            continue
        there = There(values[at], owned(at_end[at]), w_bars[at])
        derivative = told.with_result(method.derivative(run.horizon, there, passage))
        try:
            found.append(method.result(rollout.rollouts[at], derivative, watch.norms_of(at), cost))
        except Diverged as diverged:
            found.append(of_student(diverged, students.seeds[at]))
    return found


def _dev_gradients(rollout: StackedRollout, final: StudentState) -> tuple[list[float], TensorDict]:
    """M~ and w_bar of every student; one by one where each has dev batches of its own."""
    problem, horizon = rollout.problem, rollout.horizon
    if problem.alone.prepare_dev is None:
        values, w_bar = objective_gradient(problem, final, problem.alone.dev_batches)
        return values.tolist(), w_bar
    states = states_apart(final, problem.count)
    found = [dev_gradient(own, state, horizon) for own, state in zip(rollout.rollouts, states, strict=True)]
    return [value for value, _ in found], stacked([w_bar for _, w_bar in found])


def _swept_apart(swept: Swept, count: int) -> list[Swept]:
    """What a sweep of N students found, of each; in memory of its own."""
    slots = {name: taken_apart(held, count) for name, held in swept.adjoint.slots.items()}
    parts = zip(taken_apart(swept.d_theta, count), taken_apart(swept.adjoint.params, count), strict=True)
    return [
        Swept(
            copied(d_theta),
            Adjoint(copied(params), {name: held[at] for name, held in slots.items()}),
            {name: tensor[..., at].clone() for name, tensor in swept.hyper.items()},
        )
        for at, (d_theta, params) in enumerate(parts)
    ]


def _share(cost: Cost, count: int) -> Cost:
    """A student's share of what all of them took: of the seconds. Each stacked step is a step of its own, too."""
    seconds = {
        name: getattr(cost, name) / count
        for name in ("seconds_forward", "seconds_reverse", "seconds_dev", "seconds_compile")
    }
    return replace(cost, **seconds)
