"""What the cells of a translation experiment will take. The warm start is not there yet: a fresh student stands for it.

So of losses that draw translations too much is said, since those of a fresh student are the longest; the searches on
dev and test are left out.
"""

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem
from l2t_bench.resident import resident_bytes
from l2t_bench.suites.settings import TrainingSettings
from l2t_bench.suites.teaching_forecast import expected_training, seconds_of_step
from l2t_bench.suites.translation_cells import warming
from l2t_bench.suites.translation_judging import grid_of, lesson_of
from l2t_bench.suites.translation_settings import TranslationJudging, WarmStartSettings


def warm_start(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a warm start."""
    del memory_limit
    settings = WarmStartSettings(**cell.settings)
    return _students(warming(_built(cell, settings.problem), settings), settings.steps)


def train(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teacher cell. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    settings = TrainingSettings(**cell.settings)
    return expected_training(_built(cell, settings.problem), cell.method, settings, memory_limit)


def measure(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teaching cell."""
    del memory_limit
    settings = TranslationJudging(**cell.settings)
    problem, grid = _built(cell, settings.problem), grid_of(cell.method, settings)
    lesson = lesson_of(cell.method, problem, problem.init_teacher(0), settings.horizon)
    students = settings.fresh_students + (len(grid) * settings.tuning_students if len(grid) > 1 else 0)
    return _students(lesson.problem, students * settings.horizon)


def _students(problem: TeachingProblem, steps: int) -> Expected:
    return Expected(STARTING + steps * seconds_of_step(problem), resident_bytes(), "a fresh student's first steps")


def _built(cell: Cell, problem: str) -> TeachingProblem:
    return build_problem(problem, device=cell.device, dtype=cell.dtype)
