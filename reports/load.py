"""A run's folder as data: read, checked, and laid out as tidy tables.

Nothing is unpickled, no name found in a file leads out of the run's folder, and a file that is damaged becomes a
warning and a missing cell, never a result.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from l2t_bench.engine.records import (
    DamagedError,
    Form,
    first_misfit,
    inside,
    is_count,
    is_duration,
    is_number,
    is_plain_name,
    is_text,
    is_whole,
    list_of,
    or_null,
    read_cell,
    read_json,
    some_of,
)
from l2t_bench.engine.store import RunFolder

MIB = 2**20
_LONGEST_MESSAGE = 600

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it lies in its folder.

    ``cells`` has one row per planned cell: cell_id, suite, kind, problem, method, seed, round, dtype, device, status,
    message, seconds, measurements. ``status`` is the engine's, ``missing`` for a cell without a result, ``damaged`` for
    one whose files cannot be trusted. ``d_theta`` has the teacher gradients that were kept, by (cell_id, horizon).
    """

    path: Path
    meta: Mapping[str, Any]
    cells: pd.DataFrame
    d_theta: Mapping[tuple[str, int], Arrays]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def finished(self) -> bool:
        """Whether every planned cell has a result."""
        return not (self.cells["status"] == "missing").any()


def load_run(path: Path | str) -> Run:
    """Read a run, finished or not. Raises ``UserError`` for a path that holds no run."""
    folder = Path(path)
    meta = _meta(folder, RunFolder(folder).read_plan())
    warnings: list[str] = []
    rows = [_cell_row(folder, planned, warnings) for planned in meta["cells"]]
    cells = _without_twins(pd.DataFrame(rows, columns=_CELL_COLUMNS), warnings)
    _report_strangers(folder, {planned["cell_id"] for planned in meta["cells"]}, warnings)
    d_theta = _read_gradients(folder, cells, warnings)
    return Run(folder, meta, cells, d_theta, tuple(warnings))


def gradients(run: Run) -> pd.DataFrame:
    """One row per gradient cell and horizon; times are medians of the cell's repeats, peaks are above the start."""
    rows = [
        _gradient_row(cell, measured) for cell in _results(run, "gradient") for measured in cell["measurements"]["runs"]
    ]
    return pd.DataFrame(rows, columns=_columns(rows, _GRADIENT_COLUMNS))


def students(run: Run) -> pd.DataFrame:
    """One row per teaching cell and fresh student."""
    rows = [
        {
            **_teaching_keys(cell),
            "lr": cell["measurements"]["lr"],
            "horizon": cell["measurements"].get("horizon"),
            "outer_steps": cell["measurements"].get("outer_steps"),
            "student_seed": student["seed"],
            "dev_accuracy": student["dev_accuracy"],
            "test_accuracy": student["test_accuracy"],
        }
        for cell in _results(run, "teaching")
        for student in cell["measurements"]["students"]
    ]
    return pd.DataFrame(rows, columns=_STUDENT_COLUMNS)


def curves(run: Run) -> pd.DataFrame:
    """One row per teaching cell and outer step: dev objective, norm of the teacher gradient, seconds.

    A step whose students all diverged has no value.
    """
    rows = [
        {**_teaching_keys(cell), **{key: point.get(key) for key in _CURVE_POINT}, **(_NO_VALUE if _lost(point) else {})}
        for cell in _results(run, "teaching")
        for point in cell["measurements"].get("curve", [])
    ]
    return pd.DataFrame(rows, columns=[*_TEACHING_KEYS, *_CURVE_POINT])


def selections(run: Run) -> pd.DataFrame:
    """One row per teaching cell and judged teacher: dev accuracy of held-out students, and whether it was kept."""
    rows = [
        {
            **_teaching_keys(cell),
            **{key: point[key] for key in _JUDGED},
            "selected": point["outer_step"] == cell["measurements"].get("selected_outer_step"),
        }
        for cell in _results(run, "teaching")
        for point in cell["measurements"].get("selection", [])
    ]
    return pd.DataFrame(rows, columns=[*_TEACHING_KEYS, *_JUDGED, "selected"])


def teachings(run: Run) -> pd.DataFrame:
    """One row per teaching cell: what was set, what was chosen on dev, and what it took."""
    rows = [_teaching_row(cell) for cell in _results(run, "teaching")]
    return pd.DataFrame(rows, columns=_TEACHING_COLUMNS)


