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

from l2t_bench.data.checksums import DATA_SET
from l2t_bench.engine.cell import is_cell_id
from l2t_bench.engine.records import DamagedError, inside, read_cell, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.reports import variants
from l2t_bench.reports.forms import check_measurements
from l2t_bench.reports.rows import rows_of

Arrays = Mapping[str, np.ndarray]
_LONGEST_MESSAGE = 600
_CELL_COLUMNS = [
    "cell_id",
    *("suite", "suite_version", "profile", "kind", "problem", "method", "seed", "round", "dtype", "device", "settings"),
    "variant",
    "status",
    "message",
    "seconds",
    "environment",
    "data",
    "machine",
    "needs",
    "measurements",
]
_IDENTITY_COLUMNS = _CELL_COLUMNS[1 : _CELL_COLUMNS.index("variant")]


def read_meta(folder: Path) -> dict[str, Any]:
    """What is said of the whole run: its plan, and where its cells ran. Raises ``UserError`` for no run.

    Keys: suite, profile, seeds (how many), created, cells (as planned: cell_id and identity).
    """
    plan = RunFolder(folder).read_plan()
    seeds = {planned["identity"]["seed"] for planned in plan["cells"]}
    return {
        "suite": ", ".join(plan["suites"]),
        "profile": ", ".join(map(str, plan.get("profiles", []))),
        "seeds": len(seeds),
        "created": plan["created"],
        "cells": plan["cells"],
    }


def read_cells(
    folder: Path, planned: Sequence[Mapping[str, Any]], warnings: list[str]
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The planned cells with what came of each, one row a cell, and the environments that results name, by their names.

    What is wrong with any is added to ``warnings``.
    """
    once = {cell["cell_id"]: cell for cell in planned}
    cells = pd.DataFrame([_cell_row(folder, cell, warnings) for cell in once.values()], columns=_CELL_COLUMNS)
    environments = _environments(folder, cells, warnings)
    machines = [variants.machine_of(environments.get(name, {})) for name in cells["environment"]]
    cells["machine"] = pd.Series(machines, index=cells.index, dtype=object)
    cells["variant"] = variants.labels(cells)
    _report_strangers(folder, set(once), warnings)
    _report_machines(cells, warnings)
    return cells, environments


def _environments(folder: Path, cells: pd.DataFrame, warnings: list[str]) -> dict[str, dict[str, Any]]:
    """Every environment that a result names. One that cannot be read is named in ``warnings``."""
    found = {}
    for name in dict.fromkeys(filter(None, cells["environment"])):
        try:
            found[name] = read_json(inside(folder, "environments", f"{name}.json"))
        except (DamagedError, FileNotFoundError):
            count = int((cells["environment"] == name).sum())
            warnings.append(f"environments/{name}.json is missing or damaged: where {count} cells ran is not known")
    return found


def _report_machines(cells: pd.DataFrame, warnings: list[str]) -> None:
    """Results that should stand in one table and were not measured on one machine."""
    told = set()
    for _, group in cells[cells["status"] == "ok"].groupby(["kind", "problem"]):
        machines = [machine for machine in group["machine"] if machine]
        if keys := variants.differing(machines):
            told.add("; ".join(f"{key}: {variants.said(machine.get(key) for machine in machines)}" for key in keys))
    warnings.extend(
        f"measured on several machines ({what}): ratios and differences are formed on one machine only"
        for what in sorted(told)
    )


def _cell_row(folder: Path, planned: Mapping[str, Any], warnings: list[str]) -> dict[str, Any]:
    """A planned cell with what came of it."""
    identity, cell_id = planned["identity"], planned["cell_id"]
    status, message, seconds = "missing", "not run yet", math.nan
    measurements: dict[str, Any] = {}
    environment = data = ""
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
        environment = record["environment"] or ""
        data = str(record["data"].get(DATA_SET, ""))
    return {
        "cell_id": cell_id,
        **{key: identity[key] for key in _IDENTITY_COLUMNS},
        "status": status,
        "message": message,
        "seconds": seconds,
        "environment": environment,
        "data": data,
        "needs": str(identity.get("needs", "")),
        "measurements": measurements,
    }


def _read_cell(folder: Path, cell_id: str, suite: str) -> dict[str, Any]:
    record = read_cell(folder, suite, cell_id)
    if record["status"] == "ok":
        check_measurements(record["identity"]["kind"], record["measurements"])
    return record


def _report_strangers(folder: Path, planned: set[str], warnings: list[str]) -> None:
    """Results in the folder that the plan in plan.json does not name: an older plan's."""
    found = {file.parent.name for file in (folder / "cells").glob("*/*/cell.json") if is_cell_id(file.parent.name)}
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


def read_matrices(folder: Path, cells: pd.DataFrame, warnings: list[str]) -> dict[str, Mapping[int, np.ndarray]]:
    """Phi_t by cell_id and step, (C, C) each, of the cells that kept it; what cannot be read is in ``warnings``."""
    found: dict[str, Mapping[int, np.ndarray]] = {}
    for cell in rows_of(cells[(cells["kind"] == "phi") & (cells["status"] == "ok")]):
        name = cell["measurements"].get("matrix_file")
        if name is None:
            continue
        try:
            kept = load_file(inside(folder, "cells", cell["suite"], cell["cell_id"], "artifacts", name))
            found[cell["cell_id"]] = _by_step(kept, len(cell["measurements"]["names"]))
        except (DamagedError, SafetensorError, OSError, ValueError, KeyError, TypeError):
            warnings.append(f"cell {cell['cell_id']}: {name} is missing or damaged; its Phi_t is not shown")
    return found


def _by_step(kept: Arrays, classes: int) -> dict[int, np.ndarray]:
    """``step_20`` as 20. Raises ``ValueError`` for another name, shape, or numbers that are not finite; for none."""
    matrices = {int(key.removeprefix("step_")): np.asarray(array, dtype=np.float32) for key, array in kept.items()}
    if not matrices or any(each.shape != (classes, classes) for each in matrices.values()):
        raise ValueError("no matrix of classes by classes")
    if not all(np.isfinite(each).all() for each in matrices.values()):
        raise ValueError("a number that is not finite")
    return matrices
