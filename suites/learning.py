"""A teacher's training as a cell does it: Algorithm 1 with a backend by its name, and what is kept of it."""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from safetensors.torch import save_file

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.fitting import check_room
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.measures import Measure, default_measure
from l2t_bench.metabatch.contract import for_students
from l2t_bench.names import split_spec, write_spec
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import load_backend
from l2t_bench.suites.controls import STATIC
from l2t_bench.suites.settings import JudgingSettings, TrainingSettings
from l2t_bench.trainer.identity import surroundings
from l2t_bench.training import (
    Callback,
    Checkpoints,
    Judged,
    OuterStep,
    Progress,
    Selection,
    TeacherOptimizer,
    TeacherTrainer,
    TeacherTraining,
)

TEACHER_FILE = "theta.safetensors"
_CHECKPOINTS_EVERY = "2m"
STATIC_BY = "rmd[engine=auto]"  # the backend that a Phi is learned by that does not change


def problem_of(method: str, settings: TrainingSettings | JudgingSettings, seed: int) -> str:
    """The problem as a method and a seed have it: one that learns a static Phi has another teacher.

    A seed has its own split where settings number them, unless the problem names one.
    """
    name, options = split_spec(settings.problem)
    if settings.first_split is not None:
        options = {"split": str(settings.first_split + seed), **options}
    if method == STATIC:
        options = {**options, "teacher": "static"}
    return write_spec(name, options)


class _Curve(Callback):
    """Every outer step of a training goes to the cell's curve, those too that an attempt which was cut has taken."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def on_start(self, curve: Sequence[OuterStep], selection: Sequence[Judged]) -> None:
        del selection
        for record in curve:
            self._recorder.curve(**asdict(record))

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        del progress
        self._recorder.curve(**asdict(record))

    def on_note(self, note: str) -> None:
        print(note, file=sys.stderr)  # the cell's log


def learn(
    problem: TeachingProblem,
    method: str,
    settings: TrainingSettings,
    seed: int,
    recorder: Recorder,
    checkpoints: Checkpoints | None = None,
) -> TeacherTraining:
    """Algorithm 1, from the newest of ``checkpoints`` on. Raises ``Refused`` before it begins where it will not fit."""
    backend = backend_of(method)
    with recorder.phase("warm-up"):
        check_room(for_students(backend, settings.students), problem, settings.horizon, recorder.memory_limit)
    selection = Selection(settings.select_every, settings.select_students) if settings.select_every else None
    beta1, beta2 = settings.teacher_betas
    optimizer = TeacherOptimizer(settings.teacher_lr, (beta1, beta2), settings.teacher_schedule, settings.clip or None)
    trainer = TeacherTrainer(
        problem,
        None,
        backend,
        outer_steps=settings.outer_steps,
        horizon=settings.horizon,
        students=settings.students,
        optimizer=optimizer,
        selection=selection,
        seed=seed,
        checkpoints=checkpoints,
        callbacks=[_Curve(recorder)],
        phases=recorder,
    )
    return trainer.train(resume=checkpoints is not None)


def teacher_kept(
    problem: TeachingProblem, cell: Cell, settings: TrainingSettings, recorder: Recorder
) -> dict[str, Any]:
    """The work of a teacher cell: ``learn``, the teacher kept as ``TEACHER_FILE``, and the record of it.

    An attempt that is cut leaves its checkpoints to the next; code, versions and machine must be the same, so that what
    comes of it is what would have come without the cut.
    """
    conditions = hashlib.sha256(json.dumps(surroundings(problem.device), sort_keys=True).encode()).hexdigest()[:12]
    checkpoints = Checkpoints(recorder.lasting(conditions), every=_CHECKPOINTS_EVERY)
    training = learn(problem, cell.method, settings, cell.seed, recorder, checkpoints)
    with recorder.phase("io"):
        save_file(training.theta, recorder.artifact(TEACHER_FILE))
    return {
        "loss": "learned",
        "exactness": exactness_of(cell.method),
        "horizon": settings.horizon,
        **training_record(training, problem, cell.seed),
        "peak_bytes": peak_bytes(recorder),
    }


def backend_of(method: str) -> TeacherGradientBackend:
    """The backend that a method's teacher learns by."""
    return load_backend(STATIC_BY if method == STATIC else method)


def exactness_of(method: str) -> str:
    """What the gradient is that a method learns by."""
    return str(backend_of(method).capabilities.exactness)


def training_record(training: TeacherTraining, problem: TeachingProblem, seed: int) -> dict[str, Any]:
    """What is kept of a training on ``problem`` that began at the teacher of ``seed``."""
    first, measure = problem.init_teacher(seed), default_measure(problem)
    return {
        "outer_steps": len(training.curve),
        "curve": [asdict(record) for record in training.curve],
        "selection": [_judged_record(judged, measure) for judged in training.selection],
        "travelled": training.travelled,
        "largest_change": {name: float((last - first[name]).abs().max()) for name, last in training.last_theta.items()},
        "selected_outer_step": training.selected_outer_step,
        "seconds_training": training.seconds,
        **({"engine": training.engine} if training.engine else {}),
    }


def _judged_record(judged: Judged, measure: Measure) -> dict[str, Any]:
    """Under the name of its measure and in its unit, as a result has them elsewhere: BLEU goes from 0 to 100."""
    unit = 100 if measure == "bleu" else 1
    return {
        "outer_step": judged.outer_step,
        f"dev_{measure}_mean": unit * judged.dev_mean,
        f"dev_{measure}_std": unit * judged.dev_std,
    }


def peak_bytes(recorder: Recorder) -> int | None:
    """The most that the process held, on its device where it has one, while teacher gradients were taken."""
    phases = [recorder.phases[name] for name in ("rollout", "dev", "reverse") if name in recorder.phases]
    device, host = (
        [phase[f"{where}_peak_bytes"] for phase in phases if phase[f"{where}_peak_bytes"] is not None]
        for where in ("device", "host")
    )
    return max(device or host, default=None)
