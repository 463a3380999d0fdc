"""What a launcher is: it runs the cells of a run somewhere, and says when each begins and ends."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from l2t_bench.engine.cell import Cell, Status
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study


@dataclass(frozen=True)
class Work:
    """Cells that are to be run in a folder, by the limits, threads and device of a study."""

    folder: RunFolder
    cells: tuple[Cell, ...]
    study: Study


@dataclass(frozen=True)
class News:
    """A cell has begun, or ended with a status."""

    cell: Cell
    status: Status | None  # None: begun
    seconds: float = 0.0


@runtime_checkable
class Launcher(Protocol):
    """Made of its table in a TOML file: raises ``UserError`` for what it does not know, and where it cannot run."""

    elsewhere: bool
    """Whether cells run on other machines than this one, which then need not have the study's device."""

    def __init__(self, settings: Mapping[str, Any]) -> None: ...

    def launch(self, work: Work) -> Generator[News, None, None]:
        """Run the cells, each after the one that it needs: every cell comes up when it begins, and when it has ended.

        What they leave is in the run's folder as ``engine.attempt`` keeps it. An interrupt, or the iterator closed
        early, ends the cells in flight. Raises ``DiskFullError`` and ``UserError`` where results cannot be kept.
        """
        ...

    def end_left(self, folder: RunFolder) -> None:
        """End what a process that was killed has left running for this folder. Only for the holder of its lock."""
        ...


def next_ready(queue: list[Cell], running: set[str]) -> Cell | None:
    """The first cell that does not wait for another of the queue or of those that run, which are known by their ids."""
    unfinished = {cell.cell_id for cell in queue} | running
    return next((cell for cell in queue if cell.needs not in unfinished), None)
