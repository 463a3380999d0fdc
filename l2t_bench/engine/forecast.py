"""What the cells of a plan will take: known from cells like them that have been run, else predicted in a process.

A task "module:function" is predicted by the function of the same name in "module_forecast", where there is one: it is
given the cell and the memory that it may take, and says what it ``Expected``s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.inquiry import ask_each
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import Refused, UserError
from l2t_bench.resident import release_free_memory

STARTING = 3.0  # seconds that a worker takes for imports and data, where nothing is known


@dataclass(frozen=True)
class Expected:
    """Of one cell: seconds and peak bytes of its process, ``None`` where they are not known, and how they are known."""

    seconds: float | None
    peak_bytes: int | None
    source: str


@dataclass(frozen=True)
class Forecast:
    """Cells of one kind, problem and method: how many, how many of them are to be run, and what each takes."""

    kind: str
    problem: str
    method: str
    cells: int
    to_run: int
    seconds: float | None  # of one cell's process
    peak_bytes: int | None  # resident, or on the device
    source: str  # "earlier cells", "prediction", or why there is none


def forecast(
    cells: Sequence[Cell],
    run: Path,
    waiting: Sequence[Cell],
    memory_limit: int | None = None,
    on_asked: Callable[[int, int, Cell], None] = lambda done, total, cell: None,
) -> list[Forecast]:
    """One line for each kind, problem and method of a plan. ``on_asked`` is told what is looked at: done, of, cell."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.kind, cell.problem, cell.method), []).append(cell)
    to_run = {cell.cell_id for cell in waiting}
    earlier = {key: _earlier(own, run) for key, own in groups.items()}
    asked = [own[0] for key, own in groups.items() if not earlier[key] and any(c.cell_id in to_run for c in own)]
    # One problem's cells in a row: what is made of it for one may serve the next.
    predicted = _predict(sorted(asked, key=lambda cell: cell.problem), memory_limit, on_asked)
    lines = []
    for key, own in sorted(groups.items()):
        known = earlier[key] or predicted.get(own[0].cell_id, Expected(None, None, "nothing"))
        left = sum(cell.cell_id in to_run for cell in own)
        lines.append(Forecast(*key, len(own), left, known.seconds, known.peak_bytes, known.source))
    return lines


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Inside the process that may import torch: what a cell is expected to take."""
    found = asdict(_expected(Cell(**question["cell"]), question["memory_limit"]))
    release_free_memory()  # what one cell has left would count as the next one's
    return found


def _expected(cell: Cell, memory_limit: int | None) -> Expected:
    module, _, function = cell.task.partition(":")
    try:
        predict = getattr(import_module(f"{module}_forecast"), function)
    except (ImportError, AttributeError):  # a task of a plug-in need not have any
        return Expected(None, None, "nothing")
    try:
        found: Expected = predict(cell, memory_limit)
    except Refused as refusal:
        return Expected(STARTING, None, f"refused: {refusal}")
    except UserError as error:
        return Expected(None, None, str(error))
    return found


def _earlier(cells: Sequence[Cell], run: Path) -> Expected | None:
    """The median of the cells of the same kind, problem, method and settings that the run has already."""
    records = [record for cell in cells if (record := RunFolder(run).record(cell)) and record["status"] == "ok"]
    if not records:
        return None
    peaks = [
        phase["host_peak_bytes"]
        for record in records
        for phase in record["phases"].values()
        if phase.get("host_peak_bytes")
    ]
    return Expected(median(record["seconds"] for record in records), max(peaks, default=None), "earlier cells")


def _predict(
    cells: Sequence[Cell], memory_limit: int | None, on_asked: Callable[[int, int, Cell], None]
) -> dict[str, Expected]:
    """By cell. One that ends the process that looks at it, as by want of memory, is told of like any other."""
    questions = [{"cell": asdict(cell), "memory_limit": memory_limit} for cell in cells]
    answers = ask_each("l2t_bench.engine.forecast:answer", questions)
    found = {}
    for done, cell in enumerate(cells):
        on_asked(done, len(cells), cell)
        line = next(answers)
        found[cell.cell_id] = Expected(None, None, str(line)) if isinstance(line, UserError) else Expected(**line)
    return found
