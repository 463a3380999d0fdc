"""A run as tables of strings that are ready to print."""

import math
from typing import Any

import pandas as pd

from l2t_bench.reports.adjoint_words import without_adjoint
from l2t_bench.reports.agreement_tables import agreement_tables
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.coefficients_figure import coefficient_tables
from l2t_bench.reports.derive import Results, analyse, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import DASH, accuracy, equivalent, fixed, number, points, ratio
from l2t_bench.reports.load import Run
from l2t_bench.reports.load_teaching import translates
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.paper_tables import paper_tables
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import Estimate
from l2t_bench.reports.table import Table
from l2t_bench.reports.translation_tables import translation_tables
from l2t_bench.reports.variants import case_name, said


def summary_tables(run: Run) -> list[Table]:
    """The run's tables for a terminal of 120 columns."""
    return tables_of(analyse(run))


def tables_of(results: Results) -> list[Table]:
    """``summary_tables`` of a run that is analysed already."""
    return [
        *gradient_tables(results),
        *aggregate_tables(results),
        *break_even_tables(results.break_even, units="seeds"),
        *warning_tables(results),
        *paper_tables(results),
        *teaching_tables(results),
        *translation_tables(results),
        *equivalence_tables(results),
        *agreement_tables(results),
        *coefficient_tables(results),
        *other_tables(results),
        *failure_tables(results),
    ]


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
        status = _status_words(planned.loc[planned["method"] == method, "status"])
        rows.append((DASH, method, status, *(DASH,) * (len(columns) - 3)))
    title = f"Teacher gradients on {case_name(problem, variant)}, {_plural(planned['seed'].nunique(), 'seed')}"
    own, adjoints = of_case(results.gradients, problem, variant), of_case(results.adjoints, problem, variant)
    note = _with_apart(_joined(_gradient_note(measured), without_adjoint(own, adjoints)), variant)
    note = _with_data(note, planned)
    return Table(title, columns, tuple(rows), note, text_columns=3, row_header=1)


def _joined(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def _with_apart(note: str, variant: str) -> str:
    """``note``, and that nothing is paired with what was measured under other conditions."""
    apart = (
        f"Conditions: {variant}. What was measured on another machine or with other settings stands in a table of "
        "its own: no ratio or difference is formed with it."
    )
    return _joined(note, apart) if variant else note


def _with_data(note: str, cells: pd.DataFrame) -> str:
    """``note``, and what the data are called: figures of a copy must not be taken for the data set's own."""
    told = said(filter(None, cells["data"]), joined_by=" and ")
    return _joined(note, f"Data: {told}.") if told else note


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


def warning_tables(results: Results) -> list[Table]:
    """What the methods warned of; no table where there is nothing."""
    return [*_gradient_warnings(results.gradients), *_teaching_warnings(results.teaching)]


def _teaching_warnings(teaching: pd.DataFrame) -> list[Table]:
    """One row per teacher that learned from gradients that were warned of."""
    warned = teaching[teaching["steps_warned"] > 0] if len(teaching) else teaching
    if warned.empty:
        return []
    rows = [
        (cell["problem"], cell["method"], f"{cell['steps_warned']} of {cell['outer_steps']}", cell["warning"])
        for cell in warned.to_dict("records")
    ]
    columns = ("problem", "method", "outer steps", "warning")
    note = "Outer steps with a student whose gradient was warned of, in the words of the first."
    return [Table("Warnings while teaching", columns, tuple(rows), note, text_columns=len(columns), row_header=1)]


def _gradient_warnings(gradients: pd.DataFrame) -> list[Table]:
    """One row per problem, method and horizon."""
    warned = gradients[gradients["warnings"] != ""]
    if warned.empty:
        return []
    rows = [
        (str(problem), method, str(horizon), str(group["seed"].nunique()), str(group["warnings"].iloc[0]))
        for (problem, horizon), cells in warned.groupby(["problem", "horizon"])
        for method in in_order(cells["method"])
        for group in (cells[cells["method"] == method],)
    ]
    columns = ("problem", "method", "T", "seeds", "warning")
    return [
        Table(
            "Warnings", columns, tuple(rows), "In the words of the first seed.", text_columns=len(columns), row_header=1
        )
    ]


def _status_words(statuses: pd.Series) -> str:
    counts = statuses.value_counts(sort=False)
    return ", ".join(str(status) if len(counts) == 1 else f"{status} {count}" for status, count in counts.items())


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
        _plural(row["n"], row["unit"]),
        str(row["verdict"]),
        number(row["p"], 2),
        equivalent(row["equivalence"], row["margin"]),
    )


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


_TEACHING_COLUMNS = ("loss", "lr", "outer steps", "test accuracy", "over cross-entropy", "over untrained")
_TEACHING_DETAIL = ("over best fixed", "students", "signal / noise", "straightness", "training, s", "students, s")


