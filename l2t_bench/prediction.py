"""What a teacher gradient will take at a horizon: short runs on this machine, carried on by the method's own law."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median_low

from l2t_bench.errors import Diverged
from l2t_bench.gradient import Cost, Prediction, Refused, TeacherGradientBackend
from l2t_bench.metabatch.contract import students_at_once, teacher_gradients
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import release_free_memory, whole_pages
from l2t_bench.tensors import TensorDict, size_in_bytes

_SHORT, _LONG = 10, 50  # steps of the two runs: their difference is forty steps without what a run costs once
_LONGER = 200  # steps of the second one where it is quick, or small: more of what a long run takes, and less by chance
_SMALL = 16 << 20  # bytes
_SLOW = (
    5.0  # seconds from which a run is timed once; of the shorter one's steps, from which the second has twice as many
)
_FEWEST, _MOST = 2, 5  # times that a run is timed: the middle one counts
_ENOUGH = 0.5  # seconds that are looked at, so long as these numbers allow it
_RECORD = 2_000  # bytes of a recorded step beside its batch: its objects, its loss, the norm of its adjoint


@dataclass(frozen=True)
class Scaling:
    """How a method grows.

    Bytes that it holds (``None``: not known, measure), steps gone back through and taken again, how often M~ is taken
    over the dev set, and the steps that are kept at once (``None``: those gone back through). ``step_bytes``: of one
    step that is kept, where that is known and the whole is not.
    """

    steps_back: int
    bytes: int | None = None
    recomputed: int = 0
    dev_passes: int = 1
    steps_kept: int | None = None
    step_bytes: int | None = None

    @property
    def kept(self) -> int:
        return self.steps_back if self.steps_kept is None else self.steps_kept


Growth = Callable[[int], Scaling]
"""Horizon -> scaling."""


def predict(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, growth: Growth) -> Prediction:
    """Peak bytes above the start, and seconds; of a method that takes students at once, all of them and each one's.

    The forward pass grows with the horizon, the reverse pass with the steps gone back through and those taken again;
    the memory by the method's law where it has one, else with the steps gone back through. Raises ``Refused`` for a
    problem that the backend does not do.
    """
    verdict = backend.supports(problem, horizon)
    if isinstance(verdict, Refused):
        raise verdict
    peak = bytes_at(backend, problem, horizon, growth)  # memory first, times after it
    return Prediction(peak, seconds_at(backend, problem, horizon, growth))


def bytes_at(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, growth: Growth) -> int:
    """The peak above the start at ``horizon``: what the law says and what short runs take beside it.

    Without a law, and at the short horizons themselves, the line through the short runs.
    """
    law = growth(horizon).bytes
    if law is not None and horizon > _LONG:
        beside = beside_law(backend, problem, growth)  # a run first: it shows whether students can be taken at once
        return (growth(horizon).bytes or 0) + beside + record_bytes(backend, problem, horizon)
    steps = _short(backend, problem, horizon)
    sizes = short_sizes(backend, problem, steps)
    if 2 * _SHORT < steps[-1] < horizon and sizes[-1] < _SMALL:
        steps, sizes = [steps[-1], min(_LONGER, horizon)], sizes[-1:]
        sizes += short_sizes(backend, problem, steps[1:])
    # Every step is recorded, also where the method goes back through a few.
    beside_records = [size - record_bytes(backend, problem, taken) for size, taken in zip(sizes, steps, strict=True)]
    scalings = [growth(taken) for taken in (*steps, horizon)]
    kept = [scaling.kept for scaling in scalings]
    line = round(_line(kept, *beside_records))
    # Another part of short runs may take more than the steps that they keep: then the line is flat, and misses these.
    counted = _counted(scalings, beside_records)
    return max(line, counted) + record_bytes(backend, problem, horizon)


def _counted(scalings: Sequence[Scaling], sizes: Sequence[int]) -> int:
    """The last of ``scalings`` by what one kept step is known to take, beside what the runs of these sizes took."""
    step = scalings[-1].step_bytes  # known from the short runs on, where these have compiled it
    if step is None:
        return 0
    *short, wanted = (step * scaling.kept for scaling in scalings)
    return wanted + max(0, *(size - own for size, own in zip(sizes, short, strict=True)))


def beside_law(backend: TeacherGradientBackend, problem: TeachingProblem, growth: Growth) -> int:
    """What a method takes beside what its law counts, and records: a step's graph, the dev pass, the features."""
    horizons = _short(backend, problem, _LONG)
    sizes = short_sizes(backend, problem, horizons)
    known = [(growth(steps).bytes or 0) + record_bytes(backend, problem, steps) for steps in horizons]
    return max(0, *(size - counted for size, counted in zip(sizes, known, strict=True)))


