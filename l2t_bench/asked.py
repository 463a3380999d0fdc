"""What is asked of a rollout, looked at before a step is taken: horizon or steps, learning rates, the first batch."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import Optimizer
from l2t_bench.problem import Step, TeachingProblem, forward_seed


def checked_horizon(horizon: int | None, steps: Sequence[Step] | None, seed: int) -> int:
    """The number of steps that one of the two says. Raises ``UserError`` for what is no run of student ``seed``."""
    if _integer(seed) is None:
        raise UserError(f"seed must be an integer, not {seed!r}")
    if (horizon is None) == (steps is None):
        raise UserError("give either horizon= (a number of steps) or steps= (a recorded run)")
    if steps is not None:
        _check_steps(steps, seed)
        return len(steps)
    found = _integer(horizon)
    if found is None or found < 1:
        raise UserError(f"horizon must be a positive number of steps, not {horizon!r}")
    return found


def checked_count(given: Any, what: str) -> int:
    """``given`` as a number of things that are counted. Raises ``UserError`` for none, and for what is no number."""
    found = _integer(given)
    if found is None or found < 1:
        raise UserError(f"{what} must be a whole number, 1 or more, not {given!r}")
    return found


def _integer(given: Any) -> int | None:
    try:
        return None if isinstance(given, bool) else operator.index(given)
    except TypeError:
        return None


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


def check_recorded(problem: TeachingProblem, steps: Sequence[Step]) -> None:
    """Raises ``UserError`` for steps that were recorded in another precision or on another device."""
    features = steps[0].features
    ours, theirs = (problem.dtype, problem.device.type), (features.dtype, features.device.type)
    if ours != theirs:
        raise UserError(
            f"these steps were recorded in {theirs[0]} on {theirs[1]}, and the problem is in {ours[0]} on {ours[1]}: "
            "record a run of this problem (l2t.record)"
        )


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


def check_replayable(train: Callable[[int, int], Batch], batch: Any, seed: int) -> None:
    """Raises ``UserError`` unless ``train`` gives the first batch of student ``seed`` once more."""
    check_pair(batch)
    if not same_tensors(tuple(batch), tuple(train(0, seed))):
        raise UserError(
            "train(0, seed) gave two different batches for the same arguments: it must be a pure function of "
            "(index, seed); draw with torch.Generator().manual_seed(...), not from a running iterator"
        )


def check_pair(batch: Any) -> None:
    """Raises ``UserError`` for what is no (inputs, targets)."""
    if isinstance(batch, Tensor | Mapping | str) or not hasattr(batch, "__len__") or len(batch) != 2:
        raise UserError(f"train(index, seed) must return (inputs, targets), not {type(batch).__name__}")
    for part in pytree.tree_leaves(tuple(batch)):
        if isinstance(part, Mapping):
            raise UserError(f"train(index, seed) gives a {type(part).__name__}: make it a plain dict(...) of tensors")
        if hasattr(part, "__array__") and not isinstance(part, Tensor):
            raise UserError(
                f"train(index, seed) gives a {type(part).__name__} of numpy's kind, where tensors are needed: "
                "torch.from_numpy(array)"
            )
