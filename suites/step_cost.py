"""What a step of plain training takes: timed; or, where it is long, carried on from steps of a few examples."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import torch

from l2t_bench.batch_parts import begins_with_examples, first_examples
from l2t_bench.batches import Batch
from l2t_bench.lessons import teach
from l2t_bench.measure import Meter
from l2t_bench.problem import TeachingProblem, example_count
from l2t_bench.registry import build_problem
from l2t_bench.resident import release_free_memory

_STEPS = 2  # that a student is timed for
_ONCE_IN = 20  # steps: how often the first one's features are measured, and more that comes once for a run
_LONG = 5.0  # seconds of a step that is not timed whole
FEW = (2, 6)  # examples of the steps whose cost is carried on to a batch's


@dataclass(frozen=True)
class StepCost:
    """Seconds of a step, the peak above the start where it was looked at, and what the two were read off."""

    seconds: float
    peak_bytes: int | None = None
    source: str = ""


@lru_cache(maxsize=1)
def built(problem: str, device: str, dtype: str) -> TeachingProblem:
    """The problem, kept until another is asked for: cells of one student are looked at in a row, and data take long."""
    return build_problem(problem, device=device, dtype=dtype)


@cache
def cost_of_step(problem: str, device: str, dtype: str) -> StepCost:
    """Of plain training. Looked at once in a process: every loss and backend of a student asks for it."""
    whole = built(problem, device, dtype)
    if not can_be_cut(whole):
        return StepCost(seconds_of_step(whole))
    size = batch_size(whole)
    few, more = (_small_cost(of_examples(whole, count)) for count in FEW)
    seconds = carried_on(few.seconds, more.seconds, size)
    if seconds < _LONG:
        return StepCost(seconds_of_step(whole))
    peak = round(carried_on(few.peak_bytes or 0, more.peak_bytes or 0, size))
    return StepCost(seconds, peak, f"steps of {FEW[0]} and {FEW[1]} examples, carried on to {size}")


def carried_on(few: float, more: float, size: int) -> float:
    """At ``size`` examples what is ``few`` and ``more`` at those of ``FEW``: a constant, and the same for each one."""
    return more + max(0.0, more - few) / (FEW[1] - FEW[0]) * (size - FEW[1])


def batch_size(problem: TeachingProblem) -> int:
    """How many examples the first batch of training holds."""
    return example_count(tuple(problem.train(0, 0)))


def can_be_cut(problem: TeachingProblem) -> bool:
    """Whether ``of_examples`` can make its batches smaller by much."""
    batches = [tuple(batch) for batch in (problem.train(0, 0), problem.dev_batches[0])]
    return batch_size(problem) > 2 * FEW[-1] and all(map(begins_with_examples, batches))


def of_examples(problem: TeachingProblem, count: int) -> TeachingProblem:
    """The problem with the first ``count`` examples of every batch, of dev's too: its features look at those."""

    def first(batch: Batch) -> Batch:
        return first_examples(batch, count)

    return replace(
        problem, train=lambda index, seed: first(problem.train(index, seed)), dev=first(problem.dev_batches[0])
    )


def seconds_of_steps(train: Callable[[int], object]) -> float:
    """Of a step of what trains a student of a horizon, with its share of what is done every so many steps.

    After a run of as many steps, which loads what it needs and looks at the places of a run that are looked at once.
    """
    train(1 + _STEPS)
    first, few = (_seconds_of_run(train, steps) for steps in (1, 1 + _STEPS))
    step = max(0.0, few - first) / _STEPS
    return step + max(0.0, first - step) / _ONCE_IN


def seconds_of_step(problem: TeachingProblem) -> float:
    """Of plain training; as ``seconds_of_steps``."""
    theta = problem.init_teacher(0)
    return seconds_of_steps(lambda horizon: teach(problem, theta, horizon=horizon, seed=0))


def _seconds_of_run(train: Callable[[int], object], horizon: int) -> float:
    begun = time.perf_counter()
    train(horizon)
    return time.perf_counter() - begun


def _small_cost(problem: TeachingProblem) -> StepCost:
    """Of the second step of two, since the first one measures features, and the peak of both.

    After a run of two that loads what it needs, keeps what libraries keep, and looks at what is looked at once.
    """
    drawn: list[float] = []

    def train(index: int, seed: int) -> Batch:
        drawn.append(_now(problem.device))
        return problem.train(index, seed)

    own, theta = replace(problem, train=train), problem.init_teacher(0)
    teach(own, theta, horizon=2, seed=0)
    release_free_memory()
    meter = Meter(problem.device)
    teach(own, theta, horizon=2, seed=0)
    seconds = _now(problem.device) - drawn[-1]
    memory = meter.device() if problem.device.type == "cuda" else meter.host()
    return StepCost(seconds, max(0, (memory.peak or 0) - (memory.start or 0)))


def _now(device: torch.device) -> float:
    """With all work behind it that the device has been given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
