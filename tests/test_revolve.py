"""The schedule of binomial checkpointing: what it promises of slots and steps, and that no other takes fewer."""

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2t_bench.stores import revolve
from l2t_bench.stores.revolve import Advance, Free, Restore, Snapshot, Visit

ALL = [(steps, slots) for steps in range(1, 41) for slots in range(1, 9)]


@cache
def least_advances(steps: int, slots: int) -> int:
    """By trying every place of the next snapshot: Griewank and Walther 2000, Eq. 2. No formula of ours is in it."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps - 1 + least_advances(steps - 1, 1)
    return min(
        middle + least_advances(steps - middle, slots - 1) + least_advances(middle, slots) for middle in range(1, steps)
    )


def followed(steps: int, slots: int) -> tuple[int, int, int]:
    """Advances, those after the first visit, and the most snapshots alive. Fails on an action that cannot be done."""
    held: set[int] = set()
    at: int | None = 0
    visited: list[int] = []
    advances = again = most = 0
    for action in revolve.schedule(steps, slots):
        match action:
            case Snapshot(step):
                assert at == step and step not in held
                held.add(step)
            case Restore(step):
                assert step in held
                at = step
            case Free(step):
                held.remove(step)
            case Advance(start, stop):
                assert at == start < stop
                at = stop
                advances += stop - start
                again += stop - start if visited else 0
            case Visit(step):
                assert at == step, "the state at work must be that of the step"
                visited.append(step)
                at = None
        most = max(most, len(held))
    assert visited == list(reversed(range(steps))) and not held
    return advances, again, most


def test_no_schedule_takes_fewer_steps_and_the_formula_says_how_many() -> None:
    for steps, slots in ALL:
        advances, again, _ = followed(steps, slots)
        assert advances == revolve.forward_steps(steps, slots) == least_advances(steps, slots), (steps, slots)
        assert again == revolve.recomputed_steps(steps, slots), (steps, slots)


@given(st.integers(1, 3000), st.integers(1, 60))
def test_the_schedule_never_holds_more_snapshots_than_there_are_slots(steps: int, slots: int) -> None:
    if slots == 1:
        steps = min(steps, 100)  # quadratic in the steps
    advances, again, most = followed(steps, slots)
    assert most <= slots
    assert advances == revolve.forward_steps(steps, slots)
    assert again == revolve.recomputed_steps(steps, slots)


@pytest.mark.parametrize(
    ("steps", "slots", "advances"),
    [
        (10, 3, 15),  # two repetitions reach just 10 steps: 2*10 - beta(4, 1)
        (14, 3, 27),  # the driver of Algorithm 799: 3*14 - beta(4, 2)
        (20, 3, 45),  # 3*20 - beta(4, 2)
        (252, 5, 1050),  # 5*252 - beta(6, 4)
    ],
)
def test_the_cost_is_that_of_the_literature(steps: int, slots: int, advances: int) -> None:
    assert followed(steps, slots)[0] == revolve.forward_steps(steps, slots) == advances


@pytest.mark.parametrize(
    ("slots", "repetitions", "steps"), [(3, 2, 10), (3, 3, 20), (5, 5, 252), (10, 4, 1001), (1, 10**9 - 1, 10**9)]
)
def test_the_reach_is_the_binomial_coefficient_and_the_last_one_within(
    slots: int, repetitions: int, steps: int
) -> None:
    assert revolve.reach(slots, repetitions) == steps
    assert revolve.repetitions(steps, slots) == repetitions
    assert revolve.repetitions(steps + 1, slots) == repetitions + 1


def test_one_slot_less_than_there_are_steps_leaves_nothing_to_take_again() -> None:
    for steps in (2, 3, 17):
        assert revolve.recomputed_steps(steps, steps - 1) == 0
        assert revolve.recomputed_steps(steps, steps - 2) > 0 if steps > 2 else True


def test_the_fewest_slots_keep_a_bound_that_one_slot_less_would_break() -> None:
    for steps in (1, 2, 10, 100, 2000):
        for bound in (0, steps, 2 * steps):
            slots = revolve.fewest_slots(steps, bound)
            assert revolve.recomputed_steps(steps, slots) <= bound
            assert slots == 1 or revolve.recomputed_steps(steps, slots - 1) > bound
