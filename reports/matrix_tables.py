"""Every method on every problem at a glance: time, memory and accuracy, and how those failed that have no result."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import DASH, accuracy, fixed, number, ratio
from l2t_bench.reports.load_teaching import translates
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import status_words

ICONS: Mapping[str, str] = MappingProxyType({"ok": "✓", "refused": "⊘", "missing": "…"})  # beside the word, not for it
FAILED_ICON = "✕"
_OUTER_STEP = (
    "Of one outer step at the longest horizon that a problem has, the median over seeds{ratio}. ✕ failed, ⊘ refused, … "
    "not run yet; the tables of each problem say more."
)
_Cell = Callable[[Sequence[Row]], str]  # of the rows of a method on a problem


def with_icon(status: str) -> str:
    """``✕ timeout``: a status that is seen before it is read."""
    return f"{ICONS.get(status.partition(' ')[0], FAILED_ICON)} {status}"


def matrix_tables(results: Results) -> list[Table]:
    """Methods along rows, problems along columns, one table per quantity; none for one problem or one method.

    What there is to say of one problem, its own table says.
    """
    longest = results.summary[
        results.summary["horizon"] == results.summary.groupby(VARIANT)["horizon"].transform("max")
    ]
    baselines = " or ".join(in_order(set(results.summary["baseline"]) - {""}))
    note = _OUTER_STEP.format(ratio=f"; beside it the ratio to {baselines}" if baselines else "")
    found = [
        _matrix("Seconds of an outer step", "gradient", results, longest, _time, note),
        _matrix("Peak MiB above the start", "gradient", results, longest, _memory, note),
        _matrix("Cosine and norm ratio to the exact gradient", "gradient", results, longest, _quality, note),
        _matrix("Test accuracy of fresh students", "teaching", results, results.teaching, _accuracy, _STUDENTS),
    ]
    return [table for table in found if table is not None]


_STUDENTS = "Means over fresh students, with a 95 % bootstrap interval; rows are named by the gradient learned with."


def _matrix(title: str, kind: str, results: Results, measured: pd.DataFrame, cell: _Cell, note: str) -> Table | None:
    planned = results.run.cells[results.run.cells["kind"] == kind]
    judged = [not translates(cell) for cell in rows_of(planned)]
    planned = planned[pd.Series(judged, index=planned.index, dtype=bool)]
    methods, cases = in_order(planned["method"]), _cases(planned)
    if len(methods) < 2 or len(cases) < 2 or measured.empty:
        return None
    shown = {
        (problem, variant, method): cell(list(rows_of(group)))
        for (problem, variant, method), group in measured.groupby([*VARIANT, "method"])
    }
    statuses = {
        (problem, variant, method): with_icon(status_words(group["status"]))
        for (problem, variant, method), group in planned.groupby([*VARIANT, "method"])
    }
    rows = tuple(
        (method, *(shown.get((*case, method), statuses.get((*case, method), DASH)) for case in cases))
        for method in methods
    )
    horizons = dict(zip(zip(*(measured[key] for key in VARIANT), strict=True), measured["horizon"], strict=True))
    columns = tuple(_column(case, horizons, kind) for case in cases)
    return Table(title, ("method", *columns), rows, note)


def _cases(planned: pd.DataFrame) -> list[tuple[str, str]]:
    return [(str(problem), str(variant)) for (problem, variant), _ in planned.groupby(VARIANT)]


def _column(case: tuple[str, str], horizons: Mapping[tuple[str, str], int], kind: str) -> str:
    horizon = f", T = {horizons[case]}" if kind == "gradient" and case in horizons else ""
    return f"{case_name(*case)}{horizon}"


def _time(rows: Sequence[Row]) -> str:
    return _beside(number(rows[0]["seconds"]), rows[0], "time_ratio")


def _memory(rows: Sequence[Row]) -> str:
    return _beside(number(rows[0]["peak_above_start_mib"]), rows[0], "memory_ratio")


def _beside(value: str, row: Row, name: str) -> str:
    """The measurement, and its ratio where it is none to itself."""
    is_baseline = row["method"] == row["baseline"]
    told = "" if is_baseline else ratio(estimate_in(row, name), interval=False)
    return f"{value} ({told} ×)" if told not in ("", DASH) else value


def _quality(rows: Sequence[Row]) -> str:
    (row,) = rows
    if row["reference"] == row["method"]:
        return "reference"
    return f"{fixed(row['cosine'], 4)}, {number(row['norm_ratio'])}"


def _accuracy(rows: Sequence[Row]) -> str:
    """Of several teachers the mean of their students' means."""
    if len(rows) == 1:
        return accuracy(estimate_in(rows[0], "test_accuracy"))
    return f"{fixed(fmean(row['test_accuracy'] for row in rows), 3)}, {len(rows)} teachers"
