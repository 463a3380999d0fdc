"""The files of a run, read with mistrust.

Nothing is unpickled, no name found in a file leads out of the run's folder, and a file that is damaged becomes a
warning and a missing cell, never a result.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from l2t_bench.engine.records import DamagedError, inside, read_cell, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.reports.forms import check_measurements
from l2t_bench.reports.rows import rows_of

Arrays = Mapping[str, np.ndarray]
_LONGEST_MESSAGE = 600
_CELL_COLUMNS = [
    "cell_id",
    "suite",
    "kind",
    "problem",
    "method",
    "seed",
    "round",
    "dtype",
    "device",
    "status",
    "message",
    "seconds",
    "measurements",
]


def read_meta(folder: Path) -> dict[str, Any]:
    """What is said of the whole run: its plan, and where its cells ran. Raises ``UserError`` for no run.

    Keys: suite, profile, seeds (how many), created, cells (as planned: cell_id and identity), environment.
    """
    plan = RunFolder(folder).read_plan()
    seeds = {planned["identity"]["seed"] for planned in plan["cells"]}
    return {
        "suite": ", ".join(plan["suites"]),
        "profile": ", ".join(map(str, plan.get("profiles", []))),
        "seeds": len(seeds),
        "created": plan["created"],
        "cells": plan["cells"],
        "environment": _environment(folder),
    }


def _environment(folder: Path) -> dict[str, Any]:
    """One of the run's ``environments/ENV.json``; empty where none can be read."""
    files = sorted((folder / "environments").glob("*.json"), key=lambda file: file.stat().st_size)
    for file in reversed(files):  # the fullest: a cell that was refused early may not have come to torch's settings
        try:
            return read_json(file)
        except (DamagedError, FileNotFoundError):
            continue
    return {}


def read_cells(folder: Path, planned: Sequence[Mapping[str, Any]], warnings: list[str]) -> pd.DataFrame:
    """The planned cells with what came of each, one row a cell; what is wrong with any is added to ``warnings``."""
    rows = [_cell_row(folder, cell, warnings) for cell in planned]
    cells = _without_twins(pd.DataFrame(rows, columns=_CELL_COLUMNS), warnings)
    _report_strangers(folder, {cell["cell_id"] for cell in planned}, warnings)
    return cells


def _cell_row(folder: Path, planned: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    """A planned cell with what came of it."""
    identity, cell_id = planned["identity"], planned["cell_id"]
    status, message, seconds = "missing", "not run yet", math.nan
    measurements: dict[str, Any] = {}
    try:
        record = _read_cell(folder, cell_id, identity["suite"])
    except FileNotFoundError:
        pass
    except DamagedError as error:
        status, message = "damaged", f"cell.json {error}"
        warnings.append(f"cell {cell_id}: {message}; treated as missing, repeat the run's command to measure it again")
    else:
        identity, status, seconds = record["identity"], record["status"], record["seconds"]
        message = " ".join((record["message"] or "").split())[:_LONGEST_MESSAGE]
        measurements = record["measurements"] if status == "ok" else {}
    keys = {
        key: identity.get(key, "") for key in ("suite", "kind", "problem", "method", "seed", "round", "dtype", "device")
    }
    return {
        "cell_id": cell_id,
        **keys,
        "status": status,
        "message": message,
        "seconds": seconds,
        "measurements": measurements,
    }


def _read_cell(folder: Path, cell_id: str, suite: str) -> dict[str, Any]:
    record = read_cell(folder, suite, cell_id)
    if record["status"] == "ok":
        check_measurements(record["identity"]["kind"], record["measurements"])
    return record


def _without_twins(cells: pd.DataFrame, warnings: list[str]) -> pd.DataFrame:
    """Cells that no table could tell apart would be averaged unseen: the first is kept, the others are named."""
    twins = cells.duplicated(["kind", "problem", "method", "seed", "round"])
    warnings.extend(
        f"cell {cell_id}: another cell has the same problem, method and seed; left out"
        for cell_id in cells["cell_id"][twins]
    )
    return cells[~twins].reset_index(drop=True)


def _report_strangers(folder: Path, planned: set[str], warnings: list[str]) -> None:
    """Results in the folder that the plan in plan.json does not name: an older plan's."""
    found = {file.parent.name for file in (folder / "cells").glob("*/*/cell.json")}
    if strangers := len(found - planned):
        warnings.append(f"{strangers} of the folder's cells are not in the plan of plan.json and are left out")


def read_gradients(folder: Path, cells: pd.DataFrame, warnings: list[str]) -> dict[tuple[str, int], Arrays]:
    """The kept gradients by cell_id and horizon; one that cannot be read costs its cell the comparison, not its times.

    What cannot be read is added to ``warnings``.
    """
    found: dict[tuple[str, int], Arrays] = {}
    for cell in rows_of(cells[(cells["kind"] == "gradient") & (cells["status"] == "ok")]):
        for measured in cell["measurements"]["runs"]:
            name = measured["gradient_file"]
            try:
                file = inside(folder, "cells", cell["suite"], cell["cell_id"], "artifacts", name)
                found[cell["cell_id"], measured["horizon"]] = load_file(file)
            except (DamagedError, SafetensorError, OSError, ValueError, KeyError, TypeError):
                warnings.append(f"cell {cell['cell_id']}: {name} is missing or damaged; its gradient is not compared")
    return found
