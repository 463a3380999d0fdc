"""Binomial checkpointing: which states to keep, so that a run is gone back through with the fewest steps taken again.

Griewank and Walther, "Algorithm 799: revolve", ACM TOMS 26(1), 2000. Pure functions of the number of steps and of
slots. A slot holds the state that a step starts from; one more state, the one at work, is held beside the slots.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True)
class Snapshot:
    """Put the state at work into a free slot: it is the one that ``step`` starts from."""

    step: int


@dataclass(frozen=True)
class Restore:
    """Go on from the snapshot of ``step``."""

    step: int


@dataclass(frozen=True)
class Free:
    """Forget the snapshot of ``step``."""

    step: int


@dataclass(frozen=True)
class Advance:
    """Take the steps ``start`` ... ``stop`` - 1."""

    start: int
    stop: int


@dataclass(frozen=True)
class Visit:
    """The state at work is the one that ``step`` starts from: go back through that step."""

    step: int


Action = Snapshot | Restore | Free | Advance | Visit


def schedule(steps: int, slots: int) -> Iterator[Action]:
    """The optimal actions for ``steps`` >= 1 steps and ``slots`` >= 1 slots, the state at work being that of step 0.

    Every step is visited once, the last one first. The advances before the first visit are the way forward itself.
    """
    held, at = [0], 0
    yield Snapshot(0)
    for step in reversed(range(steps)):
        if at > step:
            at = held[-1]
            yield Restore(at)
        if held[-1] == step:  # it is at work now, and its slot is free for others
            held.pop()
            yield Free(step)
        while at < step:
            start, at = at, at + _stride(step + 1 - at, slots + 1 - len(held))
            yield Advance(start, at)
            if at < step:
                held.append(at)
                yield Snapshot(at)
        yield Visit(step)


def reach(slots: int, repetitions: int) -> int:
    """beta(s, r): the most steps that can be gone back through if none is taken more than ``repetitions`` times."""
    return comb(slots + repetitions, slots) if repetitions >= 0 else 0


def repetitions(steps: int, slots: int) -> int:
    """The least r with ``steps`` <= beta(``slots``, r)."""
    high = 1
    while reach(slots, high) < steps:
        high *= 2
    return bisect_left(range(high), steps, key=lambda most: reach(slots, most))  # high itself where none below does


def forward_steps(steps: int, slots: int) -> int:
    """The least number of advances, the first run included: t(l, s) = r*l - beta(s + 1, r - 1)."""
    most = repetitions(steps, slots)
    return most * steps - reach(slots + 1, most - 1)


def recomputed_steps(steps: int, slots: int) -> int:
    """The least number of steps taken once more: all advances but the ``steps`` - 1 of the first run."""
    return forward_steps(steps, slots) - (steps - 1)


def fewest_slots(steps: int, recomputed: int) -> int:
    """The fewest slots with which at most ``recomputed`` >= 0 steps need to be taken once more."""
    low, high = 1, max(1, steps - 1)  # with one slot less than there are steps none is
    while low < high:
        middle = (low + high) // 2
        if recomputed_steps(steps, middle) <= recomputed:
            high = middle
        else:
            low = middle + 1
    return low


def _stride(steps: int, slots: int) -> int:
    """How far to go before the next snapshot, with ``steps`` ahead; ``slots`` with that of the state at work.

    The largest optimal stride: the part before the snapshot, which is gone through once more, must be within the reach
    of r - 1 repetitions, and the part after it, which has a slot less, of r at the most and r - 1 at the least.
    """
    if slots == 1:
        return steps - 1
    most = repetitions(steps, slots)
    return min(reach(slots, most - 1), steps - reach(slots - 1, most - 1))
