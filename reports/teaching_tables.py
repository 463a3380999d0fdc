"""What fresh students reach under each loss, as tables that are ready to print."""

from typing import Any

import pandas as pd

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import DASH, accuracy, number, points
from l2t_bench.reports.load_teaching import translates
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name, said
from l2t_bench.reports.words import loss_name, rate, whole, with_apart, with_data, with_edge


def teaching_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """Test accuracy of fresh students under each loss, one table per problem and variant that has one.

    ``detail`` adds counts and times.
    """
    cells = results.run.cells
    by_accuracy = [cell["kind"] == "teaching" and not translates(cell) for cell in rows_of(cells)]
    planned = cells[pd.Series(by_accuracy, index=cells.index, dtype=bool)]
    return [
        _teaching_table(problem, variant, cells, results.teaching, detail)
        for (problem, variant), cells in planned.groupby(VARIANT)
    ]


_DIFFERENCES = {"over cross-entropy": "over_cross_entropy", "over untrained": "over_untrained"}
_MORE_DIFFERENCES = {"over its size": "over_as_long", "over best fixed": "over_best_fixed"}
_TEACHING_COLUMNS = ("loss", "lr", "outer steps", "test accuracy", *_DIFFERENCES)
_TEACHING_DETAIL = (*_MORE_DIFFERENCES, "students", "signal / noise", "straightness", "training, s", "students, s")


def _teaching_table(problem: Any, variant: Any, planned: pd.DataFrame, teaching: pd.DataFrame, detail: bool) -> Table:
    measured = of_case(teaching, problem, variant)
    several = planned["seed"].nunique() > 1
    columns = _TEACHING_COLUMNS + (_TEACHING_DETAIL if detail else ())
    rows = [_teaching_row(row, several, detail) for row in rows_of(measured)]
    for row in rows_of(planned[~planned["cell_id"].isin(measured["cell_id"])]):
        rows.append((f"{loss_name(row, several)}: {row['status']}", *[DASH] * (len(columns) - 1)))
    counts = sorted(set(measured["students"]))
    each = f", {counts[0]} students each" if len(counts) == 1 else ""
    note = with_data(with_apart(_teaching_note(measured, detail), variant), planned)
    return Table(f"Students taught on {case_name(problem, variant)}{each}", columns, tuple(rows), note)


def _teaching_note(measured: pd.DataFrame, detail: bool) -> str:
    if measured.empty:
        return ""
    note = (
        "Named by the gradient that the teacher learned with. Mean over fresh students with a 95 % bootstrap interval; "
        "differences in percentage points, paired by student seed. Each loss at its own learning rate, chosen on dev."
    )
    if best := said(filter(None, measured["best_fixed"])):
        note += f" Best fixed: {best}, the best on test of the losses that are not learned and are told no more."
    if detail and measured["over_as_long"].notna().any():
        note += (
            " Over its size: over cross entropy, for the same students, in steps as long as this loss's: what is "
            "left is owed to its shape."
        )
    if measured["straightness"].notna().any():
        note += (
            " Signal / noise: the teacher gradient's norm over its standard error between the students of an outer "
            "step. Straightness: how far theta got over the length of its way; steps at random give about one over the "
            "root of their number."
        )
    return with_edge(note, measured)


def _teaching_row(row: Row, several: bool, detail: bool) -> tuple[str, ...]:
    short = (
        loss_name(row, several),
        rate(row),
        whole(row["outer_steps"]),
        accuracy(estimate_in(row, "test_accuracy")),
        *(points(estimate_in(row, name)) for name in _DIFFERENCES.values()),
    )
    if not detail:
        return short
    more = ("signal_to_noise", "straightness", "seconds_training", "seconds_students")
    return (
        *short,
        *(points(estimate_in(row, name)) for name in _MORE_DIFFERENCES.values()),
        str(row["students"]),
        *(number(row[column], 2 if column in more[:2] else 3) for column in more),
    )