def failures(run: Run) -> pd.DataFrame:
    """The cells that ended without a result, and why; those that an unfinished run has yet to do are not among them."""
    failed = ~run.cells["status"].isin(["ok", "missing"])
    return run.cells.loc[failed, ["kind", "problem", "method", "seed", "status", "message"]].reset_index(drop=True)


# -- forms: what the tasks of our suites measure, key by key


def _are_durations(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_duration, value))


def _are_numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(value_ is None or is_number(value_) for value_ in value.values())


_GRADIENT_RUN: Form = {
    "horizon": is_count,
    "exactness?": is_text,
    "seconds": _are_durations,
    "seconds_forward?": _are_durations,
    "seconds_reverse?": _are_durations,
    "seconds_dev?": _are_durations,
    "host_start_bytes?": or_null(is_count),
    "host_peak_bytes?": or_null(is_count),
    "device_start_bytes?": or_null(is_count),
    "device_peak_bytes?": or_null(is_count),
    "value": is_number,
    "gradients?": is_count,
    "vector_products?": is_count,
    "recomputed_steps?": is_count,
    "diagnostics?": _are_numbers_by_name,
    "gradient_file": is_plain_name,
}
_MEASUREMENTS: Mapping[str, Form] = {
    "gradient": {
        "exactness": is_text,
        "parameters?": is_count,
        "memory_law?": is_text,
        "runs": some_of(_GRADIENT_RUN),
    },
    "teaching": {
        "loss": is_text,
        "lr": is_number,
        "lr_grid?": list_of({"lr": is_number, "dev_accuracy": is_number}),
        "students": some_of({"seed": is_whole, "dev_accuracy": is_number, "test_accuracy": is_number}),
        "outer_steps?": is_count,
        "horizon?": is_count,
        "train?": is_count,
        "dev?": is_count,
        "test?": is_count,
        "curve?": list_of(
            {
                "outer_step": is_count,
                "value": is_number,
                "gradient_norm?": or_null(is_number),
                "diverged?": is_count,
                "seconds?": or_null(is_duration),
            }
        ),
        "selection?": list_of(
            {"outer_step": is_count, "dev_accuracy_mean": is_number, "dev_accuracy_std": is_duration}
        ),
        "schedule?": is_text,
        "selected_outer_step?": or_null(is_count),
        "seconds_training?": or_null(is_duration),
        "seconds_students?": or_null(is_duration),
    },
}

# -- reading


