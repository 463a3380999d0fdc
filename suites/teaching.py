"""One teaching cell: a loss, its own learning rate chosen on dev, and fresh students judged on test.

The loss is learned by Algorithm 1 with a backend, or it is a control: the untrained teacher, or a fixed loss by its
name. What
departs from the paper is in the settings: a student lr that decays to zero, a sharpened objective (beta = 4), Phi that
starts at 0.3 I, a teacher lr of its own. They were chosen on splits 1 and 2; split 3 is the one that is reported.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from l2t_bench.batches import IndexedBatches
from l2t_bench.data.checksums import data_record
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import Diverged
from l2t_bench.fitting import check_room
from l2t_bench.metabatch.contract import for_students
from l2t_bench.names import split_spec, write_spec
from l2t_bench.optimizers import Schedule, linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem, is_loss, load_backend, load_loss
from l2t_bench.suites.settings import TeachingSettings
from l2t_bench.training import (
    SeedRange,
    Selection,
    TeacherOptimizer,
    TeacherTraining,
    accuracy_on,
    choose,
    teach,
    train_teacher,
    with_fixed_loss,
    with_lr,
)

UNTRAINED, STATIC, CROSS_ENTROPY = "untrained-teacher", "static-teacher", "cross-entropy"
STATIC_BY = "rmd"  # the backend that a Phi is learned by that does not change
Part = Literal["dev", "test"]


@dataclass(frozen=True)
class Lesson:
    """How a student is taught: under which loss, and at which learning rate."""

    problem: TeachingProblem
    theta: dict[str, Any]
    horizon: int

    def accuracies(self, seed: int, lr: Schedule | float, parts: Sequence[Part]) -> dict[str, float]:
        """Accuracy of student ``seed`` on dev, test or both; 0 if it diverges."""
        problem = with_lr(self.problem, lr)
        try:
            student = teach(problem, self.theta, horizon=self.horizon, seed=seed)
        except Diverged:
            return dict.fromkeys(parts, 0.0)
        return {part: accuracy_on(problem, student, part) for part in parts}


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teaching cell: its settings are ``TeachingSettings``."""
    with recorder.phase("data"):
        recorder.data.update(data_record(cell.problem))
    return teaching_cell(cell.method, TeachingSettings(**cell.settings), cell.device, cell.seed, recorder)


def teaching_cell(
    method: str, settings: TeachingSettings, device: str, seed: int, recorder: Recorder
) -> dict[str, Any]:
    """The measurements of one loss: ``method`` is a backend's name, a control's, or a fixed loss's.

    ``static-teacher`` is a Phi that is learned and does not change. The test set is looked at once, by the fresh
    students at the end.
    """
    with recorder.phase("build"):
        problem = build_problem(_problem_of(method, settings), device=device)
    begun = time.perf_counter()
    training = None if method == UNTRAINED or is_loss(method) else _learn(problem, method, settings, seed, recorder)
    trained = time.perf_counter()
    lesson = _lesson(problem, method, settings, training, seed)
    candidates = _candidates(method, settings)
    with recorder.phase("evaluation"):
        chosen, table = choose(candidates, partial(_tuning_score, lesson, candidates, settings))
        students = [
            _student_row(seed, lesson.accuracies(seed, candidates[chosen], ("dev", "test")))
            for seed in SeedRange.FRESH.seeds(settings.fresh_students)
        ]
    sizes = {part: sum(len(targets) for _, targets in batches) for part, batches in _parts(problem).items()}
    return {
        "loss": "untrained" if method == UNTRAINED else method if is_loss(method) else "learned",
        "lr": chosen[1],
        "schedule": chosen[0],
        "lr_grid": [{"schedule": schedule, "lr": lr, "dev_accuracy": score} for (schedule, lr), score in table.items()],
        "students": students,
        "horizon": settings.horizon,
        **sizes,
        **_training_record(training),
        "seconds_training": trained - begun if training else 0.0,
        "seconds_students": time.perf_counter() - trained,
    }


def _problem_of(method: str, settings: TeachingSettings) -> str:
    if method != STATIC:
        return settings.problem
    name, options = split_spec(settings.problem)
    return write_spec(name, {**options, "teacher": "static"})


def _learn(
    problem: TeachingProblem, method: str, settings: TeachingSettings, seed: int, recorder: Recorder
) -> TeacherTraining:
    backend = load_backend(STATIC_BY if method == STATIC else method)
    with recorder.phase("warm-up"):
        check_room(for_students(backend, settings.students), problem, settings.horizon, recorder.memory_limit)
    return train_teacher(
        problem,
        backend,
        outer_steps=settings.outer_steps,
        horizon=settings.horizon,
        students=settings.students,
        optimizer=TeacherOptimizer(lr=settings.teacher_lr),
        selection=Selection(settings.select_every, settings.select_students),
        seed=seed,
        on_outer_step=lambda record: recorder.curve(**asdict(record)),
        phases=recorder,
    )


def _lesson(
    problem: TeachingProblem, method: str, settings: TeachingSettings, training: TeacherTraining | None, seed: int
) -> Lesson:
    if is_loss(method):
        return Lesson(with_fixed_loss(problem, load_loss(method)), {}, settings.horizon)
    theta = training.theta if training else problem.init_teacher(seed)
    return Lesson(problem, theta, settings.horizon)


def _candidates(method: str, settings: TeachingSettings) -> dict[tuple[str, float], Schedule | float]:
    """Schedules by (kind, lr): decaying for all, and constant too for a fixed loss."""
    if is_loss(method):
        grid = settings.cross_entropy_grid if method == CROSS_ENTROPY else settings.fixed_grid
        constant: dict[tuple[str, float], Schedule | float] = {("constant", lr): lr for lr in grid}
        return {**constant, **{("linear", lr): linear_decay(lr) for lr in grid}}
    grid = settings.untrained_grid if method == UNTRAINED else settings.learned_grid
    return {("linear", lr): linear_decay(lr) for lr in grid}


def _tuning_score(
    lesson: Lesson,
    candidates: dict[tuple[str, float], Schedule | float],
    settings: TeachingSettings,
    candidate: tuple[str, float],
) -> float:
    seeds = SeedRange.TUNING.seeds(settings.tuning_students)
    return fmean(lesson.accuracies(seed, candidates[candidate], ("dev",))["dev"] for seed in seeds)


def _student_row(seed: int, accuracies: dict[str, float]) -> dict[str, Any]:
    return {"seed": seed, "dev_accuracy": accuracies["dev"], "test_accuracy": accuracies["test"]}


def _parts(problem: TeachingProblem) -> dict[str, Any]:
    assert isinstance(problem.train, IndexedBatches)  # as in all named problems
    return {"train": [problem.train.examples], "dev": problem.dev_batches, "test": problem.test_batches}


def _training_record(training: TeacherTraining | None) -> dict[str, Any]:
    if training is None:
        return {"outer_steps": 0, "curve": [], "selection": [], "selected_outer_step": 0}
    return {
        "outer_steps": len(training.curve),
        "curve": [asdict(record) for record in training.curve],
        "selection": [asdict(judged) for judged in training.selection],
        "travelled": training.travelled,
        "selected_outer_step": training.selected_outer_step,
    }
