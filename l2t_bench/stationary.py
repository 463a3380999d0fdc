"""What the methods share that take omega_T for a stationary point: a tail that is read again, and what to mistrust."""

import math

from l2t_bench.backend import Run
from l2t_bench.errors import Diverged
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import check_replay, train_student
from l2t_bench.tensors import Tensors, any_nonzero, length_in_float64

_UNSOLVED = 0.1  # of the residual: above it the result is said to be no solution


def trained_twice_at_the_end(run: Run, batches: int) -> StudentState:
    """omega_T; the last ``batches`` steps are then taken once more, and must be the same.

    The method reads their batches again at omega_T, where no loss was recorded to hold them to. Raises ``UserError``.
    """
    first = max(0, run.horizon - batches)
    held: list[StudentState] = []

    def keep(step: Step, state: StudentState) -> None:
        if step.index == first:
            held.append(state)

    final = train_student(run.rollout, keep)
    check_replay(run.rollout, held.pop(), run.rollout.steps[first:])
    run.meter.count(recomputed_steps=run.horizon - first)
    return final


def power_of_two_above(tensors: Tensors) -> float:
    """A power of two above their largest entry, by which they are divided without rounding; 1 for none, or not finite.

    The squares of a w_bar that is all but zero, as a dead student's, are none: solvers would take it for zero, or
    divide by it.
    """
    largest = max(float(tensor.abs().max()) for tensor in tensors.values())
    return 2.0 ** math.frexp(largest)[1] if 0 < largest < math.inf else 1.0


def mistrust(
    name: str, w_bar: Tensors, horizon: int, *, residual: float, smallest: float, negative: bool, damping: float
) -> tuple[str, ...]:
    """Warnings of what a stationary method found: ``smallest`` is the least curvature of H that was seen.

    ``negative``: a direction was met in which the damped curvature is not positive. Raises ``Diverged`` for a residual
    that is not finite, with the run's end as its step, and |w_bar| there before the residual.
    """
    if not any_nonzero(w_bar):  # said of the adjoint; every system of zeros is solved
        return ()
    if not math.isfinite(residual):
        raise Diverged(
            f"{name}: the linear system's solution is not finite: more damping, or another solver",
            horizon,
            (length_in_float64(w_bar.values()), residual),
        )
    found = []
    if negative or smallest + damping <= 0:
        found.append(
            f"the curvature at omega_T is not positive (smallest Ritz value {smallest:.2g}, damping {damping:g}): "
            "omega_T is no minimum of the training loss, and what this gradient stands for is open; train longer, or "
            "raise the damping above it"
        )
    if residual > _UNSOLVED:
        found.append(
            f"the linear system is not solved (residual {residual:.2g}): more iterations, a higher rank, or more "
            "damping"
        )
    return tuple(found)
