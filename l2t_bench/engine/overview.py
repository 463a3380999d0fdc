"""What a run's folder holds right now, read without disturbing the run that may be writing it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import label_of
from l2t_bench.engine.lock import holder
from l2t_bench.engine.records import DamagedError, log_tail, read_cell
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean
from l2t_bench.plugins import known_file
from l2t_bench.registry import code_now

_LAST_LINES = 15


@dataclass(frozen=True)
class CellState:
    """A planned cell: how it ended, or ``running``, ``missing`` or ``damaged``."""

    cell_id: str
    label: str
    suite: str
    status: str
    message: str
    seconds: float
    stale: bool  # its result was measured with other code than there is now


@dataclass(frozen=True)
class Overview:
    """A run: its planned cells in their order, and the process that is running it, if one is."""

    path: Path
    created: str
    cells: tuple[CellState, ...]
    held_by: int | None

    @property
    def counts(self) -> dict[str, int]:
        """How many cells there are by status."""
        return dict(sorted(Counter(cell.status for cell in self.cells).items()))

    @property
    def stale(self) -> int:
        """How many results were measured with other code than there is now."""
        return sum(cell.stale for cell in self.cells)


def look(path: Path) -> Overview:
    """The state of a run, also while it is going on. Raises ``UserError`` for a folder that holds none."""
    plan = RunFolder(path).read_plan()
    held = holder(path)
    code = _code_now(plan)
    cells = tuple(_state(path, planned, code(planned), going=held is not None) for planned in plan["cells"])
    return Overview(path, plan["created"], cells, None if held is None else held.get("pid"))


def find(path: Path, name: str) -> CellState:
    """The one cell whose id or description has ``name`` in it. Raises ``UserError`` for none, and for several."""
    cells = look(path).cells
    found = [cell for cell in cells if name in (cell.cell_id, cell.label)]
    found = found or [cell for cell in cells if name in cell.cell_id or name in cell.label]
    if not found:
        raise UserError(f"{path} has no cell {name!r}{did_you_mean(name, [cell.cell_id for cell in cells])}")
    if len(found) > 1:
        shown = ", ".join(cell.cell_id for cell in found[:4])
        raise UserError(f"{name!r} may be any of {len(found)} cells: {shown}{', ...' * (len(found) > 4)}")
    return found[0]


def how_to_repeat(path: Path, shown: Path | None = None) -> str:
    """What measures the failed cells of a run again: a command, or for runs merged from several studies, advice.

    ``shown`` is written in place of ``path``, where that is of no use to who reads it.
    """
    named = path if shown is None else shown
    if (path / "run.toml").is_file():
        return f"l2t-bench run --config {named / 'run.toml'} --out {named} --rerun failed"
    merged = RunFolder(path).read_plan().get("merged")
    sources = f": {', '.join(map(str, merged))}" if isinstance(merged, list) and merged else ""
    return f"in the run that it came from{sources}; then merge anew"


def record_of(path: Path, cell: CellState) -> dict[str, Any]:
    """What a cell has left: its record, empty where there is no sound one."""
    try:
        return read_cell(path, cell.suite, cell.cell_id)
    except (DamagedError, FileNotFoundError):
        return {}


def last_lines(path: Path, cell: CellState, log: str) -> list[str]:
    """The end of ``stdout.log`` or ``stderr.log`` of a cell."""
    return log_tail(path, cell.suite, cell.cell_id, log, _LAST_LINES)


def _code_now(plan: dict[str, Any]) -> Callable[[dict[str, Any]], str | None]:
    """The fingerprint that a planned cell would get today; none where plug-ins of the run are not at hand."""
    at_hand = all(known_file(Path(name).name) for name in plan.get("plugins", []))
    of = code_now()

    def now(planned: dict[str, Any]) -> str | None:
        identity, task = planned["identity"], planned.get("task")
        return of(identity["method"], identity["problem"], task) if at_hand and isinstance(task, str) else None

    return now


def _state(path: Path, planned: dict[str, Any], code: str | None, *, going: bool) -> CellState:
    identity, cell_id = planned["identity"], planned["cell_id"]
    status, message, seconds, stale = "missing", "", 0.0, False
    try:
        record = read_cell(path, identity["suite"], cell_id)
        status, message, seconds = record["status"], record["message"] or "", record["seconds"]
        stale = None not in (code, record["code"]) and code != record["code"]
    except DamagedError as error:
        status, message = "damaged", f"cell.json {error}; the next run measures it again"
    except FileNotFoundError:
        if going and (path / "cells" / identity["suite"] / cell_id / "spec.json").is_file():
            status = "running"
    return CellState(cell_id, label_of(identity), identity["suite"], status, message, seconds, stale)
