"""The contract of a store: it sees a student's run go forward, and gives its steps back, the last one first."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from l2t_bench.adjoint import Visit
from l2t_bench.errors import Refused
from l2t_bench.gradient import Capabilities
from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.resident import held_size
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import MODES
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.tensors import size_in_bytes


@dataclass(frozen=True)
class Wanted:
    """What a reverse pass wants back: the steps ``first`` ... ``horizon`` - 1, their states with slots or without."""

    horizon: int
    first: int = 0
    slots: bool = False

    @property
    def steps(self) -> int:
        return self.horizon - self.first


@dataclass(frozen=True)
class Sizes:
    """Bytes of one state's parts; how many numbers its parameters are, and the momentum by which their slot shrinks."""

    params: int
    buffers: int
    slots: int
    on_host: bool = True  # whether the device's memory is the host's
    entries: int = 0
    momentum: float = 0.0

    def times(self, students: int) -> "Sizes":
        """Of the stacked state of so many students."""
        params, buffers, slots = (students * size for size in (self.params, self.buffers, self.slots))
        return replace(self, params=params, buffers=buffers, slots=slots, entries=students * self.entries)

    @property
    def snapshot(self) -> int:
        """A state from which training can go on."""
        return self.params + self.buffers + self.slots

    def visited(self, wanted: Wanted) -> int:
        """A state as the reverse pass wants it."""
        return self.snapshot if wanted.slots else self.params + self.buffers


@dataclass(frozen=True)
class Law:
    """What a store will take: bytes held at the largest, and steps taken once more.

    ``bytes`` are of the device's memory; ``None``: they hang on the graph of a step, and must be measured.
    ``host_bytes`` are of the host's where that is another.
    """

    bytes: int | None
    recomputed: int = 0
    disk_bytes: int = 0
    host_bytes: int = 0


@dataclass(frozen=True)
class Room:
    """What a store may take: ``bytes`` of memory, a number of ``snapshots``, a ``directory``; ``None``: as it likes."""

    bytes: int | None = None
    snapshots: int | None = None
    directory: str | None = None


class Store(ABC):
    """One run's trajectory: ``begin`` and ``advance`` on the way forward, ``backwards`` on the way back, ``close``.

    A store that keeps part of the run takes the steps between once more from the nearest kept state: the same
    function of the same arguments, and so bit for bit the same states (where it ``replays_exactly``).
    """

    name: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    """The fields of ``Room`` that mean something to it."""
    modes: ClassVar[tuple[str, ...]] = tuple(MODES)
    """The ways to take second derivatives that go with it."""
    engines: ClassVar[tuple[str, ...]] = ("eager", "compiled", "graphed", "auto")
    """The ways to take steps that go with it."""
    keeps_between: ClassVar[bool] = False
    """Whether compiled steps keep results for the way back beside the states: where each step is taken once."""
    stacks: ClassVar[bool] = True
    """Whether it keeps the stacked states of several students as it keeps one student's."""
    keeps_tensors: ClassVar[bool] = False
    """Whether the states lie as they came, each of their tensors by itself: then they take more than their bytes."""
    exact_rollout: ClassVar[bool] = True
    """Whether the run is plain training; else the store trains a neighbour of it, and says so."""

    cannot_be_left: ClassVar[str] = "it holds the whole run, as much as has been done of it"
    """Why another process cannot go on with a run along it; empty where it can."""

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        self.rollout, self.meter, self.wanted, self.room = rollout, meter, wanted, room
        self.stepper = stepper or EagerStepper(rollout, meter)

    @classmethod
    def capabilities(cls, own: Capabilities) -> Capabilities:
        """What a method that goes back along this store can do, of what is its own."""
        return own

    @classmethod
    def refusal(cls, problem: TeachingProblem) -> Refused | None:
        """Why the store cannot keep this problem's run; ``None`` if it can."""
        del problem
        return None

    @classmethod
    @abstractmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        """What the store will take for such a run, before it is run."""

    def begin(self, state: StudentState) -> StudentState:
        """omega_0 as the run is to start from."""
        return state

    def advance(self, step: Step, state: StudentState) -> StudentState:
        """Take ``step`` from ``state``, keeping what the way back will need; the state after it."""
        if step.index >= self.wanted.first:
            self.keep(step, state)
        return self.stepper.advance(step, state)

    def advance_all(self, steps: Sequence[Step], state: StudentState) -> StudentState:
        """``advance`` by each of ``steps``, which hang on no state but ``state``."""
        if len(steps) == 1:
            return self.advance(steps[0], state)
        states = self.stepper.advance_all(steps, state)
        for step, before in zip(steps, [state, *states[:-1]], strict=True):
            if step.index >= self.wanted.first:
                self.keep(step, before)
        return states[-1]

    def keep(self, step: Step, state: StudentState) -> None:
        """Keep what is needed of a wanted step and the state that it starts from."""
        raise NotImplementedError

    @abstractmethod
    def backwards(self) -> Iterator[Visit]:
        """The wanted steps, the last one first. Frees what has been visited. Call it once."""

    def close(self) -> None:  # noqa: B027 (most stores leave nothing)
        """Give back what outlives the object, such as files. Called on success and on error."""

    def can_be_left(self, index: int) -> bool:
        """Whether ``held`` is all that is needed, the state before step ``index`` excepted, to go on from there."""
        del index
        return False

    def held(self) -> dict[int, StudentState]:
        """The kept states, by the step that starts from each."""
        raise NotImplementedError

    def restore(self, steps: Sequence[Step], states: Mapping[int, StudentState], index: int) -> None:
        """Stand before step ``index`` as another store did that held ``states``, after ``begin``.

        ``steps`` are all that the run has taken: more than ``index``, where it was on its way back.
        """
        raise NotImplementedError

    def again(self, step: Step, state: StudentState) -> StudentState:
        """Take a step of the run once more."""
        self.meter.count(recomputed_steps=1)
        return self.stepper.again(step, state)

    def visited(self, state: StudentState) -> StudentState:
        """``state`` as the reverse pass wants it."""
        return state if self.wanted.slots else state.without_slots()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def share_held(state: StudentState, students: int = 1) -> float:
    """What a state whose tensors lie by themselves takes of the memory that a peak is measured in, over its bytes.

    ``state`` is one student's; ``students`` of them are stacked.
    """
    tensors = [*state.params.values(), *state.buffers.values()]
    exact = [students * tensor.numel() * tensor.element_size() for tensor in tensors]
    held = [held_size(size) if tensor.is_cpu else size for size, tensor in zip(exact, tensors, strict=True)]
    return sum(held) / sum(exact)


def sizes_of(rollout_state: StudentState, slot_names: tuple[str, ...], momentum: float = 0.0) -> Sizes:
    """The sizes of a problem's states, from its first one."""
    params = size_in_bytes([rollout_state.params])
    on_host = all(param.device.type == "cpu" for param in rollout_state.params.values())
    entries = sum(param.numel() for param in rollout_state.params.values())
    buffers, slots = size_in_bytes([rollout_state.buffers]), params * len(slot_names)
    return Sizes(params, buffers, slots, on_host, entries, momentum)
