"""What a teacher gradient will take at a horizon, extrapolated from two short runs on this machine."""

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from l2t_bench.gradient import Cost, Prediction, Refused
from l2t_bench.measure import release_free_memory, whole_pages
from l2t_bench.optimizers import Tensors
from l2t_bench.problem import TeachingProblem

if TYPE_CHECKING:
    from l2t_bench.backend import Backend

_SHORT, _LONG = 5, 25  # steps of the two runs: their difference is twenty steps without what a run costs once


def predict(backend: "Backend", problem: TeachingProblem, horizon: int) -> Prediction:
    """Peak bytes above the start, and seconds.

    The forward pass grows with the horizon; the reverse pass and the memory with the number of steps that the method
    goes back through or keeps (``backend.kept_steps``). Raises ``Refused`` for a problem that the backend does not do.
    """
    verdict = backend.supports(problem, horizon)
    if isinstance(verdict, Refused):
        raise verdict
    theta = problem.init_teacher(0)
    short, long = (_cost(backend, problem, theta, min(steps, horizon)) for steps in (_SHORT, _LONG))
    if horizon <= _LONG:
        return Prediction(_bytes(long), long.seconds)
    kept = tuple(backend.kept_steps(steps) for steps in (_SHORT, _LONG, horizon))
    forward = _line((_SHORT, _LONG, horizon), short.seconds_forward, long.seconds_forward)
    reverse = _line(kept, short.seconds_reverse, long.seconds_reverse)
    return Prediction(round(_line(kept, _bytes(short), _bytes(long))), forward + reverse + long.seconds_dev)


def _cost(backend: "Backend", problem: TeachingProblem, theta: Tensors, horizon: int) -> Cost:
    """Times of a second run (the first warms up), memory of a third."""
    backend.teacher_gradient(problem, theta, horizon=horizon)
    timed = backend.teacher_gradient(problem, theta, horizon=horizon).cost
    release_free_memory()
    with whole_pages():
        sized = backend.teacher_gradient(problem, theta, horizon=horizon).cost
    return _with_memory(timed, sized)


def _with_memory(timed: Cost, sized: Cost) -> Cost:
    return replace(timed, **{key: value for key, value in asdict(sized).items() if key.endswith("_bytes")})


def _bytes(cost: Cost) -> int:
    """Of the device where there is one, else of the host."""
    return cost.device_bytes if cost.device_bytes is not None else cost.host_bytes or 0


def _line(at: tuple[int, ...], first: float, second: float) -> float:
    """The line through (at[0], first) and (at[1], second), taken at at[2]; flat where the two stand at one place."""
    low, high, wanted = at
    slope = max(0.0, second - first) / (high - low) if high > low else 0.0
    return second + slope * (wanted - high)