def _meta(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the whole run: its plan, and where its cells ran (the environment that most of them name)."""
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
    files = sorted((folder / "environments").glob("*.json"), key=lambda file: file.stat().st_size)
    for file in reversed(files):  # the fullest: a cell that was refused early may not have come to torch's settings
        try:
            return read_json(file)
        except (DamagedError, FileNotFoundError):
            continue
    return {}


def _read_cell(folder: Path, cell_id: str, suite: str) -> dict[str, Any]:
    record = read_cell(folder, suite, cell_id)
    if record["status"] != "ok":
        return record
    misfit = first_misfit(record["measurements"], _MEASUREMENTS.get(record["identity"]["kind"], {}))
    if misfit is not None:
        raise DamagedError(f"has {misfit!r} missing or of another form")
    if record["identity"]["kind"] == "gradient":
        horizons = [run["horizon"] for run in record["measurements"]["runs"]]
        if len(set(horizons)) < len(horizons):
            raise DamagedError("has one horizon twice")
    return record


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


def _read_gradients(folder: Path, cells: pd.DataFrame, warnings: list[str]) -> dict[tuple[str, int], Arrays]:
    """The kept gradients; one that cannot be read costs its cell the comparison, not its times."""
    found: dict[tuple[str, int], Arrays] = {}
    for cell in _records(cells[(cells["kind"] == "gradient") & (cells["status"] == "ok")]):
        for measured in cell["measurements"]["runs"]:
            name = measured["gradient_file"]
            try:
                file = inside(folder, "cells", cell["suite"], cell["cell_id"], "artifacts", name)
                found[cell["cell_id"], measured["horizon"]] = load_file(file)
            except (DamagedError, SafetensorError, OSError, ValueError, KeyError, TypeError):
                warnings.append(f"cell {cell['cell_id']}: {name} is missing or damaged; its gradient is not compared")
    return found


# -- tidy rows


def _records(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for record in frame.to_dict("records"):
        yield {str(key): value for key, value in record.items()}


def _results(run: Run, kind: str) -> Iterator[dict[str, Any]]:
    return _records(run.cells[(run.cells["kind"] == kind) & (run.cells["status"] == "ok")])


def _columns(rows: list[dict[str, Any]], known: list[str]) -> list[str]:
    """The known columns, then whatever diagnostics the methods gave."""
    return known + sorted({key for row in rows for key in row} - set(known))


_GRADIENT_COLUMNS = [
    "cell_id",
    "problem",
    "method",
    "seed",
    "round",
    "horizon",
    "exactness",
    "dtype",
    "device",
    "parameters",
    "memory_law",
    "value",
    "repeats",
    "seconds",
    "seconds_forward",
    "seconds_reverse",
    "seconds_dev",
    "peak_above_start_mib",
    "host_peak_above_start_mib",
    "device_peak_above_start_mib",
    "gradients",
    "vector_products",
    "recomputed_steps",
]


def _gradient_row(cell: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    whole = cell["measurements"]
    host, on_device = _above_start_mib(measured, "host"), _above_start_mib(measured, "device")
    return {
        **{key: cell[key] for key in ("cell_id", "problem", "method", "seed", "round", "dtype", "device")},
        "horizon": measured["horizon"],
        "exactness": measured.get("exactness", whole["exactness"]),  # a window as long as the run is exact
        "parameters": whole.get("parameters"),
        "memory_law": whole.get("memory_law", ""),
        "value": measured["value"],
        "repeats": len(measured["seconds"]),
        **{
            phase: float(np.median(measured[phase])) if phase in measured else math.nan
            for phase in ("seconds", "seconds_forward", "seconds_reverse", "seconds_dev")
        },
        "peak_above_start_mib": host if math.isnan(on_device) else on_device,
        "host_peak_above_start_mib": host,
        "device_peak_above_start_mib": on_device,
        **{key: measured.get(key) for key in ("gradients", "vector_products", "recomputed_steps")},
        **{f"diagnostic_{name}": value for name, value in measured.get("diagnostics", {}).items()},
    }


def _above_start_mib(measured: Mapping[str, Any], where: str) -> float:
    start, peak = measured.get(f"{where}_start_bytes"), measured.get(f"{where}_peak_bytes")
    return math.nan if start is None or peak is None else max(0, peak - start) / MIB


_TEACHING_KEYS = ["cell_id", "problem", "method", "seed", "loss"]
_STUDENT_COLUMNS = [*_TEACHING_KEYS, "lr", "horizon", "outer_steps", "student_seed", "dev_accuracy", "test_accuracy"]
_CURVE_POINT = ("outer_step", "value", "gradient_norm", "diverged", "seconds")
_JUDGED = ("outer_step", "dev_accuracy_mean", "dev_accuracy_std")
_NO_VALUE = {"value": math.nan, "gradient_norm": math.nan}
_TEACHING_COLUMNS = [
    *_TEACHING_KEYS,
    "lr",
    "lr_at_grid_edge",
    "schedule",
    "horizon",
    "train",
    "dev",
    "test",
    "outer_steps",
    "selected_outer_step",
    "seconds_training",
    "seconds_students",
]


def _teaching_keys(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: cell[key] for key in _TEACHING_KEYS if key != "loss"}, "loss": cell["measurements"]["loss"]}


def _lost(point: Mapping[str, Any]) -> bool:
    """An outer step that had no finite student left: the engine writes zeros for what it could not measure."""
    return bool(point.get("diverged")) and point["value"] == 0 and not point.get("gradient_norm")


def _teaching_row(cell: Mapping[str, Any]) -> dict[str, Any]:
    measured = cell["measurements"]
    tried = {point["lr"] for point in measured.get("lr_grid", [])}
    return {
        **_teaching_keys(cell),
        **{key: measured.get(key) for key in _TEACHING_COLUMNS if key not in (*_TEACHING_KEYS, "lr_at_grid_edge")},
        "lr_at_grid_edge": len(tried) > 1 and measured["lr"] in (min(tried), max(tried)),
    }
