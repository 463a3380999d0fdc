"""What the cells of a plan will take: known from cells like them that have been run, else predicted in a process.

A task "module:function" is predicted by the function of the same name in "module_forecast", where there is one: it is
given the cell and the memory that it may take, and says what it ``Expected``s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.inquiry import ask
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
    cells: Sequence[Cell], run: Path, waiting: Sequence[Cell], memory_limit: int | None = None
) -> list[Forecast]:
    """One line for each kind, problem and method of a plan."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.kind, cell.problem, cell.method), []).append(cell)
    to_run = {cell.cell_id for cell in waiting}
    earlier = {key: _earlier(own, run) for key, own in groups.items()}
    asked = [own[0] for key, own in groups.items() if not earlier[key] and any(c.cell_id in to_run for c in own)]
    predicted = _predict(asked, memory_limit)
    lines = []
    for key, own in sorted(groups.items()):
        known = earlier[key] or predicted.get(own[0].cell_id, Expected(None, None, "nothing"))
        left = sum(cell.cell_id in to_run for cell in own)
        lines.append(Forecast(*key, len(own), left, known.seconds, known.peak_bytes, known.source))
    return lines


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Inside the process that may import torch: what each cell is expected to take, by its id."""
    found = {}
    for cell in (Cell(**plain) for plain in question["cells"]):
        found[cell.cell_id] = asdict(_expected(cell, question["memory_limit"]))
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


def _predict(cells: Sequence[Cell], memory_limit: int | None) -> dict[str, Expected]:
    if not cells:
        return {}
    question = {"cells": [asdict(cell) for cell in cells], "memory_limit": memory_limit}
    found = ask("l2t_bench.engine.forecast:answer", question)
    return {name: Expected(**line) for name, line in found.items()}
