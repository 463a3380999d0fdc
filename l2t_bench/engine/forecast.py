"""What the cells of a plan will take: known from cells like them that have been run, else predicted in a worker."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.inquiry import ask
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import Refused, UserError

_STARTING = 3.0  # seconds that a worker takes for imports and data, where nothing is known


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


def forecast(cells: Sequence[Cell], run: Path, waiting: Sequence[Cell]) -> list[Forecast]:
    """One line for each kind, problem and method of a plan."""
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.kind, cell.problem, cell.method), []).append(cell)
    to_run = {cell.cell_id for cell in waiting}
    unknown = {key: own[0] for key, own in groups.items() if _earlier(own, run) is None}
    predicted = _predict([cell for key, cell in unknown.items() if any(c.cell_id in to_run for c in groups[key])])
    lines = []
    for key, own in sorted(groups.items()):
        seconds, peak, source = _earlier(own, run) or predicted.get(own[0].cell_id, (None, None, "nothing"))
        left = sum(cell.cell_id in to_run for cell in own)
        lines.append(Forecast(*key, len(own), left, seconds, peak, source))
    return lines


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Inside the process that may import torch: seconds and peak bytes of gradient cells, by their id."""
    return {cell.cell_id: _of_gradient(cell) for cell in (Cell(**plain) for plain in question["cells"])}


def _earlier(cells: Sequence[Cell], run: Path) -> tuple[float, int | None, str] | None:
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
    return median(record["seconds"] for record in records), max(peaks, default=None), "earlier cells"


def _predict(cells: Sequence[Cell]) -> dict[str, tuple[float | None, int | None, str]]:
    gradient = [cell for cell in cells if "horizons" in cell.settings]
    if not gradient:
        return {}
    found = ask("l2t_bench.engine.forecast:answer", {"cells": [asdict(cell) for cell in gradient]})
    return {name: (line[0], line[1], line[2]) for name, line in found.items()}


def _of_gradient(cell: Cell) -> tuple[float | None, int | None, str]:
    """The longest horizon's peak on top of what the process holds, and every timed run's seconds."""
    from l2t_bench.registry import build_problem, load_backend
    from l2t_bench.resident import resident_bytes

    try:
        problem = build_problem(cell.problem, dtype=cell.dtype, device=cell.device)
        backend = load_backend(cell.method)
        predictions = [backend.predict(problem, horizon) for horizon in cell.settings["horizons"]]
    except Refused as refusal:
        return _STARTING, None, f"refused: {refusal.reason}"
    except UserError as error:
        return None, None, str(error)
    runs = [repeats + 1 for repeats in cell.settings["repeats"]]  # and one for its memory
    seconds = _STARTING + sum(count * each.seconds for count, each in zip(runs, predictions, strict=True))
    held = 0 if cell.device.startswith("cuda") else resident_bytes() or 0
    return seconds, held + max(each.bytes for each in predictions), "prediction"
