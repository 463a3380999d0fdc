"""What the cells of a translation experiment will take. The warm start is not there yet: a fresh student stands for it.

So of losses that draw translations too much is said, since those of a fresh student are the longest; the searches on
dev and test are left out.
"""

from dataclasses import replace

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.resident import resident_bytes
from l2t_bench.suites.settings import TrainingSettings
from l2t_bench.suites.step_cost import built, seconds_of_step, seconds_of_steps
from l2t_bench.suites.teaching_forecast import expected_training
from l2t_bench.suites.translation_cells import warming
from l2t_bench.suites.translation_judging import grid_of, lesson_of
from l2t_bench.suites.translation_losses import ACTOR_CRITIC
from l2t_bench.suites.translation_settings import TranslationJudging, WarmStartSettings


def warm_start(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a warm start."""
    del memory_limit
    settings = WarmStartSettings(**cell.settings)
    return _expected(
        settings.steps * seconds_of_step(warming(built(settings.problem, cell.device, cell.dtype), settings))
    )


def train(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teacher cell. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    settings = TrainingSettings(**cell.settings)
    return expected_training(cell, settings.problem, settings, memory_limit)


def measure(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teaching cell."""
    del memory_limit
    settings = TranslationJudging(**cell.settings)
    problem, grid = built(settings.problem, cell.device, cell.dtype), grid_of(cell.method, settings)
    tuned = settings.tuning_students if len(grid) > 1 else 0
    students = settings.fresh_students + len(grid) * tuned
    timed = replace(settings, critic={**settings.critic, "critic_steps": 0})
    lesson = lesson_of(cell.method, problem, problem.init_teacher(0), timed)
    step = seconds_of_steps(lambda horizon: lesson.train(lesson.problem, horizon, 0))
    # A critic is taught by itself once for all the rates of its student; its steps count as a student's.
    critics = settings.fresh_students + tuned if cell.method == ACTOR_CRITIC else 0
    steps = students * settings.horizon + critics * int(settings.critic.get("critic_steps", 0))
    return _expected(steps * step)


def _expected(seconds: float) -> Expected:
    return Expected(STARTING + seconds, resident_bytes(), "a fresh student's first steps")
