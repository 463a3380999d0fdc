"""What teacher and teaching cells will take: predicted by short runs where these are short, else bounded from below."""

import time
from collections.abc import Callable

from l2t_bench.backend import Backend
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.errors import Refused
from l2t_bench.fitting import bytes_left
from l2t_bench.gradient import Prediction, TeacherGradientBackend
from l2t_bench.lessons import teach
from l2t_bench.metabatch.contract import for_students
from l2t_bench.prediction import short_sizes
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem
from l2t_bench.resident import available_bytes, resident_bytes
from l2t_bench.suites.controls import UNTRAINED, fixed_of
from l2t_bench.suites.judging import candidates
from l2t_bench.suites.learning import backend_of, problem_of
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.units import told

_LONG_STEP = 0.15  # seconds of a student's step from which the short runs of a prediction take minutes
_FEW = 3  # steps that a student is timed for
_SIZED = (2, 4)  # steps of the two runs whose sizes are compared
_ONCE_IN = 20  # steps: how often the first one's features are measured, and more that comes once for a run
_GRADIENT_STEPS = 3  # a step forward, its replay and its vector product: a gradient takes no less


def train(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teacher cell. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    settings = TrainingSettings(**cell.settings)
    problem = build_problem(problem_of(cell.method, settings.problem), device=cell.device, dtype=cell.dtype)
    return expected_training(problem, cell.method, settings, memory_limit)


def measure(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teaching cell; of one that trains its teacher itself, together with that."""
    settings = JudgingSettings(**cell.settings) if cell.needs else TeachingSettings(**cell.settings)
    problem = build_problem(problem_of(cell.method, settings.problem), device=cell.device, dtype=cell.dtype)
    fixed = fixed_of(cell.method)
    tried = len(candidates(cell.method, fixed, settings))
    students = settings.fresh_students + 1 + (tried * settings.tuning_students if tried > 1 else 0)
    seconds = STARTING + students * settings.horizon * seconds_of_step(problem)
    if cell.needs or fixed or cell.method == UNTRAINED or not isinstance(settings, TeachingSettings):
        return Expected(seconds, resident_bytes(), "a student's first steps")
    training = expected_training(problem, cell.method, TrainingSettings(**settings.of_training()), memory_limit)
    return Expected(seconds + (training.seconds or 0.0), training.peak_bytes, training.source)


def expected_training(
    problem: TeachingProblem, method: str, settings: TrainingSettings, memory_limit: int | None
) -> Expected:
    """Of Algorithm 1. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    backend = for_students(backend_of(method), settings.students)
    verdict = backend.supports(problem, settings.horizon)
    if isinstance(verdict, Refused):
        raise verdict
    left = bytes_left(memory_limit, problem, resident_bytes() or 0, available_bytes())
    step = seconds_of_step(problem)
    found, source = _gradient(backend, problem, settings.horizon, step)
    if left is not None and found.bytes > left:
        raise Refused(f"would take {told(found.bytes)}, and {told(max(0, left))} are left ({source})")
    judged = settings.outer_steps // settings.select_every + 1 if settings.select_every else 0
    seconds = settings.outer_steps * settings.students * found.seconds
    seconds += judged * settings.select_students * settings.horizon * step
    return Expected(STARTING + seconds, (resident_bytes() or 0) + found.bytes, source)


def _gradient(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, step: float
) -> tuple[Prediction, str]:
    """One student's gradient, and how it is known."""
    if step < _LONG_STEP:
        return backend.predict(problem, horizon), "prediction"
    source = f"at least: a student's step takes {step:.2g} s"
    return Prediction(_least_bytes(backend, problem, horizon), _GRADIENT_STEPS * horizon * step), source


def _least_bytes(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> int:
    """By the method's law, else by what two steps more were seen to take."""
    if not isinstance(backend, Backend):
        return 0
    backend = backend.settled(problem, horizon)
    law = backend.scaling(problem, horizon).bytes
    if law is not None:
        return law
    few, more = short_sizes(backend, problem, _SIZED)
    return max(0, more - few) // (_SIZED[1] - _SIZED[0]) * horizon


def seconds_of_step(problem: TeachingProblem) -> float:
    """Of plain training; as ``seconds_of_steps``."""
    theta = problem.init_teacher(0)
    return seconds_of_steps(lambda horizon: teach(problem, theta, horizon=horizon, seed=0))


def seconds_of_steps(train: Callable[[int], object]) -> float:
    """Of a step of what trains a student of a horizon, with its share of what is done every so many steps.

    After a run that loads what it needs.
    """
    train(1)
    first, few = (_seconds_of_run(train, steps) for steps in (1, 1 + _FEW))
    step = max(0.0, few - first) / _FEW
    return step + max(0.0, first - step) / _ONCE_IN


def _seconds_of_run(train: Callable[[int], object], horizon: int) -> float:
    begun = time.perf_counter()
    train(horizon)
    return time.perf_counter() - begun
