"""Teacher and teaching cells: Algorithm 1 with a backend; a loss, its own lr chosen on dev, and fresh students on test.

A teacher's training may be a cell of its own, whose teacher the teaching cell then reads, or a part of the teaching
cell. The loss is learned, or it is a control by its name: the untrained teacher, or a fixed loss. What departs from
the paper is in the settings: a student lr that decays to zero, a sharpened objective (beta = 4), Phi that starts at
0.3 I, a teacher lr of its own. For digits they were chosen on splits 1 and 2; split 3 is the one that is reported.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import fmean
from typing import Any, Literal

from safetensors.torch import load_file, save_file

from l2t_bench.batches import IndexedBatches
from l2t_bench.data.checksums import data_record
from l2t_bench.effective_lr import effective_lrs
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import Diverged
from l2t_bench.fitting import check_room
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.lessons import accuracy_on, choose, teach, with_dev_in_training, with_fixed_loss, with_lr
from l2t_bench.metabatch.contract import for_students
from l2t_bench.names import split_spec, write_spec
from l2t_bench.optimizers import Schedule, linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem, load_backend, load_loss
from l2t_bench.suites.controls import CROSS_ENTROPY, STATIC, UNTRAINED, Fixed, fixed_of
from l2t_bench.suites.settings import OWN, JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.tensors import TensorDict
from l2t_bench.training import SeedRange, Selection, TeacherOptimizer, TeacherTraining, train_teacher

STATIC_BY = "rmd"  # the backend that a Phi is learned by that does not change
TEACHER_FILE = "theta.safetensors"
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


# -- cells


def train(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teacher cell: its settings are ``TrainingSettings``. The teacher is kept as ``TEACHER_FILE``."""
    settings = TrainingSettings(**cell.settings)
    problem = _built(cell, settings.problem, recorder)
    training = learn(problem, cell.method, settings, cell.seed, recorder)
    with recorder.phase("io"):
        save_file(training.theta, recorder.artifact(TEACHER_FILE))
    record = _training_record(training, problem.init_teacher(cell.seed))
    return {
        "loss": "learned",
        "exactness": exactness_of(cell.method),
        "horizon": settings.horizon,
        **_sizes(problem),
        **record,
        "peak_bytes": _peak_bytes(recorder),
    }


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teaching cell: its settings are ``TeachingSettings``, ``JudgingSettings`` where it needs another.

    The test set is looked at once, by the fresh students at the end.
    """
    if not cell.needs:
        with recorder.phase("data"):
            recorder.data.update(data_record(cell.problem))
        return teaching_cell(cell.method, TeachingSettings(**cell.settings), cell.device, cell.seed, recorder)
    settings = JudgingSettings(**cell.settings)
    problem = _built(cell, settings.problem, recorder)
    theta = load_file(recorder.needed_artifact(TEACHER_FILE), device=str(problem.device))
    return judged(cell.method, problem, theta, settings, recorder)


def teaching_cell(
    method: str, settings: TeachingSettings, device: str, seed: int, recorder: Recorder
) -> dict[str, Any]:
    """The measurements of one loss: ``method`` is a backend's name, a control's, or a fixed loss's.

    ``static-teacher`` is a Phi that is learned and does not change.
    """
    with recorder.phase("build"):
        problem = build_problem(problem_of(method, settings.problem), device=device)
    theta: TensorDict = problem.init_teacher(seed)
    record: dict[str, Any] = {"outer_steps": 0, "curve": [], "selection": [], "selected_outer_step": 0}
    if method != UNTRAINED and fixed_of(method) is None:
        training = learn(problem, method, TrainingSettings(**settings.of_training()), seed, recorder)
        theta = training.theta
        record = {"exactness": exactness_of(method), **_training_record(training, problem.init_teacher(seed))}
    return record | judged(method, problem, theta, JudgingSettings(**settings.of_judging()), recorder)


def problem_of(method: str, problem: str) -> str:
    """The problem as a method has it: one that learns a static Phi has another teacher."""
    if method != STATIC:
        return problem
    name, options = split_spec(problem)
    return write_spec(name, {**options, "teacher": "static"})


def _built(cell: Cell, problem: str, recorder: Recorder) -> TeachingProblem:
    with recorder.phase("data"):
        recorder.data.update(data_record(cell.problem))
    with recorder.phase("build"):
        return build_problem(problem_of(cell.method, problem), device=cell.device, dtype=cell.dtype)


# -- the teacher


def learn(
    problem: TeachingProblem, method: str, settings: TrainingSettings, seed: int, recorder: Recorder
) -> TeacherTraining:
    """Algorithm 1. Raises ``Refused`` where it would not fit, before it is begun."""
    backend = backend_of(method)
    with recorder.phase("warm-up"):
        check_room(for_students(backend, settings.students), problem, settings.horizon, recorder.memory_limit)
    selection = Selection(settings.select_every, settings.select_students) if settings.select_every else None
    beta1, beta2 = settings.teacher_betas
    optimizer = TeacherOptimizer(settings.teacher_lr, (beta1, beta2), settings.teacher_schedule, settings.clip or None)
    return train_teacher(
        problem,
        backend,
        outer_steps=settings.outer_steps,
        horizon=settings.horizon,
        students=settings.students,
        optimizer=optimizer,
        selection=selection,
        seed=seed,
        on_outer_step=lambda record: recorder.curve(**asdict(record)),
        phases=recorder,
    )


def backend_of(method: str) -> TeacherGradientBackend:
    """The backend that a method's teacher learns by."""
    return load_backend(STATIC_BY if method == STATIC else method)


def exactness_of(method: str) -> str:
    """What the gradient is that a method learns by."""
    return str(backend_of(method).capabilities.exactness)


def _training_record(training: TeacherTraining, first: TensorDict) -> dict[str, Any]:
    """What is kept of a training that began at ``first``."""
    return {
        "outer_steps": len(training.curve),
        "curve": [asdict(record) for record in training.curve],
        "selection": [asdict(judged) for judged in training.selection],
        "travelled": training.travelled,
        "largest_change": {name: float((last - first[name]).abs().max()) for name, last in training.last_theta.items()},
        "selected_outer_step": training.selected_outer_step,
        "seconds_training": training.seconds,
    }


def _peak_bytes(recorder: Recorder) -> int | None:
    """The most that the process held, on its device where it has one, while teacher gradients were taken."""
    phases = [recorder.phases[name] for name in ("rollout", "dev", "reverse") if name in recorder.phases]
    device, host = (
        [phase[f"{where}_peak_bytes"] for phase in phases if phase[f"{where}_peak_bytes"] is not None]
        for where in ("device", "host")
    )
    return max(device or host, default=None)


# -- the students


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
        sizes = _effective_lrs(lesson, chosen)
    return {
        "loss": _kind_of(method, fixed),
        "chosen": chosen.loss,
        "lr": chosen.lr,
        "schedule": chosen.schedule,
        "lr_grid": [asdict(candidate) | {"dev_accuracy": score} for candidate, score in table.items()],
        "students": students,
        "effective_lr": sizes,
        "horizon": settings.horizon,
        **_sizes(problem),
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


def _sizes(problem: TeachingProblem) -> dict[str, int]:
    """How many examples each part has."""
    assert isinstance(problem.train, IndexedBatches)  # as in all named problems
    parts = {"train": [problem.train.examples], "dev": problem.dev_batches, "test": problem.test_batches}
    return {name: sum(len(targets) for _, targets in batches) for name, batches in parts.items()}