def _teaching_table(problem: Any, variant: Any, planned: pd.DataFrame, teaching: pd.DataFrame, detail: bool) -> Table:
    measured = of_case(teaching, problem, variant)
    several = planned["seed"].nunique() > 1
    columns = _TEACHING_COLUMNS + (_TEACHING_DETAIL if detail else ())
    rows = [_teaching_row(row, several, detail) for row in rows_of(measured)]
    for row in rows_of(planned[~planned["cell_id"].isin(measured["cell_id"])]):
        rows.append((f"{loss_name(row, several)}: {row['status']}", *[DASH] * (len(columns) - 1)))
    counts = sorted(set(measured["students"]))
    each = f", {counts[0]} students each" if len(counts) == 1 else ""
    note = _with_data(_with_apart(_teaching_note(measured), variant), planned)
    return Table(f"Students taught on {case_name(problem, variant)}{each}", columns, tuple(rows), note)


def _teaching_note(measured: pd.DataFrame) -> str:
    if measured.empty:
        return ""
    note = (
        "Named by the gradient that the teacher learned with. Mean over fresh students with a 95 % bootstrap interval; "
        "differences in percentage points, paired by student seed. Each loss at its own learning rate, chosen on dev."
    )
    if best := said(filter(None, measured["best_fixed"])):
        note += f" Best fixed: {best}, the best on test of the losses that are not learned and are told no more."
    at_edge = measured["lr_at_grid_edge"].eq(True).any()
    if measured["straightness"].notna().any():
        note += (
            " Signal / noise: the teacher gradient's norm over its standard error between the students of an outer "
            "step. Straightness: how far theta got over the length of its way; steps at random give about one over the "
            "root of their number."
        )
    return note + (" *: the best of the rates tried was the grid's smallest or largest." if at_edge else "")


def _teaching_row(row: Row, several: bool, detail: bool) -> tuple[str, ...]:
    short = (
        loss_name(row, several),
        f"{row['lr']:g}{'*' if row['lr_at_grid_edge'] else ''} {row['schedule'] or ''}".rstrip(),
        _count(row["outer_steps"]),
        accuracy(estimate_in(row, "test_accuracy")),
        points(estimate_in(row, "over_cross_entropy")),
        points(estimate_in(row, "over_untrained")),
    )
    if not detail:
        return short
    more = ("signal_to_noise", "straightness", "seconds_training", "seconds_students")
    best = points(estimate_in(row, "over_best_fixed"))
    return (
        *short,
        best,
        str(row["students"]),
        *(number(row[column], 2 if column in more[:2] else 3) for column in more),
    )


def loss_name(row: Row, several_seeds: bool) -> str:
    """How tables and plots name a teaching cell: by its method, and by its seed where there is more than one."""
    return f"{row['method']}, seed {row['seed']}" if several_seeds else str(row["method"])


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _count(value: Any) -> str:
    return DASH if value is None or pd.isna(value) else str(int(value))


def loss_label(row: Row, several_seeds: bool = False) -> str:
    """What a teaching cell is called: the control's name, or by which gradient its teacher learned."""
    name = loss_name(row, several_seeds)
    return f"learned by {name}" if row["loss"] == "learned" else name


def other_tables(results: Results) -> list[Table]:
    """The figures of cells of a plug-in's own kind, one table per kind, problem and variant."""
    return [
        _other_table(f"{kind}: {case_name(problem, variant)}", figures)
        for (kind, problem, variant), figures in results.others.groupby(["kind", *VARIANT])
    ]


def _other_table(title: str, figures: pd.DataFrame) -> Table:
    names = list(dict.fromkeys(figures["name"]))
    means = figures.groupby(["method", "name"])["value"].mean().unstack().reindex(columns=names)
    cells = figures.groupby("method")["cell_id"].nunique()
    rows = [
        (method, str(cells[method]), *(number(means.loc[method, name]) for name in names))
        for method in in_order(means.index)
    ]
    seeds = _plural(figures["seed"].nunique(), "seed")
    return Table(f"{title}, {seeds}", ("method", "cells", *names), tuple(rows), "Means over the cells.")


def failure_tables(results: Results) -> list[Table]:
    """Cells without a result, one row per what happened; no table where there are none."""
    failed = results.failures
    if failed.empty:
        return []
    rows = [
        (
            str(status),
            str(kind),
            case_name(problem, variant),
            str(method),
            _seed_list(group["seed"]),
            str(message) or DASH,
        )
        for (status, kind, problem, variant, method, message), group in failed.groupby(
            ["status", "kind", *VARIANT, "method", "message"], sort=False
        )
    ]
    columns = ("status", "kind", "problem", "method", "seeds", "message")
    return [Table("Cells without a result", columns, tuple(rows), text_columns=len(columns))]


def _seed_list(seeds: pd.Series) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds.unique()))  # one of several rounds stands once
