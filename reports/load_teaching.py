"""What teachers and students have measured, as tidy tables: one function each."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.engine.records import is_number
from l2t_bench.reports.forms import JUDGED_BY
from l2t_bench.reports.load import KEYS, MIB, Run, results_of

TEACHING_KEYS = ["cell_id", "suite", "profile", "problem", "variant", "method", "seed", "round", "loss"]
_STUDENT_COLUMNS = [
    *TEACHING_KEYS,
    "environment",
    "lr",
    "horizon",
    "outer_steps",
    "equivalence_margin",
    "student_seed",
    "dev_accuracy",
    "test_accuracy",
    "as_long_accuracy",
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
_JUDGED = ("outer_step", "measure", "mean", "std")
_NO_VALUE = {"value": math.nan, "gradient_norm": math.nan, "noise": math.nan}
_TEACHING_COLUMNS = [
    *TEACHING_KEYS,
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


def students(run: Run) -> pd.DataFrame:
    """One row per teaching cell and fresh student whose accuracy was measured.

    ``as_long_accuracy``: on test, of the same student by cross entropy in steps as long as the loss's; NaN where that
    was not asked.
    """
    rows = [
        {
            **teaching_keys(cell),
            "environment": cell["environment"],
            "equivalence_margin": _margin(cell),
            "lr": cell["measurements"]["lr"],
            "horizon": cell["measurements"].get("horizon"),
            "outer_steps": cell["measurements"].get("outer_steps"),
            "student_seed": student["seed"],
            "dev_accuracy": student["dev_accuracy"],
            "test_accuracy": student["test_accuracy"],
            "as_long_accuracy": _as_long(cell).get(student["seed"], math.nan),
        }
        for cell in taught(run)
        if not translates(cell)
        for student in cell["measurements"]["students"]
    ]
    return pd.DataFrame(rows, columns=_STUDENT_COLUMNS)


def _as_long(cell: Mapping[str, Any]) -> dict[int, float]:
    students = cell["measurements"].get("cross_entropy_as_long", [])
    return {student["seed"]: student["test_accuracy"] for student in students}


def translates(cell: Mapping[str, Any]) -> bool:
    """Whether a teaching cell's students are judged by their translations: its settings say by what beam."""
    return "beam" in cell["settings"]


def curves(run: Run) -> pd.DataFrame:
    """One row per teacher's training and outer step: dev objective, norm of the teacher gradient, seconds.

    A step whose students all diverged has no value. Of a teacher with a cell of its own, the rows are that cell's.
    """
    rows = [
        {**teaching_keys(cell), **{key: point.get(key) for key in _CURVE_POINT}, **(_NO_VALUE if _lost(point) else {})}
        for cell in _trained(run)
        for point in cell["measurements"].get("curve", [])
    ]
    return pd.DataFrame(rows, columns=[*TEACHING_KEYS, *_CURVE_POINT])


def selections(run: Run) -> pd.DataFrame:
    """One row per teacher's training and judged teacher: what held-out students reach on dev, and whether it was kept.

    ``measure``: ``accuracy``, from 0 to 1, ``bleu``, from 0 to 100, or ``objective``, M~.
    """
    rows = [
        {
            **teaching_keys(cell),
            **_judgement(point),
            "selected": point["outer_step"] == cell["measurements"].get("selected_outer_step"),
        }
        for cell in _trained(run)
        for point in cell["measurements"].get("selection", [])
    ]
    return pd.DataFrame(rows, columns=[*TEACHING_KEYS, *_JUDGED, "selected"])


def effective_lrs(run: Run) -> pd.DataFrame:
    """One row per teaching cell and step looked at: the lr, and at which cross entropy would take a step as long."""
    rows = [
        {**teaching_keys(cell), **{key: point[key] for key in _LR_POINT}}
        for cell in taught(run)
        for point in cell["measurements"].get("effective_lr", [])
    ]
    return pd.DataFrame(rows, columns=[*TEACHING_KEYS, *_LR_POINT])


def coefficients(run: Run) -> pd.DataFrame:
    """One row per cell that looked at Phi_t, class, part of the training and other class: that entry of Phi_t."""
    rows = [
        {**{key: cell[key] for key in KEYS}, "anchor": names[pair["anchor"]], "rule": pair["rule"]}
        | {"part": part, "other": names[other], "alike": alike, "value": row[other]}
        for cell in results_of(run, "phi")
        for names in (cell["measurements"]["names"],)
        for pair in cell["measurements"]["pairs"]
        for part, row in zip(cell["measurements"]["parts"], pair["rows"], strict=True)
        for alike, others in ((True, pair["similar"]), (False, pair["dissimilar"]))
        for other in others
    ]
    return pd.DataFrame(rows, columns=[*KEYS, *("anchor", "rule", "part", "other", "alike", "value")])


def teachings(run: Run) -> pd.DataFrame:
    """One row per teaching cell: what was set, what was chosen on dev, and what it took."""
    rows = [_teaching_row(cell) for cell in taught(run)]
    return pd.DataFrame(rows, columns=_TEACHING_COLUMNS)


# -- rows of these tables


def taught(run: Run) -> Iterator[dict[str, Any]]:
    """Teaching cells, each with what its teacher's cell has measured beside its own."""
    trained = {cell["cell_id"]: cell["measurements"] for cell in results_of(run, "teacher")}
    for cell in results_of(run, "teaching"):
        yield {**cell, "measurements": {**trained.get(cell.get("needs"), {}), **cell["measurements"]}}


def _trained(run: Run) -> Iterator[dict[str, Any]]:
    """The cells that have trained a teacher."""
    yield from results_of(run, "teacher")
    yield from (cell for cell in results_of(run, "teaching") if not cell.get("needs"))


def teaching_keys(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: cell[key] for key in TEACHING_KEYS if key != "loss"}, "loss": cell["measurements"]["loss"]}


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
        **teaching_keys(cell),
        **{key: measured.get(key) for key in _TEACHING_COLUMNS if key not in (*TEACHING_KEYS, *_DERIVED)},
        **_movement(measured),
        **_cost(measured),
        **_warned(measured),
        "lr_at_grid_edge": len(tried) > 1 and measured["lr"] in (min(tried), max(tried)),
    }


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


def _judgement(point: Mapping[str, Any]) -> dict[str, Any]:
    measure = next(name for name in JUDGED_BY if f"dev_{name}_mean" in point)
    mean, std = (point[f"dev_{measure}_{statistic}"] for statistic in ("mean", "std"))
    return dict(zip(_JUDGED, (point["outer_step"], measure, mean, std), strict=True))


def _warned(measured: Mapping[str, Any]) -> dict[str, Any]:
    """How many outer steps had a gradient that was warned of, and the first warning."""
    warned = [point["warnings"][0] for point in measured.get("curve", []) if point.get("warnings")]
    return {"steps_warned": len(warned), "warning": warned[0] if warned else ""}
