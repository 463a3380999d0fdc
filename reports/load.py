"""A run as data: loaded from its folder, and laid out as tidy tables, one function each."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.engine.records import is_number
from l2t_bench.reports.reading import Arrays, read_cells, read_gradients, read_matrices, read_meta
from l2t_bench.reports.rows import rows_of

MIB = 2**20
GB = 10**9  # as memory limits are given
OWN_KINDS = ("gradient", "teaching", "teacher", "phi")  # of cells, with tables of their own
HYPER = "hyper_"  # how the columns of hyper-gradients begin


@dataclass(frozen=True, eq=False)
class Run:
    """A run as it lies in its folder.

    ``cells`` has one row per planned cell: cell_id, what it is (suite, suite_version, profile, kind, problem, method,
    seed, round, dtype, device, settings), variant (what sets it apart from others of its kind and problem, by
    ``variants``), status, message, seconds, environment (a key of ``environments``, empty where none was written), data
    (what to call what it was measured on, empty where that is not known), machine (by ``variants.machine_of``), needs
    (the cell_id of its teacher's cell, empty for most) and measurements. ``status`` is the engine's, ``missing`` for a
    cell without a result, ``damaged`` for one whose files cannot be trusted. ``d_theta`` has the teacher gradients that
    were kept, by (cell_id, horizon).
    """

    path: Path
    meta: Mapping[str, Any]
    cells: pd.DataFrame
    d_theta: Mapping[tuple[str, int], Arrays]
    warnings: tuple[str, ...]
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # where its cells ran, by name
    matrices: Mapping[str, Mapping[int, np.ndarray]] = field(default_factory=dict)  # Phi_t by cell_id and step

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def damaged(self) -> int:
        """How many cells have a result that cannot be trusted."""
        return int((self.cells["status"] == "damaged").sum())

    @property
    def finished(self) -> bool:
        """Whether every planned cell has a result."""
        return not (self.cells["status"] == "missing").any()


def load_run(path: Path | str) -> Run:
    """Read a run, finished or not. Raises ``UserError`` for a path that holds no run."""
    folder = Path(path)
    meta = read_meta(folder)
    warnings: list[str] = []
    cells, environments = read_cells(folder, meta["cells"], warnings)
    d_theta = read_gradients(folder, cells, warnings)
    matrices = read_matrices(folder, cells, warnings)
    return Run(folder, meta, cells, d_theta, tuple(warnings), environments, matrices)


def gradients(run: Run) -> pd.DataFrame:
    """One row per gradient cell and horizon; times are medians of the cell's repeats, peaks are above the start.

    ``hyper_d_lr_sum`` and the like: the derivatives of M~ by the optimiser's numbers, per unit of each.
    """
    rows = [
        _gradient_row(cell, measured)
        for cell in results_of(run, "gradient")
        for measured in cell["measurements"]["runs"]
    ]
    return pd.DataFrame(rows, columns=_columns(rows, _GRADIENT_COLUMNS))


def adjoints(run: Run) -> pd.DataFrame:
    """One row per gradient cell, horizon and step that was kept: t and |w_bar_t|."""
    rows = [
        {**{key: cell[key] for key in KEYS}, "horizon": measured["horizon"], "t": step, "norm": norm}
        for cell in results_of(run, "gradient")
        for measured in cell["measurements"]["runs"]
        if (adjoint := measured.get("adjoint"))
        for step, norm in zip(adjoint["steps"], adjoint["norms"], strict=True)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "horizon", "t", "norm"])


def other_figures(run: Run) -> pd.DataFrame:
    """The numbers among the measurements of cells of a plug-in's own kind, one row per cell and number."""
    rows = [
        {**{key: cell[key] for key in _OTHER_KEYS}, "name": name, "value": float(value)}
        for kind in run.cells["kind"].unique()
        if kind not in OWN_KINDS
        for cell in results_of(run, kind)
        for name, value in {"seconds": cell["seconds"], **cell["measurements"]}.items()
        if is_number(value)
    ]
    return pd.DataFrame(rows, columns=[*_OTHER_KEYS, "name", "value"])


def failures(run: Run) -> pd.DataFrame:
    """The cells that ended without a result, and why; those that an unfinished run has yet to do are not among them."""
    failed = ~run.cells["status"].isin(["ok", "missing"])
    return run.cells.loc[failed, ["kind", "problem", "variant", "method", "seed", "status", "message"]].reset_index(
        drop=True
    )


# -- rows of these tables


def results_of(run: Run, kind: str) -> Iterator[dict[str, Any]]:
    """The cells of a kind that have a result, a row each."""
    return rows_of(run.cells[(run.cells["kind"] == kind) & (run.cells["status"] == "ok")])


def _columns(rows: list[dict[str, Any]], known: list[str]) -> list[str]:
    """The known columns, then whatever diagnostics and hyper-gradients the methods gave."""
    return known + sorted({key for row in rows for key in row} - set(known))


KEYS = ["cell_id", "problem", "variant", "method", "seed", "round"]
_GRADIENT_KEYS = ["cell_id", "suite", "profile", *KEYS[1:], "dtype", "device", "environment"]
_GRADIENT_COLUMNS = [
    *_GRADIENT_KEYS,
    "horizon",
    "exactness",
    "parameters",
    "memory_law",
    "value",
    "repeats",
    "seconds",
    "seconds_forward",
    "seconds_reverse",
    "seconds_dev",
    "seconds_compile",
    "peak_above_start_mib",
    "host_peak_above_start_mib",
    "device_peak_above_start_mib",
    "gradients",
    "vector_products",
    "recomputed_steps",
    "adjoint_growth",
    "adjoint_exploded_at",
    "adjoint_died_at",
    "adjoint_said",
    "warnings",
    "engine",
]


def _gradient_row(cell: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    whole = cell["measurements"]
    host, on_device = _above_start_mib(measured, "host"), _above_start_mib(measured, "device")
    return {
        **{key: cell[key] for key in _GRADIENT_KEYS},
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
        "seconds_compile": whole.get("seconds_compile", math.nan),
        "peak_above_start_mib": host if math.isnan(on_device) else on_device,
        "host_peak_above_start_mib": host,
        "device_peak_above_start_mib": on_device,
        **{key: measured.get(key) for key in ("gradients", "vector_products", "recomputed_steps")},
        **{f"adjoint_{key}": (measured.get("adjoint") or {}).get(key) for key in ("growth", "exploded_at", "died_at")},
        "adjoint_said": measured.get("adjoint_said", ""),
        "warnings": "; ".join(measured.get("warnings", [])),
        "engine": measured.get("engine", ""),
        **{f"diagnostic_{name}": value for name, value in measured.get("diagnostics", {}).items()},
        **{f"{HYPER}{name}": value for name, value in measured.get("hyper_gradients", {}).items()},
    }


def _above_start_mib(measured: Mapping[str, Any], where: str) -> float:
    start, peak = measured.get(f"{where}_start_bytes"), measured.get(f"{where}_peak_bytes")
    return math.nan if start is None or peak is None else max(0, peak - start) / MIB


_OTHER_KEYS = ["cell_id", "kind", "problem", "variant", "method", "seed", "round"]
