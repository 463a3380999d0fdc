"""A comparison as tables of strings that are ready to print."""

import pandas as pd

from l2t_bench.reports.compare import Comparison
from l2t_bench.reports.comparison_words import change, seed_list
from l2t_bench.reports.formats import DASH, equivalent, fixed, number
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_UNITS = {"time": "time, s", "memory": "memory, MiB", "accuracy": "accuracy"}


def tables(comparison: Comparison) -> list[Table]:
    """The comparison for a terminal or Markdown: a table per problem, then whatever cells stand alone or changed."""
    rows = comparison.rows
    compared = [
        Table(
            f"{comparison.new} against {comparison.base} on {case_name(*case)}",
            ("T", "method", "quantity", "verdict", comparison.base, comparison.new, "change", "n"),
            tuple(_table_row(row, comparison) for row in rows_of(group)),
            _table_note(comparison),
            text_columns=4,
            row_header=1,
        )
        for case, group in rows.groupby(VARIANT, sort=False)
    ]
    return [
        *compared,
        *_aggregate_tables(comparison),
        *_equivalence_tables(comparison),
        *_changed_tables(comparison),
        *_alone_tables(comparison),
        *_uncompared_tables(comparison),
    ]


def _table_row(row: Row, comparison: Comparison) -> tuple[str, ...]:
    quantity = row["quantity"]
    if quantity == "accuracy":
        levels = (fixed(row["base"], 4), fixed(row["new"], 4))
    else:
        levels = (number(row["base"]), number(row["new"]))
    absolute = comparison.same_machine or quantity == "accuracy"
    return (
        DASH if pd.isna(row["horizon"]) else str(row["horizon"]),
        str(row["method"]),
        _UNITS[quantity] if absolute else f"{quantity} / baseline",
        str(row["verdict"]),
        *levels,
        f"{change(row)} points" if quantity == "accuracy" else f"{change(row)} ×",
        str(row["n"]),
    )


def _table_note(comparison: Comparison) -> str:
    units = (
        "Time and memory: geometric means over the seeds of both runs, and new / base"
        if comparison.same_machine
        else "Time and memory: ratios to the baseline method on the same machine, and new / base of these"
    )
    rule = (
        "95 % bootstrap interval, paired by seed and round. Better or worse: the interval excludes no difference, and "
        "the effect exceeds 5 % in time, 2 % in memory. n: seeds; students where one seed was taught."
    )
    return " ".join([f"{units}; accuracy: difference in percentage points.", rule, *comparison.notes])


def _aggregate_tables(comparison: Comparison) -> list[Table]:
    """The ratios over problems; none where no horizon has more than one."""
    rows = [
        (str(row["horizon"]), row["method"], row["quantity"], f"{fixed(row['value'], 2)} ×", _share(row))
        for row in rows_of(comparison.aggregates)
    ]
    note = "Geometric means of new / base over the problems that every method here has, and how many of all these are."
    columns = ("T", "method", "quantity", "change", "problems")
    return [Table("Over all problems", columns, tuple(rows), note, text_columns=3, row_header=1)] if rows else []


def _share(row: Row) -> str:
    return f"{row['common']}/{row['total']}"


def _equivalence_tables(comparison: Comparison) -> list[Table]:
    """Whether accuracies are the same within the margin; none where no suite states one."""
    rows = [
        (
            case_name(row["problem"], row["variant"]),
            str(row["method"]),
            f"{100 * row['value']:+.2f} points".replace("-", "−"),
            f"{row['n']} {row['unit']}{'s' * (row['n'] != 1)}",
            number(row["p"], 2),
            equivalent(row["equivalence"], row["margin"]),
        )
        for row in rows_of(comparison.equivalences)
    ]
    title = f"Test accuracy in {comparison.new} and {comparison.base}: the same?"
    note = "Two one-sided paired t tests (TOST) at 5 %, of the margin that the suite states."
    columns = ("problem", "method", "change", "n", "TOST p", "equivalence")
    return [Table(title, columns, tuple(rows), note, text_columns=2)] if rows else []


def _changed_tables(comparison: Comparison) -> list[Table]:
    keys = ["change", "kind", *VARIANT, "method", "base", "new"]
    columns = ("change", "kind", "problem", "method", comparison.base, comparison.new, "seeds")
    return _cell_tables("Cells whose status differs", columns, comparison.changed, keys)


def _alone_tables(comparison: Comparison) -> list[Table]:
    keys, columns = ["kind", *VARIANT, "method", "status"], ("kind", "problem", "method", "status", "seeds")
    return [
        *_cell_tables(f"Cells only in {comparison.base}", columns, comparison.only_base, keys),
        *_cell_tables(f"Cells only in {comparison.new}", columns, comparison.only_new, keys),
    ]


def _cell_tables(title: str, columns: tuple[str, ...], cells: pd.DataFrame, keys: list[str]) -> list[Table]:
    """One table with the seeds of alike cells in one row; none where there are no cells."""
    rows = [
        (*_words(dict(zip(keys, values, strict=True))), seed_list(group["seed"]))
        for values, group in cells.groupby(keys, sort=False, dropna=False)
    ]
    return [Table(title, columns, tuple(rows), text_columns=len(columns))] if rows else []


def _words(named: Row) -> list[str]:
    """The entries of a row, a problem and its variant as one."""
    told = {**named, "problem": case_name(named["problem"], named["variant"])}
    return [str(value) for name, value in told.items() if name != "variant"]


def _uncompared_tables(comparison: Comparison) -> list[Table]:
    rows = [
        (
            case_name(row["problem"], row["variant"]),
            str(row["method"]),
            "all" if pd.isna(row["horizon"]) else str(row["horizon"]),
            row["quantity"],
            row["seeds"] or "all",
            row["reason"],
        )
        for row in rows_of(comparison.not_comparable)
    ]
    columns = ("problem", "method", "T", "quantity", "seeds", "why")
    return [Table("Not compared", columns, tuple(rows), text_columns=len(columns))] if rows else []
