"""Cells that look at Phi_t along a student's training: the paper's Figure 4.

A row i of Phi_t weighs log p(j) of every class j for an example of class i: positive entries ask for p(j) to grow with
p(i), negative ones to fall. The figure sets a class against two that are like it and three that are not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from l2t_bench.data.checksums import data_record
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import UserError
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.registry import build_problem
from l2t_bench.rollout import Rollout, train_student
from l2t_bench.suites.learning import TEACHER_FILE
from l2t_bench.suites.settings import CoefficientSettings
from l2t_bench.training import SeedRange

COEFFICIENTS_FILE = "phi.safetensors"


@dataclass(frozen=True)
class Pairs:
    """A class with those that are like it and those that are not, as indices; and how they were found."""

    anchor: int
    similar: tuple[int, ...]
    dissimilar: tuple[int, ...]
    rule: str


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task: Phi_t at the asked parts of a fresh student's training, under the teacher of the needed cell."""
    settings = CoefficientSettings(**cell.settings)
    with recorder.phase("data"):
        recorder.data.update(data_record(cell.problem))
    with recorder.phase("build"):
        problem = build_problem(settings.problem, device=cell.device, dtype=cell.dtype)
    theta = load_file(recorder.needed_artifact(TEACHER_FILE), device=str(problem.device))
    (seed,) = SeedRange.FRESH.seeds(1)
    asked = steps_at(settings.at, settings.horizon)
    along = steps_at([frame / max(1, settings.frames - 1) for frame in range(settings.frames)], settings.horizon)
    with recorder.phase("evaluation"):
        matrices, student = coefficients_at(problem, theta, settings.horizon, seed, [*asked, *along])
        confusion = confusion_matrix(problem, student)
    save_file({f"step_{step}": matrix for step, matrix in matrices.items()}, recorder.artifact(COEFFICIENTS_FILE))
    pairs = [_named(each) for each in settings.pairs] or pairs_by_confusion(confusion)
    return {
        "steps": asked,
        "parts": list(settings.at),
        "names": list(settings.names) or [str(index) for index in range(len(confusion))],
        "pairs": [asdict(pair) | {"rows": [matrices[step][pair.anchor].tolist() for step in asked]} for pair in pairs],
        "matrix_file": COEFFICIENTS_FILE,
        "largest": max(float(matrix.abs().max()) for matrix in matrices.values()),
    }


def steps_at(parts: Sequence[float], horizon: int) -> list[int]:
    """The steps that stand at these parts of a training, from 0 for its first to 1 for its last."""
    return [round(part * (horizon - 1)) for part in parts]


def coefficients_at(
    problem: TeachingProblem, theta: dict[str, Tensor], horizon: int, seed: int, steps: Sequence[int]
) -> tuple[dict[int, Tensor], StudentState]:
    """Phi_t, (C, C), at ``steps`` of student ``seed``'s training, and the student after it. Raises ``Diverged``."""
    rollout = Rollout(problem, theta, horizon=horizon, seed=seed)
    found: dict[int, Tensor] = {}

    def visit(step: Step, state: StudentState) -> None:
        del state
        if step.index in steps:
            found[step.index] = rollout.phi(step).detach().cpu().clone()

    student = train_student(rollout, visit)
    if any(matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] for matrix in found.values()):
        raise UserError("phi is no matrix of classes by classes: this problem has no Figure 4")
    return found, student


def confusion_matrix(problem: TeachingProblem, student: StudentState) -> Tensor:
    """(C, C): the share of dev's examples of class i, along rows, that are taken for class j."""
    counts: Tensor | None = None
    for inputs, targets in problem.dev_batches:
        logits = problem.predict(student, inputs)
        classes = logits.shape[-1]
        places = targets.long() * classes + logits.argmax(-1)
        found = torch.bincount(places, minlength=classes**2).reshape(classes, classes)
        counts = found if counts is None else counts + found
    assert counts is not None  # a dev set is never empty
    return counts / counts.sum(1, keepdim=True).clamp(min=1)


def pairs_by_confusion(confusion: Tensor, *, anchors: int = 2, similar: int = 2, dissimilar: int = 3) -> list[Pairs]:
    """The classes that are mistaken most often, each with those it is taken for most and least; ties: the first."""
    found = []
    for anchor in torch.argsort(confusion.diagonal(), stable=True)[:anchors].tolist():
        ranked = torch.argsort(confusion[anchor], descending=True, stable=True).tolist()
        order = [index for index in ranked if index != anchor]
        found.append(Pairs(anchor, tuple(order[:similar]), tuple(order[-dissimilar:]), "by the confusion on dev"))
    return found


def _named(pair: Any) -> Pairs:
    anchor, similar, dissimilar = pair
    return Pairs(anchor, tuple(similar), tuple(dissimilar), "the paper's classes")
