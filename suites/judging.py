"""How a loss is judged: what is chosen on dev, at which lr, and what fresh students reach on test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from l2t_bench.batches import IndexedBatches
from l2t_bench.effective_lr import effective_lrs
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

    def accuracies(self, seed: int, candidate: Candidate, parts: Sequence[Part]) -> dict[str, float]:
        """Accuracy of student ``seed`` on dev, test or both; 0 if it diverges."""
        problem = self.under(candidate)
        try:
            student = teach(problem, self.theta, horizon=self.horizon, seed=seed)
        except Diverged:
            return dict.fromkeys(parts, 0.0)
        return {part: accuracy_on(problem, student, part) for part in parts}


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
        chosen, table = _chosen(candidates(method, fixed, settings), partial(_tuning_score, lesson, settings))
        students = [
            _student_row(seed, lesson.accuracies(seed, chosen, ("dev", "test")))
            for seed in SeedRange.FRESH.seeds(settings.fresh_students)
        ]
        lrs = _effective_lrs(lesson, chosen)
    return {
        "loss": _kind_of(method, fixed),
        "chosen": chosen.loss,
        "lr": chosen.lr,
        "schedule": chosen.schedule,
        "lr_grid": [asdict(candidate) | {"dev_accuracy": score} for candidate, score in table.items()],
        "students": students,
        "effective_lr": lrs,
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


def _tuning_score(lesson: Lesson, settings: JudgingSettings, candidate: Candidate) -> float:
    seeds = SeedRange.TUNING.seeds(settings.tuning_students)
    return fmean(lesson.accuracies(seed, candidate, ("dev",))["dev"] for seed in seeds)


def _student_row(seed: int, accuracies: dict[str, float]) -> dict[str, Any]:
    return {"seed": seed, "dev_accuracy": accuracies["dev"], "test_accuracy": accuracies["test"]}


def _effective_lrs(lesson: Lesson, chosen: Candidate) -> list[dict[str, Any]]:
    """Of the first fresh student, at some steps; empty where it diverges."""
    every = max(1, lesson.horizon // _LR_POINTS)
    (seed,) = SeedRange.FRESH.seeds(1)
    try:
        found = effective_lrs(lesson.under(chosen), lesson.theta, horizon=lesson.horizon, seed=seed, every=every)
    except Diverged:
        return []
    return [asdict(point) | {"effective": point.effective} for point in found]


def sizes_of(problem: TeachingProblem) -> dict[str, int]:
    """How many examples each part has."""
    assert isinstance(problem.train, IndexedBatches)  # as in all named problems
    parts = {"train": [problem.train.examples], "dev": problem.dev_batches, "test": problem.test_batches}
    return {name: sum(len(targets) for _, targets in batches) for name, batches in parts.items()}
