"""What a teacher gradient will take at a horizon, extrapolated from two short runs on this machine."""

from collections.abc import Callable

from l2t_bench.gradient import Prediction, Refused, TeacherGradientBackend
from l2t_bench.optimizers import Tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import release_free_memory, whole_pages

_SHORT, _LONG = 5, 25  # steps of the two runs: their difference is twenty steps without what a run costs once


def predict(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, kept_steps: Callable[[int], int]
) -> Prediction:
    """Peak bytes above the start, and seconds.

    The forward pass grows with the horizon; the reverse pass and the memory with the number of steps that the method
    goes back through or keeps, ``kept_steps(horizon)``. Raises ``Refused`` for a problem that the backend does not do.
    """
    verdict = backend.supports(problem, horizon)
    if isinstance(verdict, Refused):
        raise verdict
    theta = problem.init_teacher(0)
    horizons = [min(steps, horizon) for steps in (_SHORT, _LONG)]
    with whole_pages():  # memory first, times after it
        backend.teacher_gradient(problem, theta, horizon=horizons[0])
        sizes = [_bytes(backend, problem, theta, steps) for steps in horizons]
    short, long = (backend.teacher_gradient(problem, theta, horizon=steps).cost for steps in horizons)
    if horizon <= _LONG:
        return Prediction(sizes[-1], long.seconds)
    kept = tuple(kept_steps(steps) for steps in (_SHORT, _LONG, horizon))
    forward = _line((_SHORT, _LONG, horizon), short.seconds_forward, long.seconds_forward)
    reverse = _line(kept, short.seconds_reverse, long.seconds_reverse)
    return Prediction(round(_line(kept, *sizes)), forward + reverse + long.seconds_dev)


def _bytes(backend: TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, horizon: int) -> int:
    """The peak above the start, of the device where there is one, else of the host."""
    release_free_memory()
    cost = backend.teacher_gradient(problem, theta, horizon=horizon).cost
    return cost.device_bytes if cost.device_bytes is not None else cost.host_bytes or 0


def _line(at: tuple[int, ...], first: float, second: float) -> float:
    """The line through (at[0], first) and (at[1], second), taken at at[2]; flat where the two stand at one place."""
    low, high, wanted = at
    slope = max(0.0, second - first) / (high - low) if high > low else 0.0
    return second + slope * (wanted - high)
