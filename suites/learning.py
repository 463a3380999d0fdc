"""A teacher's training as a cell does it: Algorithm 1 with a backend by its name, and what is kept of it."""

from dataclasses import asdict
from typing import Any

from safetensors.torch import save_file

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.fitting import check_room
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.metabatch.contract import for_students
from l2t_bench.names import split_spec, write_spec
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import load_backend
from l2t_bench.suites.controls import STATIC
from l2t_bench.suites.settings import TrainingSettings
from l2t_bench.tensors import TensorDict
from l2t_bench.training import Judged, Selection, TeacherOptimizer, TeacherTraining, train_teacher

TEACHER_FILE = "theta.safetensors"
STATIC_BY = "rmd"  # the backend that a Phi is learned by that does not change


def problem_of(method: str, problem: str) -> str:
    """The problem as a method has it: one that learns a static Phi has another teacher."""
    if method != STATIC:
        return problem
    name, options = split_spec(problem)
    return write_spec(name, {**options, "teacher": "static"})


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


def teacher_kept(
    problem: TeachingProblem, cell: Cell, settings: TrainingSettings, recorder: Recorder
) -> dict[str, Any]:
    """The work of a teacher cell: ``learn``, the teacher kept as ``TEACHER_FILE``, and the record of it."""
    training = learn(problem, cell.method, settings, cell.seed, recorder)
    with recorder.phase("io"):
        save_file(training.theta, recorder.artifact(TEACHER_FILE))
    return {
        "loss": "learned",
        "exactness": exactness_of(cell.method),
        "horizon": settings.horizon,
        **training_record(training, problem.init_teacher(cell.seed)),
        "peak_bytes": peak_bytes(recorder),
    }


def backend_of(method: str) -> TeacherGradientBackend:
    """The backend that a method's teacher learns by."""
    return load_backend(STATIC_BY if method == STATIC else method)


def exactness_of(method: str) -> str:
    """What the gradient is that a method learns by."""
    return str(backend_of(method).capabilities.exactness)


def training_record(training: TeacherTraining, first: TensorDict) -> dict[str, Any]:
    """What is kept of a training that began at ``first``."""
    return {
        "outer_steps": len(training.curve),
        "curve": [asdict(record) for record in training.curve],
        "selection": [_judged_record(judged) for judged in training.selection],
        "travelled": training.travelled,
        "largest_change": {name: float((last - first[name]).abs().max()) for name, last in training.last_theta.items()},
        "selected_outer_step": training.selected_outer_step,
        "seconds_training": training.seconds,
    }


def _judged_record(judged: Judged) -> dict[str, Any]:
    """Suites judge by accuracy, and their files say so."""
    return {
        "outer_step": judged.outer_step,
        "dev_accuracy_mean": judged.dev_mean,
        "dev_accuracy_std": judged.dev_std,
    }


def peak_bytes(recorder: Recorder) -> int | None:
    """The most that the process held, on its device where it has one, while teacher gradients were taken."""
    phases = [recorder.phases[name] for name in ("rollout", "dev", "reverse") if name in recorder.phases]
    device, host = (
        [phase[f"{where}_peak_bytes"] for phase in phases if phase[f"{where}_peak_bytes"] is not None]
        for where in ("device", "host")
    )
    return max(device or host, default=None)
