"""Ratios over all problems, and learned losses held to a margin: tables that are ready to print."""

import math

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import equivalent, number, points, ratio
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import Estimate
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import plural


def aggregate_tables(results: Results) -> list[Table]:
    """The ratios over problems, in one table; none where no horizon has more than one problem."""
    rows = [
        (
            str(row["horizon"]),
            row["method"],
            row["exactness"],
            *(
                part
                for name in ("time_ratio", "memory_ratio")
                for part in (_mean_ratio(row[name]), f"{row[f'{name}_common']}/{row[f'{name}_total']}")
            ),
        )
        for row in rows_of(results.aggregates)
    ]
    columns = ("T", "method", "exactness", "× time", "problems", "× memory", "problems")
    note = (
        f"Geometric means of the ratios to {' or '.join(in_order(results.aggregates['baseline']))} over the problems "
        "that every method here has, and how many of all these are. Stationary methods are not ranked."
    )
    return [Table("Over all problems", columns, tuple(rows), note, text_columns=3, row_header=1)] if rows else []


def _mean_ratio(value: float) -> str:
    """As other ratios are written, without an interval."""
    return ratio(Estimate(value, math.nan, math.nan, 0), interval=False)


def equivalence_tables(results: Results) -> list[Table]:
    """Whether the learned losses teach alike, one table per problem and variant whose suite states a margin."""
    return [
        Table(
            f"Do the learned losses teach alike on {case_name(problem, variant)}?",
            ("loss", "against", "difference", "n", "verdict", "TOST p", "equivalence"),
            tuple(map(_equivalence_row, rows_of(group))),
            "Difference in test accuracy, in percentage points, paired by student, with a 95 % bootstrap interval. "
            "Equivalent: two one-sided paired t tests (TOST) put it within the margin that the suite states, at 5 %. "
            "That no difference is found does not show that there is none.",
            text_columns=2,
        )
        for (problem, variant), group in results.equivalences.groupby(VARIANT)
    ]


def _equivalence_row(row: Row) -> tuple[str, ...]:
    return (
        str(row["method"]),
        str(row["against"]),
        points(Estimate(row["value"], row["low"], row["high"], row["n"])),
        plural(row["n"], row["unit"]),
        str(row["verdict"]),
        number(row["p"], 2),
        equivalent(row["equivalence"], row["margin"]),
    )
