"""Algorithm 1: train a teacher by teacher gradients.

Student seeds come from disjoint ranges, so that no student that judges has been trained on: see ``SeedRange``.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from enum import IntEnum
from statistics import fmean, pstdev
from typing import Literal, Protocol

import torch

from l2t_bench.errors import Diverged, UserError
from l2t_bench.fitting import check_fits
from l2t_bench.gradient import Cost, TeacherGradient, TeacherGradientBackend
from l2t_bench.health import said
from l2t_bench.lessons import accuracy_on, teach
from l2t_bench.metabatch.contract import for_students, teacher_gradients
from l2t_bench.peaks import PhasePeak
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, global_norm, mean_of


class Phases(Protocol):
    """What keeps the time and memory of a training by phase; a cell's recorder is one."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A block that belongs to phase ``name``: teacher update or evaluation."""
        ...

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        """What a teacher gradient has measured of itself: rollout, dev or reverse."""
        ...


class _NoPhases:
    """Nobody asked."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        del name
        return nullcontext()

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        pass


class SeedRange(IntEnum):
    """Where the student seeds of each purpose begin; a range holds a million of them."""

    TRAINING = 0  # students that teacher gradients are taken of
    SELECTION = 1_000_000  # students that choose among teachers, on dev
    TUNING = 2_000_000  # students that choose a learning rate, on dev
    FRESH = 3_000_000  # students that a result is reported on
    WARM_START = 4_000_000  # students whose last parameters others begin with

    def seeds(self, count: int, first: int = 0) -> range:
        """``count`` seeds of this range, from its ``first``-th on."""
        if not 0 <= first <= first + count <= 1_000_000:
            raise UserError(f"a seed range holds a million seeds, not {first} ... {first + count}")
        return range(self + first, self + first + count)


@dataclass(frozen=True)
class TeacherOptimizer:
    """How theta climbs: torch's Adam, its lr constant or falling linearly to zero over the outer steps.

    The paper's is Adam(1e-4, 0.9, 0.999), constant (appendix B.4); the default is the one that was found to teach.
    """

    lr: float = 0.003
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["linear", "constant"] = "linear"
    clip: float | None = 1.0  # bound on each student's |d_theta|, before averaging

    def __post_init__(self) -> None:
        if not self.lr > 0 or (self.clip is not None and not self.clip > 0):
            raise UserError("the teacher's lr and clip must be positive")
        if self.schedule not in ("linear", "constant"):
            raise UserError(f"the teacher's schedule is linear or constant, not {self.schedule!r}")

    def lr_at(self, outer_step: int, outer_steps: int) -> float:
        return self.lr * (1 - outer_step / outer_steps) if self.schedule == "linear" else self.lr


@dataclass(frozen=True)
class Selection:
    """Held-out students that judge the teacher on dev every ``every`` outer steps, the untrained one included."""

    every: int = 20
    students: int = 16


@dataclass(frozen=True)
class OuterStep:
    """One teacher optimisation step: the mean M~ of its students before the step, and the gradient it climbed."""

    outer_step: int
    value: float
    gradient_norm: float  # of the mean over students, before clipping
    noise: float | None  # standard error of that mean between students, as a norm; None for one student
    moved: float  # |theta after - theta before|
    diverged: int  # students left out because they, or their adjoints, were not finite
    seconds: float  # of the teacher gradients
    adjoint_growth: float | None = None  # |w_bar_0| / |w_bar_T|, the largest of its students; None where none tells
    exploded: int = 0  # students whose adjoint exploded
    died: int = 0  # students whose adjoint died
    adjoint_said: str = ""  # whether the gradients are usable as far as their adjoints tell; empty without any
    warnings: tuple[str, ...] = ()  # what must be known to trust the gradients, each once


@dataclass(frozen=True)
class Judged:
    """Dev accuracy of held-out students under the teacher as it stood before ``outer_step``."""

    outer_step: int
    dev_accuracy_mean: float
    dev_accuracy_std: float

    @property
    def score(self) -> float:
        """Mean minus standard deviation: a teacher that fails some students is not the better one."""
        return self.dev_accuracy_mean - self.dev_accuracy_std


@dataclass(frozen=True)
class TeacherTraining:
    """What came of Algorithm 1."""

    theta: TensorDict  # the best by held-out students; the last where none judged
    last_theta: TensorDict
    curve: tuple[OuterStep, ...]
    selection: tuple[Judged, ...] = ()
    selected_outer_step: int = 0
    travelled: float = 0.0  # |last theta - first theta|: set against the sum of what the steps moved
    seconds: float = 0.0  # of all of it, held-out students included


@dataclass
class _Climb:
    """theta on its way, with the optimiser that moves it: the only state of a training."""

    theta: TensorDict
    settings: TeacherOptimizer
    optimizer: torch.optim.Adam = field(init=False)

    def __post_init__(self) -> None:
        self.theta = {name: tensor.detach().clone().requires_grad_() for name, tensor in self.theta.items()}
        self.optimizer = torch.optim.Adam(
            list(self.theta.values()), lr=self.settings.lr, betas=self.settings.betas, maximize=True
        )

    def step(self, d_theta: Tensors, lr: float) -> float:
        """Climb, and say how far theta moved."""
        before = self.snapshot()
        for name, tensor in self.theta.items():
            tensor.grad = d_theta[name].to(tensor).clone()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return distance(self.snapshot(), before)

    def snapshot(self) -> TensorDict:
        return {name: tensor.detach().clone() for name, tensor in self.theta.items()}


def train_teacher(
    problem: TeachingProblem,
    backend: TeacherGradientBackend,
    *,
    outer_steps: int,
    horizon: int,
    students: int = 1,
    optimizer: TeacherOptimizer | None = None,
    selection: Selection | None = None,
    theta: Tensors | None = None,
    seed: int = 0,
    on_outer_step: Callable[[OuterStep], None] | None = None,
    phases: Phases | None = None,
    memory_limit: int | str | None = None,
) -> TeacherTraining:
    """Algorithm 1: each outer step teaches ``students`` fresh students and climbs the mean of their teacher gradients.

    Each student's d_theta is clipped to norm ``optimizer.clip`` before averaging: on some rollouts it explodes. One
    that diverges is left out and counted; a step that loses all its students leaves theta where it is. ``theta`` is the
    start (``init_teacher(seed)`` if left out) and is not changed. ``phases`` is told where the time goes.

    ``memory_limit``: what the teacher gradients of an outer step may take above what is held when they begin, in bytes
    or as text such as ``"20GB"``; ``check_fits`` then looks before the first outer step, by some short runs of the
    student. Left out, nothing is looked at and no run is made.

    Raises ``UserError`` for numbers that are not positive, ``Refused`` for gradients that will not fit below
    ``memory_limit``, ``Diverged`` when every student of every step diverged.
    """
    if outer_steps < 1 or students < 1:
        raise UserError(f"outer_steps and students must be at least 1, not {outer_steps} and {students}")
    if memory_limit is not None:
        check_fits(for_students(backend, students), problem, horizon, memory_limit)
    begun = time.perf_counter()
    settings = optimizer or TeacherOptimizer()
    climb = _Climb(dict(theta) if theta is not None else problem.init_teacher(seed), settings)
    first = climb.snapshot()
    candidates: list[tuple[Judged, TensorDict]] = []
    curve: list[OuterStep] = []
    watch = phases or _NoPhases()

    def consider(outer_step: int, judges: int) -> None:
        with watch.phase("evaluation"):
            candidates.append((judge(problem, climb.snapshot(), outer_step, horizon, judges), climb.snapshot()))

    for index in range(outer_steps):
        if selection and index % selection.every == 0:
            consider(index, selection.students)
        seeds = SeedRange.TRAINING.seeds(students, first=(seed * outer_steps + index) * students)
        results = _gradients(problem, backend, climb.snapshot(), horizon, seeds, watch)
        with watch.phase("teacher update"):
            record = _outer_step(index, results, len(seeds))
            if results:
                d_theta = mean_of([clipped(result.d_theta, settings.clip) for result in results])
                record = replace(record, moved=climb.step(d_theta, settings.lr_at(index, outer_steps)))
        curve.append(record)
        if on_outer_step:
            on_outer_step(record)
    if all(record.diverged == students for record in curve):
        raise Diverged("every student of every outer step diverged: lower the student's lr, or let it decay to zero")
    last = climb.snapshot()
    if not selection:
        seconds = time.perf_counter() - begun
        return TeacherTraining(last, last, tuple(curve), (), outer_steps, distance(last, first), seconds)
    consider(outer_steps, selection.students)
    best, best_theta = max(candidates, key=lambda candidate: candidate[0].score)
    selected = tuple(judged for judged, _ in candidates)
    seconds = time.perf_counter() - begun
    return TeacherTraining(best_theta, last, tuple(curve), selected, best.outer_step, distance(last, first), seconds)


def _gradients(
    problem: TeachingProblem,
    backend: TeacherGradientBackend,
    theta: TensorDict,
    horizon: int,
    seeds: Sequence[int],
    watch: Phases,
) -> list[TeacherGradient]:
    """The teacher gradients of the students that do not diverge."""
    begun = time.perf_counter()
    taken = teacher_gradients(backend, problem, theta, horizon=horizon, seeds=seeds)
    seconds = time.perf_counter() - begun
    results = [found for found in taken if isinstance(found, TeacherGradient)]
    for result in results:
        _add_cost(watch, result.cost)
    if len(results) < len(taken):  # the others left no cost, and most are lost going forward
        told = sum(result.cost.seconds + result.cost.seconds_compile for result in results)
        watch.add_phase("rollout", max(0.0, seconds - told))
    return results


def _add_cost(watch: Phases, cost: Cost) -> None:
    for name, phase in cost.phases.items():
        watch.add_phase(phase, getattr(cost, f"seconds_{name}"), cost.peaks.get(name))


def _outer_step(index: int, results: Sequence[TeacherGradient], students: int) -> OuterStep:
    """What an outer step is before theta has moved; zeros where all its students diverged."""
    seconds, raw = sum(result.cost.seconds for result in results), [result.d_theta for result in results]
    if not raw:
        return OuterStep(index, 0.0, 0.0, None, 0.0, students, seconds)
    value, norm = fmean(result.value for result in results), global_norm(mean_of(raw))
    healths = [result.health for result in results if result.health is not None]
    return OuterStep(
        index,
        value,
        norm,
        standard_error(raw),
        0.0,
        students - len(raw),
        seconds,
        adjoint_growth=max((h.growth for h in healths if math.isfinite(h.growth)), default=None),
        exploded=sum(health.exploded_at is not None for health in healths),
        died=sum(health.died_at is not None for health in healths),
        adjoint_said=said(*healths),
        warnings=tuple(dict.fromkeys(warning for result in results for warning in result.warnings)),
    )


def distance(left: Tensors, right: Tensors) -> float:
    """|left - right| over all entries together."""
    return global_norm({name: tensor - right[name] for name, tensor in left.items()})


def standard_error(gradients: Sequence[Tensors]) -> float | None:
    """Of the mean of several gradients, entries taken together: sqrt(sum of variances / n); ``None`` for one alone."""
    if len(gradients) < 2:
        return None
    mean = mean_of(gradients)
    squares = sum(distance(gradient, mean) ** 2 for gradient in gradients)
    return float((squares / (len(gradients) - 1) / len(gradients)) ** 0.5)


def clipped(tensors: TensorDict, bound: float | None) -> TensorDict:
    """``tensors`` scaled to norm ``bound`` where they are longer."""
    norm = global_norm(tensors)
    if bound is None or norm <= bound:
        return tensors
    return {name: tensor * (bound / norm) for name, tensor in tensors.items()}


def judge(problem: TeachingProblem, theta: Tensors, outer_step: int, horizon: int, students: int) -> Judged:
    """Dev accuracy of the held-out students under ``theta``; one that diverges counts as 0."""
    scores = []
    for seed in SeedRange.SELECTION.seeds(students):
        try:
            scores.append(accuracy_on(problem, teach(problem, theta, horizon=horizon, seed=seed)))
        except Diverged:
            scores.append(0.0)
    return Judged(outer_step, fmean(scores), pstdev(scores))
