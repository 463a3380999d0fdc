"""A run as data: loaded from its folder, and laid out as tidy tables, one function each."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.engine.records import is_number
from l2t_bench.reports.reading import Arrays, read_cells, read_gradients, read_meta
from l2t_bench.reports.rows import rows_of

MIB = 2**20
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
    return Run(folder, meta, cells, d_theta, tuple(warnings), environments)


def gradients(run: Run) -> pd.DataFrame:
    """One row per gradient cell and horizon; times are medians of the cell's repeats, peaks are above the start.

    ``hyper_d_lr_sum`` and the like: the derivatives of M~ by the optimiser's numbers, per unit of each.
    """
    rows = [
        _gradient_row(cell, measured) for cell in _results(run, "gradient") for measured in cell["measurements"]["runs"]
    ]
    return pd.DataFrame(rows, columns=_columns(rows, _GRADIENT_COLUMNS))


def adjoints(run: Run) -> pd.DataFrame:
    """One row per gradient cell, horizon and step that was kept: t and |w_bar_t|."""
    rows = [
        {**{key: cell[key] for key in _ADJOINT_KEYS}, "horizon": measured["horizon"], "t": step, "norm": norm}
        for cell in _results(run, "gradient")
        for measured in cell["measurements"]["runs"]
        if (adjoint := measured.get("adjoint"))
        for step, norm in zip(adjoint["steps"], adjoint["norms"], strict=True)
    ]
    return pd.DataFrame(rows, columns=[*_ADJOINT_KEYS, "horizon", "t", "norm"])


def students(run: Run) -> pd.DataFrame:
    """One row per teaching cell and fresh student."""
    rows = [
        {
            **_teaching_keys(cell),
            "environment": cell["environment"],
            "equivalence_margin": _margin(cell),
            "lr": cell["measurements"]["lr"],
            "horizon": cell["measurements"].get("horizon"),
            "outer_steps": cell["measurements"].get("outer_steps"),
            "student_seed": student["seed"],
            "dev_accuracy": student["dev_accuracy"],
            "test_accuracy": student["test_accuracy"],
        }
        for cell in _taught(run)
        for student in cell["measurements"]["students"]
    ]
    return pd.DataFrame(rows, columns=_STUDENT_COLUMNS)


def curves(run: Run) -> pd.DataFrame:
    """One row per teacher's training and outer step: dev objective, norm of the teacher gradient, seconds.

    A step whose students all diverged has no value. Of a teacher with a cell of its own, the rows are that cell's.
    """
    rows = [
        {**_teaching_keys(cell), **{key: point.get(key) for key in _CURVE_POINT}, **(_NO_VALUE if _lost(point) else {})}
        for cell in _trained(run)
        for point in cell["measurements"].get("curve", [])
    ]
    return pd.DataFrame(rows, columns=[*_TEACHING_KEYS, *_CURVE_POINT])


def selections(run: Run) -> pd.DataFrame:
    """One row per teacher's training and judged teacher: dev accuracy of held-out students, and whether it was kept."""
    rows = [
        {
            **_teaching_keys(cell),
            **{key: point[key] for key in _JUDGED},
            "selected": point["outer_step"] == cell["measurements"].get("selected_outer_step"),
        }
        for cell in _trained(run)
        for point in cell["measurements"].get("selection", [])
    ]
    return pd.DataFrame(rows, columns=[*_TEACHING_KEYS, *_JUDGED, "selected"])


def effective_lrs(run: Run) -> pd.DataFrame:
    """One row per teaching cell and step looked at: the lr, and at which cross entropy would take a step as long."""
    rows = [
        {**_teaching_keys(cell), **{key: point[key] for key in _LR_POINT}}
        for cell in _taught(run)
        for point in cell["measurements"].get("effective_lr", [])
    ]
    return pd.DataFrame(rows, columns=[*_TEACHING_KEYS, *_LR_POINT])


def coefficients(run: Run) -> pd.DataFrame:
    """One row per cell that looked at Phi_t, class, part of the training and other class: that entry of Phi_t."""
    rows = [
        {**{key: cell[key] for key in _ADJOINT_KEYS}, "anchor": names[pair["anchor"]], "rule": pair["rule"]}
        | {"part": part, "other": names[other], "alike": alike, "value": row[other]}
        for cell in _results(run, "phi")
        for names in (cell["measurements"]["names"],)
        for pair in cell["measurements"]["pairs"]
        for part, row in zip(cell["measurements"]["parts"], pair["rows"], strict=True)
        for alike, others in ((True, pair["similar"]), (False, pair["dissimilar"]))
        for other in others
    ]
    return pd.DataFrame(rows, columns=[*_ADJOINT_KEYS, *("anchor", "rule", "part", "other", "alike", "value")])


def teachings(run: Run) -> pd.DataFrame:
    """One row per teaching cell: what was set, what was chosen on dev, and what it took."""
    rows = [_teaching_row(cell) for cell in _taught(run)]
    return pd.DataFrame(rows, columns=_TEACHING_COLUMNS)