def record_bytes(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> int:
    """What the records of a run take, of every student; a batch kept as rows of a data set holds no examples itself."""
    return horizon * (_RECORD + size_in_bytes([problem.train(0, 0)])) * students_at_once(backend)


def short_sizes(backend: TeacherGradientBackend, problem: TeachingProblem, horizons: Sequence[int]) -> list[int]:
    """The peaks above the start of short runs, of the device where there is one, else of the host."""
    theta = problem.init_teacher(0)
    with whole_pages():
        _cost(backend, problem, theta, min(_SHORT, *horizons))
        return [_bytes(backend, problem, theta, steps) for steps in horizons]


def _short(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> list[int]:
    """The horizons of the two short runs, none above ``horizon``.

    The glance takes whole pages: the heap would keep what it frees, and the peaks that are measured next would lack it.
    """
    if horizon <= 2 * _SHORT:
        return [min(_SHORT, horizon), horizon]
    with whole_pages():
        glance = _cost(backend, problem, problem.init_teacher(0), _SHORT)
    # Of the steps alone: what a step takes is the difference of two runs, and little beside a long dev pass.
    slow = glance.seconds_forward + glance.seconds_reverse > _SLOW
    return [_SHORT, 2 * _SHORT if slow else min(_LONG, horizon)]


def seconds_at(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, growth: Growth) -> float:
    """The seconds of short runs, carried on to ``horizon``; a horizon that is short itself is timed."""
    theta = problem.init_teacher(0)
    low, high = _short(backend, problem, horizon)
    long = _timed(backend, problem, theta, high)
    if high < horizon and long.seconds < _ENOUGH:
        high = min(_LONGER, horizon)
        long = _timed(backend, problem, theta, high)
    if high == horizon:
        return long.seconds
    short = _timed(backend, problem, theta, low)
    scalings = [growth(steps) for steps in (low, high, horizon)]
    forward_rate = max(0.0, long.seconds_forward - short.seconds_forward) / (high - low)
    back = [
        cost.seconds_reverse - forward_rate * scaling.recomputed
        for cost, scaling in zip((short, long), scalings, strict=False)
    ]
    reverse = _line([scaling.steps_back for scaling in scalings], *back) + forward_rate * scalings[-1].recomputed
    dev = long.seconds_dev / scalings[1].dev_passes * scalings[-1].dev_passes
    return long.seconds_forward + forward_rate * (horizon - high) + reverse + dev


def _timed(backend: TeacherGradientBackend, problem: TeachingProblem, theta: TensorDict, horizon: int) -> Cost:
    """The middle one of some runs' costs, the quicker one of two.

    A first run does not count, unless it is slow: it has the system give it the memory that later ones find.
    """
    first = _cost(backend, problem, theta, horizon)
    if first.seconds > _SLOW:
        return first
    costs: list[Cost] = []
    while len(costs) < _FEWEST or (len(costs) < _MOST and sum(cost.seconds for cost in costs) < _ENOUGH):
        costs.append(_cost(backend, problem, theta, horizon))
    middle = median_low(cost.seconds for cost in costs)
    return next(cost for cost in costs if cost.seconds == middle)


def _bytes(backend: TeacherGradientBackend, problem: TeachingProblem, theta: TensorDict, horizon: int) -> int:
    release_free_memory()
    cost = _cost(backend, problem, theta, horizon)
    return cost.device_bytes if cost.device_bytes is not None else cost.host_bytes or 0


def _cost(backend: TeacherGradientBackend, problem: TeachingProblem, theta: TensorDict, horizon: int) -> Cost:
    """Of a student, among as many as the backend takes at once. Raises ``Diverged`` where all of them do."""
    seeds = range(students_at_once(backend))
    found = teacher_gradients(backend, problem, theta, horizon=horizon, seeds=seeds)
    first = min(found, key=lambda one: isinstance(one, Diverged))
    if isinstance(first, Diverged):
        raise first
    return first.cost


def _line(at: Sequence[int], first: float, second: float) -> float:
    """The line through (at[0], first) and (at[1], second), taken at at[2]; flat where the two stand at one place."""
    low, high, wanted = at
    slope = max(0.0, second - first) / (high - low) if high > low else 0.0
    return second + slope * (wanted - high)
