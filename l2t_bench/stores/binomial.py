"""A store of snapshots placed by binomial checkpointing: as few steps taken again as their number allows."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile

from l2t_bench.adjoint import Visit
from l2t_bench.errors import UserError
from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores import revolve
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted, sizes_of

_AGAIN = 2  # steps taken again for each step of the run, where nobody says how many snapshots there may be


class Binomial(Store):
    """``binomial``: S snapshots, placed by Griewank and Walther's revolve (2000). Memory (S + 1)*s*P.

    S is ``snapshots``, or as many as ``budget`` has room for beside the state at work, s states' worth in each. Without
    either it is the fewest for which no more than two steps are taken again per step of the run, about (6T)^(1/3): 20
    for 2,000 steps. Forth and back, ``all`` takes the time of three to four student gradients per step, so that this
    is 1.5 to 1.8 times it; ``sqrt`` is quicker and holds 90 states there.
    """

    name = "binomial"
    keeps_tensors = True
    cannot_be_left = ""
    reads = ("bytes", "snapshots")

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._actions: Iterator[revolve.Action] = iter(())
        self._placed: frozenset[int] = frozenset()
        self._steps: list[Step] = []
        self._snapshots: dict[int, StudentState] = {}
        self._at_work: StudentState | None = None
        self._visited = False  # the last step, by another process

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        slots = slots_of(wanted, sizes, room)
        states = min(slots + 1, wanted.steps)
        return Law(states * sizes.snapshot, revolve.recomputed_steps(wanted.steps, slots))

    def begin(self, state: StudentState) -> StudentState:
        slots = slots_of(self.wanted, sizes_of(state, self.rollout.problem.optimizer.slot_names), self.room)
        self._actions = revolve.schedule(self.wanted.steps, slots)
        # The run itself takes the steps up to the first visit; that visit is made when the run is over.
        forward = takewhile(lambda action: not isinstance(action, revolve.Visit), self._actions)
        self._placed = frozenset(action.step for action in forward if isinstance(action, revolve.Snapshot))
        return state

    def keep(self, step: Step, state: StudentState) -> None:
        at = step.index - self.wanted.first
        self._steps.append(step)
        if at in self._placed:
            self._snapshots[at] = state
        if at == self.wanted.steps - 1:
            self._at_work = self._snapshots.pop(at, state)

    def can_be_left(self, index: int) -> bool:
        """Before any wanted step: its state is at work on the way forward, and has been given away on the way back."""
        return index >= self.wanted.first

    def held(self) -> dict[int, StudentState]:
        return {self.wanted.first + at: state for at, state in self._snapshots.items()}

    def restore(self, steps: Sequence[Step], states: Mapping[int, StudentState], index: int) -> None:
        self._steps = list(steps[self.wanted.first : index])
        self._snapshots = {at - self.wanted.first: state for at, state in states.items()}
        visits = len(steps) - index if len(steps) == self.wanted.horizon else 0
        self._visited = visits > 0
        for _ in range(visits - 1):  # the first one of the schedule was taken off by ``begin``
            next(action for action in self._actions if isinstance(action, revolve.Visit))

    def backwards(self) -> Iterator[Visit]:
        if not self._visited:
            yield self._visit()
        for action in self._actions:
            match action:
                case revolve.Restore(step):
                    self._at_work = self._snapshots[step]
                case revolve.Free(step):
                    del self._snapshots[step]
                case revolve.Snapshot(step):
                    self._snapshots[step] = self._working()
                case revolve.Advance(start, stop):
                    for taken in self._steps[start:stop]:
                        self._at_work = self.again(taken, self._working())
                case revolve.Visit():
                    yield self._visit()

    def _working(self) -> StudentState:
        assert self._at_work is not None, "the schedule restores a state before it goes on from it"
        return self._at_work

    def _visit(self) -> Visit:
        """The last step that is left, from the state at work, which is given away."""
        state, self._at_work = self._working(), None
        return Visit(self._steps.pop(), self.visited(state))


def slots_of(wanted: Wanted, sizes: Sizes, room: Room) -> int:
    """How many snapshots the room allows. Raises ``UserError`` for a budget that holds not even one."""
    if room.bytes is None:
        slots = room.snapshots or revolve.fewest_slots(wanted.steps, _AGAIN * wanted.steps)
        return min(slots, max(1, wanted.steps - 1))  # the last state is at work when the run ends
    states, least = room.bytes // sizes.snapshot, min(2, wanted.steps)
    if states < least:
        raise UserError(
            f"store=binomial: a budget of {room.bytes:,} bytes is too small: {least * sizes.snapshot:,} bytes are the "
            f"least, {least} of the student's states"
        )
    return min(max(1, states - 1), max(1, wanted.steps - 1))
