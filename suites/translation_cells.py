"""The cells of a translation experiment: a warm start, the teachers trained from it, and who is taught from it.

A cell reads the files of the one that it needs and of no other: a teacher's cell keeps a copy of its warm start.
"""

import shutil
import time
from dataclasses import replace
from typing import Any

from safetensors.torch import load_file, save_file

from l2t_bench.adam import Adam
from l2t_bench.data.checksums import data_record
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import UserError
from l2t_bench.lessons import teach, with_fixed_loss, with_start
from l2t_bench.losses.sequence import WordCrossEntropy
from l2t_bench.optimizers import linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem
from l2t_bench.suites.learning import TEACHER_FILE, teacher_kept
from l2t_bench.suites.settings import TrainingSettings
from l2t_bench.suites.translation_judging import judged, sizes_of
from l2t_bench.suites.translation_losses import is_learned
from l2t_bench.suites.translation_settings import TranslationJudging, WarmStartSettings
from l2t_bench.training import SeedRange
from l2t_bench.translating import translate

START_FILE = "start.safetensors"


def warm_start(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a warm start: omega_0 of all students of a seed, kept as ``START_FILE``. Raises ``Diverged``."""
    settings = WarmStartSettings(**cell.settings)
    problem = _built(cell, settings.problem, recorder)
    (seed,) = SeedRange.WARM_START.seeds(1, first=cell.seed)
    begun = time.perf_counter()
    with recorder.phase("rollout"):
        state = teach(warming(problem, settings), {}, horizon=settings.steps, seed=seed)
    seconds = time.perf_counter() - begun
    with recorder.phase("evaluation"):
        bleu = translate(problem, state, "dev").bleu()
    with recorder.phase("io"):
        save_file(state.params, recorder.artifact(START_FILE))
    return {"steps": settings.steps, "dev_bleu": bleu.score, "signature": bleu.signature, "seconds_training": seconds}


def warming(problem: TeachingProblem, settings: WarmStartSettings) -> TeachingProblem:
    """The problem as a warm start trains on it."""
    optimizer = Adam(lr=linear_decay(settings.lr), clip=settings.clip)
    return replace(with_fixed_loss(problem, WordCrossEntropy()), optimizer=optimizer)


def train(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teacher cell: Algorithm 1, each student from the warm start that it needs.

    Raises ``UserError`` for settings that number splits: the warm start was trained on the problem's own.
    """
    settings = TrainingSettings(**cell.settings)
    if settings.first_split is not None:
        raise UserError("first_split does not go with a warm start, which has the problem's own split: name one there")
    problem = _from_start(_built(cell, settings.problem, recorder), recorder)
    record = teacher_kept(problem, cell, settings, recorder)
    with recorder.phase("io"):
        shutil.copyfile(recorder.needed_artifact(START_FILE), recorder.artifact(START_FILE))
    return {**record, **sizes_of(problem)}


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """The task of a teaching cell: students under the teacher that it needs, or under its own loss from a warm start.

    The test set is looked at once, by the fresh students at the end.
    """
    settings = TranslationJudging(**cell.settings)
    problem = _from_start(_built(cell, settings.problem, recorder), recorder)
    theta = problem.init_teacher(cell.seed)
    if is_learned(cell.method):
        theta = load_file(recorder.needed_artifact(TEACHER_FILE), device=str(problem.device))
    return judged(cell.method, problem, theta, settings, recorder)


def _built(cell: Cell, problem: str, recorder: Recorder) -> TeachingProblem:
    with recorder.phase("data"):
        recorder.data.update(data_record(problem))
    with recorder.phase("build"):
        return build_problem(problem, device=cell.device, dtype=cell.dtype)


def _from_start(problem: TeachingProblem, recorder: Recorder) -> TeachingProblem:
    with recorder.phase("io"):
        return with_start(problem, load_file(recorder.needed_artifact(START_FILE), device=str(problem.device)))
