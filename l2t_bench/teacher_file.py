"""A trained teacher as a file: its weights, and what must be known to use them, in one safetensors file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from l2t_bench.engine.environment import installed
from l2t_bench.engine.records import DamagedError, Form, first_misfit, fits, is_object, is_text, is_whole, or_null
from l2t_bench.errors import UserError
from l2t_bench.modules import constants_of, module_at, same_tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensor_file import Kind, read_tensors, write_tensors
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.trainer.identity import architecture_of, name_of, recipe_of, shapes_of
from l2t_bench.trainer.records import TeacherTraining

KIND = Kind("teacher", 1)
_FORM: Form = {
    "problem": is_text,
    "teacher": fits({"class": is_text, "shapes": is_object, "options": is_object}),
    "student": is_text,
    "features": fits({"rule": is_text}),
    "loss": is_text,
    "horizon": or_null(is_whole),
    "versions": is_object,
    "summary": is_object,
}


@dataclass(frozen=True, eq=False)
class TeacherFile:
    """What a teacher file holds."""

    theta: TensorDict
    buffers: TensorDict  # the teacher's, where it has any, and its parameters that are not trained
    problem: str  # that it was trained on
    teacher: Mapping[str, Any]  # its class, the options it was made with where it is one of ours, its shapes
    student: str  # a class, and a hash of its parameters' shapes
    features: Mapping[str, Any]  # the rule by which s_t was measured, with its numbers
    loss: str  # the name of the function whose coefficients it gives
    horizon: int | None
    versions: Mapping[str, Any]
    summary: Mapping[str, Any]  # of its training


def save_teacher(
    path: Path | str,
    problem: TeachingProblem,
    training: TeacherTraining | Mapping[str, torch.Tensor],
    *,
    horizon: int | None = None,
    backend: str | None = None,
) -> None:
    """Write the teacher that a training found, or a theta, by temporary file, fsync and rename.

    Raises ``UserError`` for a theta that is not the problem's teacher's, and where the file cannot be written.
    """
    theta = training.theta if isinstance(training, TeacherTraining) else dict(training)
    problem.check_theta(theta)
    architecture = architecture_of(problem)
    record = {
        "problem": problem.name,
        "teacher": {**architecture["teacher"], "options": getattr(problem.teacher, "options", {})},
        "student": architecture["student"],
        "features": recipe_of(problem.features),
        "loss": name_of(problem.loss),
        "horizon": horizon,
        "versions": {name: installed(name) for name in ("l2t_bench", "torch")},
        "summary": {"backend": backend, **summary_of(training)} if isinstance(training, TeacherTraining) else {},
    }
    try:
        write_tensors(Path(path), KIND, {**theta, **constants_of(problem.teacher)}, record)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def read_teacher(path: Path | str) -> TeacherFile:
    """The contents of a teacher file. Raises ``UserError`` for one that is missing, cut short, altered, or none."""
    try:
        tensors, record = read_tensors(Path(path), KIND)
    except FileNotFoundError:
        raise UserError(f"there is no teacher file {path}") from None
    except DamagedError as error:
        raise UserError(f"{path} {error}") from error
    if (misfit := first_misfit(record, _FORM)) is not None:
        raise UserError(f"{path} is no sound teacher file: {misfit!r} is missing or of another form")
    found, shapes = shapes_of(tensors), record["teacher"]["shapes"]
    if any(found.get(name) != shape for name, shape in shapes.items()):
        raise UserError(f"{path} is no sound teacher file: its weights are not of the shapes that it names")
    return TeacherFile(
        {name: tensor for name, tensor in tensors.items() if name in shapes},
        {name: tensor for name, tensor in tensors.items() if name not in shapes},
        **{field.name: record[field.name] for field in fields(TeacherFile) if field.name not in ("theta", "buffers")},
    )


def theta_for(file: TeacherFile, problem: TeachingProblem) -> TensorDict:
    """The file's theta, for students of ``problem``: in its precision, on its device.

    Raises ``UserError`` for a teacher of another architecture, such as one for another number of classes, of another
    loss, and with other constants (``with_constants``), which would make other coefficients of the same theta.
    """
    if name_of(problem.loss) != file.loss:
        raise UserError(
            f"the teacher gives coefficients of {file.loss}, and {problem.name} has {name_of(problem.loss)}"
        )
    ours, theirs = shapes_of(problem.init_teacher(0)), file.teacher["shapes"]
    if {name: shape[1:] for name, shape in ours.items()} != {name: shape[1:] for name, shape in theirs.items()}:
        raise UserError(
            f"the teacher was trained on {file.problem}, for {_told(theirs)}; {problem.name} has {_told(ours)}: "
            "another number of classes or of features, or another kind of teacher"
        )
    if other := _other_constant(file.buffers, constants_of(problem.teacher)):
        raise UserError(
            f"the teacher was trained with another {other} than the teacher of {problem.name} has: take "
            "with_constants(file, problem)"
        )
    like = problem.init_teacher(0)
    return {name: tensor.to(like[name]) for name, tensor in file.theta.items()}


def with_constants(file: TeacherFile, problem: TeachingProblem) -> TeachingProblem:
    """``problem``, its teacher's buffers and untrained parameters as the file's teacher had them: theta is not all.

    Those that the file lacks, or has of another shape, stay: ``theta_for`` says so.
    """
    if not _other_constant(file.buffers, constants_of(problem.teacher)):
        return problem
    own = constants_of(problem.teacher)
    given = {name: tensor for name, tensor in file.buffers.items() if name in own and tensor.shape == own[name].shape}
    return replace(problem, teacher=module_at(problem.teacher, given))


def _other_constant(theirs: Tensors, ours: Tensors) -> str:
    """The first that one lacks, or has with another value; rounded to the precision of either they may be the same."""
    for name in dict.fromkeys([*ours, *theirs]):
        left, right = ours.get(name), theirs.get(name)
        if left is None or right is None:
            return name
        right = right.to(left.device)
        if not same_tensors(left, right.to(left.dtype)) and not same_tensors(left.to(right.dtype), right):
            return name
    return ""


def summary_of(training: TeacherTraining) -> dict[str, Any]:
    """The curves in a few numbers."""
    curve, selection = training.curve, training.selection
    return {
        "outer_steps": len(curve),
        "selected_outer_step": training.selected_outer_step,
        "value_first": curve[0].value,
        "value_last": curve[-1].value,
        "travelled": training.travelled,
        "diverged": sum(record.diverged for record in curve),
        "exploded": sum(record.exploded for record in curve),
        "seconds": training.seconds,
        "selection": [asdict(judged) for judged in selection],
    }


def _told(shapes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {tuple(shape[1:])}" for name, shape in shapes.items())
