"""A run's folder as data: read, checked, and laid out as tidy tables.

Nothing is unpickled, no name found in a file leads out of the run's folder, and a file that is damaged becomes a
warning and a missing cell, never a result.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from l2t_bench.errors import UserError

SCHEMA = 1
MIB = 2**20
_LONGEST_MESSAGE = 600

Arrays = Mapping[str, np.ndarray]
_Check = Callable[[Any], bool]
_Form = Mapping[str, _Check]


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it lies in its folder.

    ``cells`` has one row per planned cell: cell_id, suite, kind, problem, method, seed, dtype, device, status, message,
    seconds, measurements. ``status`` is the engine's, ``missing`` for a cell without a result, ``damaged`` for one
    whose files cannot be trusted. ``d_theta`` has the teacher gradients that were kept, by (cell_id, horizon).
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
        """Whether the engine came to the end of its plan."""
        return bool(self.meta["finished"])


class _DamagedError(ValueError):
    """A file of a run that is not what the engine writes; the message is a line for the user."""


def load_run(path: Path | str) -> Run:
    """Read a run, finished or not. Raises ``UserError`` for a path that holds no run."""
    folder = Path(path)
    meta = _manifest(folder)
    warnings: list[str] = []
    rows = [_cell_row(folder, planned, meta["finished"], warnings) for planned in meta["cells"]]
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
    failed = run.cells["status"] != "ok"
    if not run.finished:
        failed &= run.cells["status"] != "missing"
    return run.cells.loc[failed, ["kind", "problem", "method", "seed", "status", "message"]].reset_index(drop=True)


# -- forms: what the engine writes, key by key; a key with "?" may be left out, the others may not


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 0


def _is_duration(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_plain_name(value: Any) -> bool:
    """A name of a file or folder that stays where it is looked up."""
    return isinstance(value, str) and bool(re.fullmatch(r"[^/\\\x00:]{1,200}", value)) and value not in (".", "..")


def _are_durations(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_duration, value))


def _are_numbers_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(value_ is None or _is_number(value_) for value_ in value.values())


def _or_null(check: _Check) -> _Check:
    return lambda value: value is None or check(value)


def _fits(record: Any, form: _Form) -> bool:
    return isinstance(record, dict) and _first_misfit(record, form) is None


def _list_of(form: _Form) -> _Check:
    return lambda value: isinstance(value, list) and all(_fits(item, form) for item in value)


def _some_of(form: _Form) -> _Check:
    return lambda value: bool(value) and _list_of(form)(value)


def _first_misfit(record: Mapping[str, Any], form: _Form) -> str | None:
    """The first key that is missing or of another kind than the form says."""
    for key, check in form.items():
        name = key.removesuffix("?")
        if name not in record:
            if name == key:
                return name
        elif not check(record[name]):
            return name
    return None


_IDENTITY: _Form = {
    "suite": _is_plain_name,
    "kind": lambda value: value in ("gradient", "teaching"),
    "problem": _is_text,
    "method": _is_text,
    "seed": _is_whole,
    "dtype?": _is_text,
    "device?": _is_text,
}
_MANIFEST: _Form = {
    "suite": _is_text,
    "finished": lambda value: isinstance(value, bool),
    "cells": _list_of({"cell_id": _is_plain_name, "identity": lambda value: _fits(value, _IDENTITY)}),
    "profile?": _or_null(_is_text),
    "created?": _or_null(_is_text),
    "environment?": lambda value: isinstance(value, dict),
}
_CELL: _Form = {
    "cell_id": _is_plain_name,
    "status": _is_text,
    "message": _or_null(_is_text),
    "identity": lambda value: _fits(value, _IDENTITY),
    "seconds": _is_duration,
    "measurements": lambda value: isinstance(value, dict),
}
_GRADIENT_RUN: _Form = {
    "horizon": _is_count,
    "exactness?": _is_text,
    "seconds": _are_durations,
    "seconds_forward?": _are_durations,
    "seconds_reverse?": _are_durations,
    "seconds_dev?": _are_durations,
    "host_start_bytes?": _or_null(_is_count),
    "host_peak_bytes?": _or_null(_is_count),
    "device_start_bytes?": _or_null(_is_count),
    "device_peak_bytes?": _or_null(_is_count),
    "value": _is_number,
    "gradients?": _is_count,
    "vector_products?": _is_count,
    "recomputed_steps?": _is_count,
    "diagnostics?": _are_numbers_by_name,
    "gradient_file": _is_plain_name,
}
_MEASUREMENTS: Mapping[str, _Form] = {
    "gradient": {
        "exactness": _is_text,
        "parameters?": _is_count,
        "memory_law?": _is_text,
        "runs": _some_of(_GRADIENT_RUN),
    },
    "teaching": {
        "loss": _is_text,
        "lr": _is_number,
        "lr_grid?": _list_of({"lr": _is_number, "dev_accuracy": _is_number}),
        "students": _some_of({"seed": _is_whole, "dev_accuracy": _is_number, "test_accuracy": _is_number}),
        "outer_steps?": _is_count,
        "horizon?": _is_count,
        "train?": _is_count,
        "dev?": _is_count,
        "test?": _is_count,
        "curve?": _list_of(
            {
                "outer_step": _is_count,
                "value": _is_number,
                "gradient_norm?": _or_null(_is_number),
                "diverged?": _is_count,
                "seconds?": _or_null(_is_duration),
            }
        ),
        "selection?": _list_of(
            {"outer_step": _is_count, "dev_accuracy_mean": _is_number, "dev_accuracy_std": _is_duration}
        ),
        "schedule?": _is_text,
        "selected_outer_step?": _or_null(_is_count),
        "seconds_training?": _or_null(_is_duration),
        "seconds_students?": _or_null(_is_duration),
    },
}

# -- reading


def _read_json(file: Path) -> dict[str, Any]:
    """A JSON object of our schema. Raises ``_DamagedError`` for anything else, ``FileNotFoundError`` for no file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _DamagedError("is cut short or not JSON") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _DamagedError(f"cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise _DamagedError("is not a JSON object")
    if content.get("schema") != SCHEMA:
        raise _DamagedError(f"has schema {content.get('schema')!r}, this version reads {SCHEMA}")
    return content


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _manifest(folder: Path) -> dict[str, Any]:
    advice = "name a folder that `l2t-bench run` has written, such as runs/quick"
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: {advice}")
    try:
        meta = _read_json(folder / "run.json")
    except FileNotFoundError:
        raise UserError(f"{folder} holds no run (it has no run.json): {advice}") from None
    except _DamagedError as error:
        raise UserError(f"{folder / 'run.json'} {error}: repeat the run's command, finished cells are kept") from error
    misfit = _first_misfit(meta, _MANIFEST)
    if misfit is not None:
        raise UserError(f"{folder / 'run.json'}: {misfit!r} is missing or not of the form that a run writes")
    return meta


def _inside(root: Path, *names: str) -> Path:
    """A path below ``root``. Raises ``_DamagedError`` where a link leads out of it."""
    path = root.joinpath(*names)
    if not path.resolve().is_relative_to(root.resolve()):
        raise _DamagedError("leads out of the run's folder")
    return path


def _read_cell(folder: Path, cell_id: str, suite: str) -> dict[str, Any]:
    record = _read_json(_inside(folder, "cells", suite, cell_id, "cell.json"))
    misfit = _first_misfit(record, _CELL)
    if misfit is None and record["cell_id"] != cell_id:
        misfit = "cell_id"
    if misfit is None and record["status"] == "ok":
        misfit = _first_misfit(record["measurements"], _MEASUREMENTS[record["identity"]["kind"]])
    if misfit is not None:
        raise _DamagedError(f"has {misfit!r} missing or of another form")
    horizons = [run["horizon"] for run in record["measurements"].get("runs", [])] if record["status"] == "ok" else []
    if len(set(horizons)) < len(horizons):
        raise _DamagedError("has one horizon twice")
    return record


_CELL_COLUMNS = [
    "cell_id",
    "suite",
    "kind",
    "problem",
    "method",
    "seed",
    "dtype",
    "device",
    "status",
    "message",
    "seconds",
    "measurements",
]


def _cell_row(folder: Path, planned: Mapping[str, Any], finished: bool, warnings: list[str]) -> dict[str, Any]:
    """A planned cell with what came of it."""
    identity, cell_id = planned["identity"], planned["cell_id"]
    status, message, seconds = "missing", "not run yet", math.nan
    measurements: dict[str, Any] = {}
    if finished:
        message = "left no result: repeat the run's command"
    try:
        record = _read_cell(folder, cell_id, identity["suite"])
    except FileNotFoundError:
        pass
    except _DamagedError as error:
        status, message = "damaged", f"cell.json {error}"
        warnings.append(f"cell {cell_id}: {message}; treated as missing, repeat the run's command to measure it again")
    else:
        identity, status, seconds = record["identity"], record["status"], record["seconds"]
        message = " ".join((record["message"] or "").split())[:_LONGEST_MESSAGE]
        measurements = record["measurements"] if status == "ok" else {}
    keys = {key: identity.get(key, "") for key in ("suite", "kind", "problem", "method", "seed", "dtype", "device")}
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
    twins = cells.duplicated(["kind", "problem", "method", "seed"])
    warnings.extend(
        f"cell {cell_id}: another cell has the same problem, method and seed; left out"
        for cell_id in cells["cell_id"][twins]
    )
    return cells[~twins].reset_index(drop=True)


def _report_strangers(folder: Path, planned: set[str], warnings: list[str]) -> None:
    """Results in the folder that the plan in run.json does not name: an older plan's."""
    found = {file.parent.name for file in (folder / "cells").glob("*/*/cell.json")}
    if strangers := len(found - planned):
        warnings.append(f"{strangers} of the folder's cells are not in the plan of run.json and are left out")


def _read_gradients(folder: Path, cells: pd.DataFrame, warnings: list[str]) -> dict[tuple[str, int], Arrays]:
    """The kept gradients; one that cannot be read costs its cell the comparison, not its times."""
    found: dict[tuple[str, int], Arrays] = {}
    for cell in _records(cells[(cells["kind"] == "gradient") & (cells["status"] == "ok")]):
        for measured in cell["measurements"]["runs"]:
            name = measured["gradient_file"]
            try:
                file = _inside(folder, "cells", cell["suite"], cell["cell_id"], name)
                found[cell["cell_id"], measured["horizon"]] = load_file(file)
            except (_DamagedError, SafetensorError, OSError, ValueError, KeyError, TypeError):
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
        **{key: cell[key] for key in ("cell_id", "problem", "method", "seed", "dtype", "device")},
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
