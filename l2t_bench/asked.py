"""What is asked of a rollout, looked at before a step is taken: horizon or steps, learning rates, the first batch."""

import math
import operator
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.optimizers import Optimizer
from l2t_bench.problem import Step, forward_seed


def checked_horizon(horizon: int | None, steps: Sequence[Step] | None, seed: int) -> int:
    """The number of steps that one of the two says. Raises ``UserError`` for what is no run of student ``seed``."""
    if (horizon is None) == (steps is None):
        raise UserError("give either horizon= (a number of steps) or steps= (a recorded run)")
    if steps is not None:
        _check_steps(steps, seed)
        return len(steps)
    try:
        found = -1 if horizon is None or isinstance(horizon, bool) else operator.index(horizon)
    except TypeError:
        found = -1
    if found < 1:
        raise UserError(f"horizon must be a positive number of steps, not {horizon!r}")
    return found


def _check_steps(steps: Sequence[Step], seed: int) -> None:
    if not steps:
        raise UserError("steps holds no step")
    for at, step in enumerate(steps):
        if not isinstance(step, Step):
            raise UserError(f"steps must hold the steps of a recorded run; at {at} it holds {type(step).__name__}")
        if step.index != at:
            raise UserError(
                f"steps must be those of a run from step 0 on, each once and in order: at {at} comes step {step.index}"
            )
        if step.seed != forward_seed(seed, at):
            raise UserError(f"step {at} was not recorded in the run of student seed={seed}: pass the seed of that run")


def learning_rates(optimizer: Optimizer, horizon: int) -> tuple[float, ...]:
    """eta_t of every step. Raises ``UserError`` for a schedule that fails, or gives what no step can be taken with."""
    return tuple(_lr_at(optimizer, index, horizon) for index in range(horizon))


def _lr_at(optimizer: Optimizer, index: int, horizon: int) -> float:
    schedule = getattr(optimizer, "lr", None)
    name = getattr(schedule, "__qualname__", None) or f"of {type(optimizer).__name__}"
    try:
        lr: Any = optimizer.lr_at(index, horizon)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the lr schedule {name} fails at step {index}: {error}; it must be a function (index, horizon) -> number"
        ) from error
    if not isinstance(lr, Real) or not 0 <= float(lr) < math.inf:
        raise UserError(f"the lr schedule {name} gives {lr!r} at step {index}: a learning rate is a number from 0 on")
    return float(lr)


def check_pair(batch: Any) -> None:
    """Raises ``UserError`` for what is no (inputs, targets)."""
    if isinstance(batch, Tensor | Mapping | str) or not hasattr(batch, "__len__") or len(batch) != 2:
        raise UserError(f"train(index, seed) must return (inputs, targets), not {type(batch).__name__}")
