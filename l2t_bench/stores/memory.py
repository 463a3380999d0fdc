"""Stores that keep states in the device's memory: every one, or those at the beginnings of segments."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from l2t_bench.adjoint import Visit
from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted


class KeepAll(Store):
    """``all``: every omega_t. Memory T*P, no step is taken twice."""

    name = "all"
    keeps_between = True
    keeps_tensors = True

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._visits: list[Visit] = []

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        del room
        return Law(wanted.steps * sizes.visited(wanted))

    def begin(self, state: StudentState) -> StudentState:
        self.stepper.reserve(self.wanted.first, self.wanted.steps, slots=self.wanted.slots)
        return state

    def keep(self, step: Step, state: StudentState) -> None:
        self._visits.append(Visit(step, self.visited(state)))

    def backwards(self) -> Iterator[Visit]:
        while self._visits:
            yield self._visits.pop()


class Segments(Store):
    """``sqrt``: a snapshot each k steps, k of about the square root of the horizon; nearly every step is taken twice.

    Memory (s*ceil(T/k) + k)*P, s states' worth in a snapshot: at its least for k = sqrt(s*T). The last segment is kept
    on the way forward and needs no second time.
    """

    name = "sqrt"
    keeps_tensors = True
    cannot_be_left = ""

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._length = segment_length(wanted, len(rollout.problem.optimizer.slot_names))
        self._snapshots: list[StudentState] = []
        self._steps: list[Step] = []
        self._segment: list[Visit] = []

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        del room
        length = segment_length(wanted, sizes.slots // max(1, sizes.params))
        segments = math.ceil(wanted.steps / length)
        last = wanted.steps - (segments - 1) * length
        # While a segment is visited the snapshots up to its own are held, and its states, the first of which is one.
        at_end = segments * sizes.snapshot + (last - 1) * sizes.visited(wanted)
        before = (segments - 1) * sizes.snapshot + (length - 1) * sizes.visited(wanted) if segments > 1 else 0
        # The kept states of the last full segment are there still when the last snapshot is taken.
        return Law(max(at_end, before), recomputed=(segments - 1) * (length - 1))

    def keep(self, step: Step, state: StudentState) -> None:
        if (step.index - self.wanted.first) % self._length == 0:
            self._snapshots.append(state)
            self._segment = []
        self._steps.append(step)
        self._segment.append(Visit(step, self.visited(state)))

    def backwards(self) -> Iterator[Visit]:
        while self._snapshots:
            state = self._snapshots.pop()
            segment, self._segment = self._segment, []
            if not segment:
                segment = self._again(state, self._steps[len(self._snapshots) * self._length :])
            del self._steps[len(self._snapshots) * self._length :]
            del state
            while segment:
                yield segment.pop()

    def can_be_left(self, index: int) -> bool:
        """Between two segments: there is none that is begun."""
        return index >= self.wanted.first and (index - self.wanted.first) % self._length == 0

    def held(self) -> dict[int, StudentState]:
        return {self.wanted.first + at * self._length: state for at, state in enumerate(self._snapshots)}

    def restore(self, steps: Sequence[Step], states: Mapping[int, StudentState], index: int) -> None:
        self._steps = list(steps[self.wanted.first : index])
        self._snapshots = [states[at] for at in range(self.wanted.first, index, self._length)]

    def _again(self, state: StudentState, steps: list[Step]) -> list[Visit]:
        segment = [Visit(steps[0], self.visited(state))]
        for taken, step in pairwise(steps):
            state = self.again(taken, state)
            segment.append(Visit(step, self.visited(state)))
        return segment


def segment_length(wanted: Wanted, slots: int) -> int:
    """The k that makes (s*ceil(T/k) + k) least, s = 1 + ``slots`` states in a snapshot, 1 or s in a segment's state."""
    snapshot, visited = 1 + slots, 1 + slots if wanted.slots else 1
    around = math.sqrt(snapshot * wanted.steps / visited)
    # Without rounding up, the sum is least at `around`, and at k larger by (k - around)^2 * visited / k. Rounding adds
    # less than a snapshot: the least k is no farther off than this, whatever the horizon, nor beyond twice `around`.
    away = math.sqrt((snapshot / visited + 1) * 2 * around)
    low, high = max(around / 2, around - away), min(2 * around, around + away)
    lengths = range(max(1, math.floor(low)), min(wanted.steps, math.ceil(high)) + 1)
    return min(lengths, key=lambda k: snapshot * math.ceil(wanted.steps / k) + k * visited)
