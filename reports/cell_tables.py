"""Cells without a result, and those of a plug-in's own kind: tables that are ready to print."""

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import DASH, number
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import plural


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
    seeds = plural(figures["seed"].nunique(), "seed")
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