def other_figures(run: Run) -> pd.DataFrame:
    """The numbers among the measurements of cells of a plug-in's own kind, one row per cell and number."""
    rows = [
        {**{key: cell[key] for key in _OTHER_KEYS}, "name": name, "value": float(value)}
        for kind in run.cells["kind"].unique()
        if kind not in OWN_KINDS
        for cell in _results(run, kind)
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


def _results(run: Run, kind: str) -> Iterator[dict[str, Any]]:
    return rows_of(run.cells[(run.cells["kind"] == kind) & (run.cells["status"] == "ok")])


def _taught(run: Run) -> Iterator[dict[str, Any]]:
    """Teaching cells, each with what its teacher's cell has measured beside its own."""
    trained = {cell["cell_id"]: cell["measurements"] for cell in _results(run, "teacher")}
    for cell in _results(run, "teaching"):
        yield {**cell, "measurements": {**trained.get(cell.get("needs"), {}), **cell["measurements"]}}


def _trained(run: Run) -> Iterator[dict[str, Any]]:
    """The cells that have trained a teacher."""
    yield from _results(run, "teacher")
    yield from (cell for cell in _results(run, "teaching") if not cell.get("needs"))


def _columns(rows: list[dict[str, Any]], known: list[str]) -> list[str]:
    """The known columns, then whatever diagnostics and hyper-gradients the methods gave."""
    return known + sorted({key for row in rows for key in row} - set(known))


_ADJOINT_KEYS = ["cell_id", "problem", "variant", "method", "seed", "round"]
_GRADIENT_KEYS = ["cell_id", "suite", "profile", *_ADJOINT_KEYS[1:], "dtype", "device", "environment"]
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
        **{f"diagnostic_{name}": value for name, value in measured.get("diagnostics", {}).items()},
        **{f"{HYPER}{name}": value for name, value in measured.get("hyper_gradients", {}).items()},
    }


def _above_start_mib(measured: Mapping[str, Any], where: str) -> float:
    start, peak = measured.get(f"{where}_start_bytes"), measured.get(f"{where}_peak_bytes")
    return math.nan if start is None or peak is None else max(0, peak - start) / MIB


_OTHER_KEYS = ["cell_id", "kind", "problem", "variant", "method", "seed", "round"]
_TEACHING_KEYS = ["cell_id", "suite", "profile", "problem", "variant", "method", "seed", "round", "loss"]
_STUDENT_COLUMNS = [
    *_TEACHING_KEYS,
    "environment",
    "lr",
    "horizon",
    "outer_steps",
    "equivalence_margin",
    "student_seed",
    "dev_accuracy",
    "test_accuracy",
]
_CURVE_POINT = (
    "outer_step",
    "value",
    "gradient_norm",
    "noise",
    "moved",
    "diverged",
    "seconds",
    "adjoint_growth",
    "exploded",
    "died",
    "adjoint_said",
)
_LR_POINT = ("step", "lr", "gradient_norm", "effective")
_JUDGED = ("outer_step", "dev_accuracy_mean", "dev_accuracy_std")
_NO_VALUE = {"value": math.nan, "gradient_norm": math.nan, "noise": math.nan}
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
    "signal_to_noise",
    "straightness",
    "seconds_training",
    "seconds_students",
    "seconds_outer_step",
    "peak_mib",
    "largest_change",
    "steps_warned",
    "warning",
]


_DERIVED = (
    *("lr_at_grid_edge", "signal_to_noise", "straightness", "seconds_outer_step", "peak_mib", "largest_change"),
    *("steps_warned", "warning"),
)


def _movement(measured: Mapping[str, Any]) -> dict[str, float]:
    """Whether the teacher's steps had a direction.

    ``signal_to_noise``: the median over outer steps of the mean gradient's norm over its standard error between
    students, where a step has several. ``straightness``: how far theta got over the length of its way; steps without a
    common direction give about one over the root of their number.
    """
    curve = measured.get("curve", [])
    ratios = [point["gradient_norm"] / point["noise"] for point in curve if point.get("noise")]
    path = sum(point.get("moved") or 0.0 for point in curve)
    travelled = measured.get("travelled")
    return {
        "signal_to_noise": float(np.median(ratios)) if ratios else math.nan,
        "straightness": travelled / path if travelled is not None and path > 0 else math.nan,
    }


def _cost(measured: Mapping[str, Any]) -> dict[str, float]:
    """Median seconds of an outer step's gradients, the most that was held, the largest change of an entry of theta.

    The last one is of the last teacher, whichever is kept.
    """
    seconds = [point["seconds"] for point in measured.get("curve", []) if point.get("seconds")]
    peak, changes = measured.get("peak_bytes"), measured.get("largest_change", {}).values()
    return {
        "seconds_outer_step": float(np.median(seconds)) if seconds else math.nan,
        "peak_mib": math.nan if peak is None else peak / MIB,
        "largest_change": max(changes, default=math.nan),
    }


def _warned(measured: Mapping[str, Any]) -> dict[str, Any]:
    """How many outer steps had a gradient that was warned of, and the first warning."""
    warned = [point["warnings"][0] for point in measured.get("curve", []) if point.get("warnings")]
    return {"steps_warned": len(warned), "warning": warned[0] if warned else ""}


def _teaching_keys(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: cell[key] for key in _TEACHING_KEYS if key != "loss"}, "loss": cell["measurements"]["loss"]}


def _margin(cell: Mapping[str, Any]) -> float:
    """The difference of accuracy within which the suite calls two losses equivalent; NaN where it states none."""
    margin = cell["settings"].get("equivalence_margin")
    return float(margin) if is_number(margin) and margin > 0 else math.nan


def _lost(point: Mapping[str, Any]) -> bool:
    """An outer step that had no finite student left: the engine writes zeros for what it could not measure."""
    return bool(point.get("diverged")) and point["value"] == 0 and not point.get("gradient_norm")


def _teaching_row(cell: Mapping[str, Any]) -> dict[str, Any]:
    measured = cell["measurements"]
    tried = {point["lr"] for point in measured.get("lr_grid", [])}
    return {
        **_teaching_keys(cell),
        **{key: measured.get(key) for key in _TEACHING_COLUMNS if key not in (*_TEACHING_KEYS, *_DERIVED)},
        **_movement(measured),
        **_cost(measured),
        **_warned(measured),
        "lr_at_grid_edge": len(tried) > 1 and measured["lr"] in (min(tried), max(tried)),
    }
