"""What teacher gradients cost and how near they come to the exact one: tables that are ready to print."""

from typing import Any

import pandas as pd

from l2t_bench.reports.adjoint_words import without_adjoint
from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import DASH, fixed, number, ratio
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import joined, plural, status_words, with_apart, with_data


def gradient_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """Time, memory and direction of every method, one table per problem and variant.

    ``detail`` adds intervals and worst seeds.
    """
    planned = results.run.cells[results.run.cells["kind"] == "gradient"]
    return [
        _gradient_table(problem, variant, cells, results, detail)
        for (problem, variant), cells in planned.groupby(VARIANT)
    ]


_COSTS = ("× time", "peak MiB", "× memory")
_SHORT_COLUMNS = ("T", "method", "exactness", "seconds", *_COSTS, "cosine", "norm")
_FULL_COLUMNS = (
    *("T", "method", "exactness", "seconds"),
    *_COSTS,
    *("cosine", "worst", "norm ratio", "worst", "rel. error"),
)


def _gradient_table(problem: Any, variant: Any, planned: pd.DataFrame, results: Results, detail: bool) -> Table:
    measured = of_case(results.summary, problem, variant)
    seeds = planned.groupby("method")["seed"].nunique()
    columns = _FULL_COLUMNS if detail else _SHORT_COLUMNS
    rows = [_gradient_row(row, int(seeds[row["method"]]), detail) for row in rows_of(measured)]
    for method in in_order(set(planned["method"]) - set(measured["method"])):
        status = status_words(planned.loc[planned["method"] == method, "status"])
        rows.append((DASH, method, status, *(DASH,) * (len(columns) - 3)))
    title = f"Teacher gradients on {case_name(problem, variant)}, {plural(planned['seed'].nunique(), 'seed')}"
    own, adjoints = of_case(results.gradients, problem, variant), of_case(results.adjoints, problem, variant)
    note = with_apart(joined(_gradient_note(measured), without_adjoint(own, adjoints)), variant)
    note = with_data(note, planned)
    return Table(title, columns, tuple(rows), note, text_columns=3, row_header=1)


def _gradient_row(row: Row, planned_seeds: int, detail: bool) -> tuple[str, ...]:
    is_baseline = row["method"] == row["baseline"]
    time, memory = estimate_in(row, "time_ratio"), estimate_in(row, "memory_ratio")
    some_failed = f", {row['seeds']}/{planned_seeds}" if row["seeds"] < planned_seeds else ""
    return (
        str(row["horizon"]),
        row["method"],
        row["exactness"] + some_failed,
        number(row["seconds"]),
        "baseline" if is_baseline else ratio(time),
        number(row["peak_above_start_mib"]),
        "baseline" if is_baseline else ratio(memory, interval=detail),
        *(_quality_in_full(row) if detail else _quality_in_short(row)),
    )


def _quality_in_short(row: Row) -> tuple[str, ...]:
    if row["reference"] == row["method"]:
        return "ref.", "ref."
    return fixed(row["cosine"], 4), number(row["norm_ratio"])


def _quality_in_full(row: Row) -> tuple[str, ...]:
    if row["reference"] == row["method"]:
        return ("reference", DASH, "reference", DASH, "reference")
    return (
        fixed(row["cosine"], 4),
        fixed(row["cosine_worst"], 4),
        number(row["norm_ratio"]),
        number(row["norm_ratio_worst"]),
        number(row["relative_error"], 2),
    )


def _gradient_note(measured: pd.DataFrame) -> str:
    parts = ["Seconds and peak memory of one outer step, medians over seeds."]
    if baselines := [name for name in in_order(measured["baseline"]) if name]:
        parts.append(
            f"×: geometric mean of the ratios to {' or '.join(baselines)}, paired by seed, "
            "with a 95 % bootstrap interval."
        )
    if references := [name for name in in_order(measured["reference"]) if name]:
        parts.append(f"Cosine and norm ratio to the exact gradient by {' or '.join(references)}.")
    if (measured["exactness"] == "stationary").any():
        parts.append("Stationary methods compute another quantity and are not ranked.")
    if (measured["exactness"] == "quantised").any():
        parts.append("Quantised methods differentiate a run in fixed point, a neighbour of the others' run.")
    return " ".join(parts) if len(measured) else ""
