"""Where the time and memory of a training go, by phase, for who asks."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from l2t_bench.gradient import Cost
from l2t_bench.peaks import PhasePeak


class Phases(Protocol):
    """What keeps the time and memory of a training by phase; a cell's recorder is one."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        """A block that belongs to phase ``name``: teacher update or evaluation."""
        ...

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        """What a teacher gradient has measured of itself: rollout, dev or reverse."""
        ...


class NoPhases:
    """Nobody asked."""

    def phase(self, name: str) -> AbstractContextManager[object]:
        del name
        return nullcontext()

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        pass


def add_cost(phases: Phases, cost: Cost) -> None:
    """Tell what a teacher gradient took."""
    for name, phase in cost.phases.items():
        phases.add_phase(phase, getattr(cost, f"seconds_{name}"), cost.peaks.get(name))
