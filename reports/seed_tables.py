"""What the teachers of several seeds reach in the mean: tables that are ready to print."""

from collections.abc import Mapping

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.teaching_measures import ACCURACY, BLEU, Measure
from l2t_bench.reports.variants import case_name, said

_DIFFERENCES = {"over cross-entropy": "over_cross_entropy", "over best fixed": "over_best_fixed"}
_MORE_DIFFERENCES = {"over its size": "over_as_long", "over untrained": "over_untrained"}
_NOTE = (
    "The unit is the seed: each has a teacher of its own, where the suite says so a split of the data too, and counts "
    "with the mean of its students. Those seeds count that every loss has. Means over seeds with a 95 % bootstrap "
    "interval; differences paired by seed and student."
)


def seed_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """One table per problem and variant that has several seeds; nothing for a run of one.

    ``detail`` adds differences that a terminal has no room for.
    """
    shown = _DIFFERENCES | (_MORE_DIFFERENCES if detail else {})
    judged = ((results.teaching_over_teachers, ACCURACY), (results.translating_over_teachers, BLEU))
    return [
        _table(str(problem), str(variant), rows, measure, shown)
        for pooled, measure in judged
        for (problem, variant), rows in pooled.groupby(VARIANT)
    ]


def _table(problem: str, variant: str, rows: pd.DataFrame, measure: Measure, shown: Mapping[str, str]) -> Table:
    differences = {name: column for name, column in shown.items() if rows[column].notna().any()}
    columns = ("loss", "seeds", "students", measure.name.lower(), *differences)
    cells = tuple(_row(row, measure, list(differences.values())) for row in rows_of(rows))
    note = f"{_NOTE} Differences in {'percentage points' if measure is ACCURACY else measure.unit}."
    if best := said(filter(None, rows["best_fixed"])):
        note += f" Best fixed: {best}, the best on test over all seeds of losses that are not learned, nor told more."
    return Table(f"Over several seeds: {case_name(problem, variant)}", columns, cells, note)


def _row(row: Row, measure: Measure, differences: list[str]) -> tuple[str, ...]:
    return (
        str(row["method"]),
        str(row["teachers"]),
        str(row["students"]),
        measure.mean(estimate_in(row, measure.column)),
        *(measure.difference(estimate_in(row, column)) for column in differences),
    )
