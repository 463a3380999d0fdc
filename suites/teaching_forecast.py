"""What teacher and teaching cells will take: predicted by short runs where these are short, else bounded from below."""

from l2t_bench.backend import Backend
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.errors import Refused
from l2t_bench.fitting import bytes_left
from l2t_bench.gradient import Prediction, TeacherGradientBackend
from l2t_bench.metabatch.contract import for_students
from l2t_bench.prediction import short_sizes
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import available_bytes, resident_bytes
from l2t_bench.suites.controls import UNTRAINED, fixed_of
from l2t_bench.suites.judging import candidates
from l2t_bench.suites.learning import backend_of, problem_of
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.suites.step_cost import (
    FEW,
    StepCost,
    batch_size,
    built,
    can_be_cut,
    carried_on,
    cost_of_step,
    of_examples,
)
from l2t_bench.tensors import size_in_bytes
from l2t_bench.units import told

_LONG_STEP = 0.15  # seconds of a student's step from which the short runs of a prediction take minutes
_SIZED = (2, 4)  # steps of the two runs whose sizes are compared
_GRADIENT_STEPS = 3  # a step forward, its replay and its vector product: a gradient takes no less


def train(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teacher cell. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    settings = TrainingSettings(**cell.settings)
    return expected_training(cell, problem_of(cell.method, settings, cell.seed), settings, memory_limit)


def measure(cell: Cell, memory_limit: int | None) -> Expected:
    """Of a teaching cell; of one that trains its teacher itself, together with that.

    Raises ``Refused`` as ``train`` does, and where a student's step alone would not fit.
    """
    settings = JudgingSettings(**cell.settings) if cell.needs else TeachingSettings(**cell.settings)
    spec = problem_of(cell.method, settings, cell.seed)
    fixed = fixed_of(cell.method)
    tried = len(candidates(cell.method, fixed, settings))
    fresh = settings.fresh_students * (1 if fixed else 2)  # a teacher's once more, by cross entropy in steps as long
    students = fresh + 1 + (tried * settings.tuning_students if tried > 1 else 0)
    step = cost_of_step(spec, cell.device, cell.dtype)
    _check_room(step, _left(cell, spec, memory_limit))
    seconds = STARTING + students * settings.horizon * step.seconds
    if cell.needs or fixed or cell.method == UNTRAINED or not isinstance(settings, TeachingSettings):
        return Expected(
            seconds, (resident_bytes() or 0) + (step.peak_bytes or 0), step.source or "a student's first steps"
        )
    training = expected_training(cell, spec, TrainingSettings(**settings.of_training()), memory_limit)
    return Expected(seconds + (training.seconds or 0.0), training.peak_bytes, training.source)


def expected_training(cell: Cell, spec: str, settings: TrainingSettings, memory_limit: int | None) -> Expected:
    """Of Algorithm 1 on ``spec``. Raises ``Refused`` where the backend does not do it, or where it would not fit."""
    problem = built(spec, cell.device, cell.dtype)
    backend = for_students(backend_of(cell.method), settings.students)
    verdict = backend.supports(problem, settings.horizon)
    if isinstance(verdict, Refused):
        raise verdict
    step, left = cost_of_step(spec, cell.device, cell.dtype), _left(cell, spec, memory_limit)
    _check_room(step, left)
    found, source = _gradient(backend, problem, settings.horizon, step)
    if left is not None and found.bytes > left:
        raise Refused(f"would take {told(found.bytes)}, and {told(max(0, left))} are left ({source})")
    judged = settings.outer_steps // settings.select_every + 1 if settings.select_every else 0
    seconds = settings.outer_steps * settings.students * found.seconds
    seconds += judged * settings.select_students * settings.horizon * step.seconds
    return Expected(STARTING + seconds, (resident_bytes() or 0) + found.bytes, source)


def _left(cell: Cell, spec: str, memory_limit: int | None) -> int | None:
    return bytes_left(memory_limit, built(spec, cell.device, cell.dtype), resident_bytes() or 0, available_bytes())


def _check_room(step: StepCost, left: int | None) -> None:
    """Raises ``Refused`` where a step of plain training is known to take more than is left."""
    if left is not None and step.peak_bytes is not None and step.peak_bytes > left:
        raise Refused(
            f"a step of the student alone would take {told(step.peak_bytes)}, and {told(max(0, left))} are left "
            f"({step.source})"
        )


def _gradient(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, step: StepCost
) -> tuple[Prediction, str]:
    """One student's gradient, and how it is known."""
    if step.seconds < _LONG_STEP:
        return backend.predict(problem, horizon), "prediction"
    known = f" ({step.source})" if step.source else ""
    source = f"at least: a student's step takes {step.seconds:.2g} s{known}"
    return Prediction(_least_bytes(backend, problem, horizon, step), _GRADIENT_STEPS * horizon * step.seconds), source


def _least_bytes(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, step: StepCost) -> int:
    """The method's law, else what two steps more of a few examples were seen to take; a step's peak where it is known.

    Where a step is too long for either, the student's parameters at the steps that are kept.
    """
    one = step.peak_bytes or 0
    if not isinstance(backend, Backend):
        return one
    backend = backend.settled(problem, horizon)
    scaling = backend.scaling(problem, horizon)
    if scaling.bytes is not None:
        return one + scaling.bytes
    if step.peak_bytes is not None:
        return one + scaling.kept * size_in_bytes([problem.init_student(0).params])
    return scaling.kept * _bytes_of_kept_step(backend, problem)


def _bytes_of_kept_step(backend: Backend, problem: TeachingProblem) -> int:
    if not can_be_cut(problem):
        return _growth(backend, problem)
    few, more = (_growth(backend, of_examples(problem, count)) for count in FEW)
    return round(carried_on(few, more, batch_size(problem)))


def _growth(backend: Backend, problem: TeachingProblem) -> int:
    few, more = short_sizes(backend, problem, _SIZED)
    return max(0, more - few) // (_SIZED[1] - _SIZED[0])
