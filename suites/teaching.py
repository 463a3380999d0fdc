"""Teacher and teaching cells: Algorithm 1 with a backend; a loss, its own lr chosen on dev, and fresh students on test.

A teacher's training may be a cell of its own, whose teacher the teaching cell then reads, or a part of the teaching
cell. The loss is learned, or it is a control by its name: the untrained teacher, or a fixed loss. What departs from
the paper is in the settings: a student lr that decays to zero, a sharpened objective (beta = 4), Phi that starts at
0.3 I, a teacher lr of its own. For digits they were chosen on splits 1 and 2; split 3 is the one that is reported.
"""

from typing import Any

from safetensors.torch import load_file

from l2t_bench.data.checksums import data_record
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem
from l2t_bench.suites.controls import UNTRAINED, fixed_of
from l2t_bench.suites.judging import judged, sizes_of
from l2t_bench.suites.learning import (
    TEACHER_FILE,
    exactness_of,
    learn,
    problem_of,
    teacher_kept,
    training_record,
)
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.tensors import TensorDict


def train(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teacher cell: its settings are ``TrainingSettings``. The teacher is kept as ``TEACHER_FILE``."""
    settings = TrainingSettings(**cell.settings)
    problem = _built(cell, settings, recorder)
    return {**teacher_kept(problem, cell, settings, recorder), **sizes_of(problem)}


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teaching cell: its settings are ``TeachingSettings``, ``JudgingSettings`` where it needs another.

    The test set is looked at once, by the fresh students at the end.
    """
    if not cell.needs:
        with recorder.phase("data"):
            recorder.data.update(data_record(cell.problem))
        return teaching_cell(cell.method, TeachingSettings(**cell.settings), cell.device, cell.seed, recorder)
    settings = JudgingSettings(**cell.settings)
    problem = _built(cell, settings, recorder)
    theta = load_file(recorder.needed_artifact(TEACHER_FILE), device=str(problem.device))
    return judged(cell.method, problem, theta, settings, recorder)


def teaching_cell(
    method: str, settings: TeachingSettings, device: str, seed: int, recorder: Recorder
) -> dict[str, Any]:
    """The measurements of one loss: ``method`` is a backend's name, a control's, or a fixed loss's.

    ``static-teacher`` is a Phi that is learned and does not change.
    """
    with recorder.phase("build"):
        problem = build_problem(problem_of(method, settings, seed), device=device)
    theta: TensorDict = problem.init_teacher(seed)
    record: dict[str, Any] = {"outer_steps": 0, "curve": [], "selection": [], "selected_outer_step": 0}
    if method != UNTRAINED and fixed_of(method) is None:
        training = learn(problem, method, TrainingSettings(**settings.of_training()), seed, recorder)
        theta = training.theta
        record = {"exactness": exactness_of(method), **training_record(training, problem, seed)}
    return record | judged(method, problem, theta, JudgingSettings(**settings.of_judging()), recorder)


def _built(cell: Cell, settings: TrainingSettings | JudgingSettings, recorder: Recorder) -> TeachingProblem:
    with recorder.phase("data"):
        recorder.data.update(data_record(cell.problem))
    with recorder.phase("build"):
        return build_problem(problem_of(cell.method, settings, cell.seed), device=cell.device, dtype=cell.dtype)
