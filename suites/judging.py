"""How a loss is judged: what is chosen on dev, at which lr, and what fresh students reach on test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from l2t_bench.batches import IndexedBatches
from l2t_bench.effective_lr import EffectiveLr, cross_entropy_as_long, effective_lrs
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import Diverged
from l2t_bench.lessons import accuracy_on, choose, teach, with_dev_in_training, with_fixed_loss, with_lr
from l2t_bench.optimizers import Schedule, linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import load_loss
from l2t_bench.suites.controls import CROSS_ENTROPY, UNTRAINED, Fixed, fixed_of
from l2t_bench.suites.settings import OWN, JudgingSettings
from l2t_bench.tensors import TensorDict
from l2t_bench.training import SeedRange

_LR_POINTS = 20  # of a student's training, at which a loss is held to cross entropy
Part = Literal["dev", "test"]


@dataclass(frozen=True)
class Candidate:
    """What is chosen on dev: the loss (empty: the teacher's), and the student lr with how it goes."""

    loss: str
    schedule: str
    lr: float

    def lr_of(self, problem: TeachingProblem) -> TeachingProblem:
        """The problem at this lr."""
        lr: dict[str, Schedule | float] = {"constant": self.lr, "linear": linear_decay(self.lr)}
        return problem if self.schedule == OWN else with_lr(problem, lr[self.schedule])


@dataclass(frozen=True)
class Lesson:
    """How students are taught: on what, under which teacher, or under which fixed loss."""

    problem: TeachingProblem
    theta: TensorDict
    horizon: int

    def under(self, candidate: Candidate) -> TeachingProblem:
        problem = with_fixed_loss(self.problem, load_loss(candidate.loss)) if candidate.loss else self.problem
        return candidate.lr_of(problem)

    def score(self, candidate: Candidate, students: int) -> float:
        """Mean accuracy on dev of so many tuning students."""
        problem, seeds = self.under(candidate), SeedRange.TUNING.seeds(students)
        return fmean(_accuracies(problem, self.theta, self.horizon, seed, ("dev",))["dev"] for seed in seeds)


def judged(
    method: str, problem: TeachingProblem, theta: TensorDict, settings: JudgingSettings, recorder: Recorder
) -> dict[str, Any]:
    """What students reach under a teacher ``theta``, or under the fixed loss that ``method`` names."""
    fixed = fixed_of(method)
    if fixed and fixed.dev_too:
        problem = with_dev_in_training(problem)
    lesson = Lesson(problem, {} if fixed else theta, settings.horizon)
    begun = time.perf_counter()
    with recorder.phase("evaluation"):
        score = partial(lesson.score, students=settings.tuning_students)
        chosen, table = _chosen(candidates(method, fixed, settings), score)
        taught = lesson.under(chosen)
        students = _fresh_students(taught, lesson.theta, settings, ("dev", "test"))
        lrs = _effective_lrs(taught, lesson.theta, settings.horizon)
        as_long = [] if fixed else _of_cross_entropy_as_long(taught, lrs, settings)
    return {
        "loss": _kind_of(method, fixed),
        "chosen": chosen.loss,
        "lr": chosen.lr,
        "schedule": chosen.schedule,
        "lr_grid": [asdict(candidate) | {"dev_accuracy": score} for candidate, score in table.items()],
        "students": students,
        "effective_lr": [asdict(point) | {"effective": point.effective} for point in lrs],
        "cross_entropy_as_long": as_long,
        "horizon": settings.horizon,
        **sizes_of(problem),
        "seconds_students": time.perf_counter() - begun,
    }


def candidates(method: str, fixed: Fixed | None, settings: JudgingSettings) -> list[Candidate]:
    """What a method is tried at: every loss that it may be, under each schedule that it may have, at each lr."""
    if fixed is None:
        grid = settings.untrained_grid if method == UNTRAINED else settings.learned_grid
        return _tried("", settings.learned_schedules, grid, settings.lr)
    found: list[Candidate] = []
    for loss in fixed.losses:
        grid = settings.cross_entropy_grid if loss == CROSS_ENTROPY else settings.fixed_grid
        found += _tried(loss, fixed.schedules or settings.fixed_schedules, grid, settings.lr)
    return found


def _chosen(
    tried: Sequence[Candidate], score: Callable[[Candidate], float]
) -> tuple[Candidate, dict[Candidate, float]]:
    """The best on dev with every score; one that has no rival costs no student."""
    return choose(tried, score) if len(tried) > 1 else (tried[0], {})


def _tried(loss: str, schedules: Sequence[str], grid: Sequence[float], own: float) -> list[Candidate]:
    return [Candidate(loss, schedule, lr) for schedule in schedules for lr in ((own,) if schedule == OWN else grid)]


def _kind_of(method: str, fixed: Fixed | None) -> str:
    if fixed:
        return method
    return "untrained" if method == UNTRAINED else "learned"


def _fresh_students(
    problem: TeachingProblem, theta: TensorDict, settings: JudgingSettings, parts: Sequence[Part]
) -> list[dict[str, Any]]:
    rows = []
    for seed in SeedRange.FRESH.seeds(settings.fresh_students):
        reached = _accuracies(problem, theta, settings.horizon, seed, parts)
        rows.append({"seed": seed} | {f"{part}_accuracy": reached[part] for part in parts})
    return rows


def _accuracies(
    problem: TeachingProblem, theta: TensorDict, horizon: int, seed: int, parts: Sequence[Part]
) -> dict[str, float]:
    """Accuracy of student ``seed`` on dev, test or both; 0 if it diverges."""
    try:
        student = teach(problem, theta, horizon=horizon, seed=seed)
    except Diverged:
        return dict.fromkeys(parts, 0.0)
    return {part: accuracy_on(problem, student, part) for part in parts}


def _effective_lrs(problem: TeachingProblem, theta: TensorDict, horizon: int) -> tuple[EffectiveLr, ...]:
    """Of the first fresh student, at some steps; empty where it diverges."""
    every = max(1, horizon // _LR_POINTS)
    (seed,) = SeedRange.FRESH.seeds(1)
    try:
        return effective_lrs(problem, theta, horizon=horizon, seed=seed, every=every)
    except Diverged:
        return ()


def _of_cross_entropy_as_long(
    problem: TeachingProblem, along: Sequence[EffectiveLr], settings: JudgingSettings
) -> list[dict[str, Any]]:
    """The same fresh students by cross entropy in steps as long; none where it is not known how long they are."""
    if all(point.size is None for point in along):
        return []
    return _fresh_students(cross_entropy_as_long(problem, along), {}, settings, ("test",))


def sizes_of(problem: TeachingProblem) -> dict[str, int]:
    """How many examples each part has."""
    assert isinstance(problem.train, IndexedBatches)  # as in all named problems
    parts = {"train": [problem.train.examples], "dev": problem.dev_batches, "test": problem.test_batches}
    return {name: sum(len(targets) for _, targets in batches) for name, batches in parts.items()}
