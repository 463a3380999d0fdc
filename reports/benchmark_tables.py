"""Benchmarks as tables of strings that are ready to print."""

import math

from l2t_bench.reports.benchmark_derive import REACHED, BenchmarkResults
from l2t_bench.reports.benchmark_record import MEMORY, OUTER_STEP, PEERS
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.formats import DASH, fixed, number
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_RATIOS = (
    "A ratio of times is the median over the rounds in which both took turns of the ratio of one round, in brackets "
    "the smallest and the largest; where there were no such turns, the ratio of the medians, without brackets."
)


def benchmark_tables(results: BenchmarkResults) -> list[Table]:
    """All tables, the ratios that the benchmark states first."""
    return [
        *stated_tables(results),
        *timing_tables(results),
        *alone_tables(results),
        *paid_tables(results),
        *left_out_tables(results),
    ]


def stated_tables(results: BenchmarkResults) -> list[Table]:
    """The ratios that the benchmark states, with what was reached: one table per record that states any."""
    columns = ("work", "T", "method", "of", "against", "ratio", "quickest", "at most", "verdict")
    note = f"Of whole outer steps. {_RATIOS} Quickest: the ratio of the quickest rounds."
    return [
        Table(
            _title("Ratios wanted, and reached", record, results),
            columns,
            tuple(map(_stated_row, rows_of(group))),
            note,
            5,
        )
        for record, group in results.stated.groupby("record", sort=False)
    ]


def headlines(results: BenchmarkResults) -> list[str]:
    """How many of the stated ratios were reached, a line per record."""
    lines = []
    for record, group in results.stated.groupby("record", sort=False):
        measured = group.dropna(subset=["ratio"])
        reached = int((measured["verdict"] == REACHED).sum())
        left = len(group) - len(measured)
        told = f"Ratios wanted: {reached} of {len(measured)} reached{f', {left} not measured' * bool(left)}"
        lines.append(f"{case_name(told, record if _several(results) else '')}.")
    return lines


def timing_tables(results: BenchmarkResults) -> list[Table]:
    """Each backend's times and its ratio to the fastest peer: one table per record, problem and phase."""
    columns = ("T", "method", "median, ms", "min, ms", "IQR, ms", "rounds", "× fastest peer", "quickest", "peer")
    note = (
        f"{_RATIOS} Fastest peer: the other library's method with the smallest median. Quickest: the ratio of the "
        "quickest rounds. IQR: the interquartile range over rounds. Compilation is no part of these times."
    )
    return [
        Table(
            _title(f"{str(phase).capitalize()} on {problem}", record, results),
            columns,
            tuple(map(_timing_row, rows_of(group))),
            note if phase == OUTER_STEP else "",
            text_columns=2,
            row_header=1,
        )
        for (record, problem, phase), group in sorted(
            results.timings.groupby(["record", "problem", "phase"], sort=False),
            key=lambda each: each[0][2] != OUTER_STEP,
        )
    ]


def alone_tables(results: BenchmarkResults) -> list[Table]:
    """What was measured in processes of their own: one table per record and problem."""
    columns = ("T", "method", "outer step, s", "student training, s", "× training", "peak MiB", "× memory of higher")
    note = (
        "Each method in a process of its own. Student training: one student by the same engine, without a teacher "
        "gradient, in turn with the outer step. Peak: the most that the process held above what it held before, the "
        "median of several outer steps."
    )
    return [
        Table(
            _title(f"In a process of its own: {problem}", record, results),
            columns,
            tuple(map(_alone_row, rows_of(group))),
            note,
            text_columns=2,
            row_header=1,
        )
        for (record, problem), group in results.alone.groupby(["record", "problem"], sort=False)
    ]


def paid_tables(results: BenchmarkResults) -> list[Table]:
    """The break-even of compilation, as in a run's report."""
    found = results.break_even
    return break_even_tables(found if _several(results) else found.assign(variant=""), units="rounds")


def left_out_tables(results: BenchmarkResults) -> list[Table]:
    """Backends that were not measured, and why; no table where there are none."""
    rows = tuple(
        (row["problem"], str(row["horizon"]), row["method"], row["reason"]) for row in rows_of(results.left_out)
    )
    columns = ("problem", "T", "method", "reason")
    return [Table("Left out", columns, tuple(dict.fromkeys(rows)), text_columns=4)] if rows else []


# -- rows and titles


def _several(results: BenchmarkResults) -> bool:
    return len(results.benchmarks.records) > 1


def _title(title: str, record: object, results: BenchmarkResults) -> str:
    return case_name(title, record if _several(results) else "")


def _stated_row(row: Row) -> tuple[str, ...]:
    against = f"{PEERS}: {row['by']}" if row["against"] == PEERS and row["by"] else row["against"]
    return (
        row["problem"],
        str(row["horizon"]),
        row["method"],
        "peak memory" if row["of"] == MEMORY else row["of"],
        against,
        ratio_told(row),
        fixed(row["ratio_of_least"], 2),
        f"{row['at_most']:g}",
        row["verdict"],
    )


def _timing_row(row: Row) -> tuple[str, ...]:
    own = row["method"] == row["fastest_peer"]
    return (
        str(row["horizon"]),
        row["method"],
        *(number(1e3 * row[f"{name}_seconds"]) for name in ("median", "min", "iqr")),
        str(row["rounds"]),
        "fastest peer" if own else ratio_told(row),
        DASH if own else fixed(row["ratio_of_least"], 2),
        DASH if own else row["fastest_peer"] or DASH,
    )


def _alone_row(row: Row) -> tuple[str, ...]:
    return (
        str(row["horizon"]),
        row["method"],
        number(row["outer_step_seconds"]),
        number(row["training_seconds"]),
        ratio_told(row),
        number(row["peak_above_start_mib"]),
        fixed(row["memory_ratio"], 2),
    )


def ratio_told(row: Row) -> str:
    """``0.43 [0.40, 0.52]``: the ratio with its smallest and largest round, where rounds were pairs."""
    if math.isnan(row["ratio"]) or not row["ratio_pairs"]:
        return fixed(row["ratio"], 2)
    return f"{fixed(row['ratio'], 2)} [{fixed(row['ratio_low'], 2)},\u00a0{fixed(row['ratio_high'], 2)}]"
