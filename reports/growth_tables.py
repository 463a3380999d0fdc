"""How time and memory grow with T, and the largest T that fits into a given memory: tables that are ready to print."""

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import DASH, fixed, number
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_LAW_COLUMNS = (
    *("method", "T measured", "s once", "ms per step", "off by, %"),
    *("MiB once", "MiB per step", "off by, %"),
)
_LAW_NOTE = (
    "An outer step takes so much once and so much for each of its T steps: the law that fits the medians best, by "
    "relative error, with neither part below zero. Off by: the farthest that a measurement is from it. Two horizons "
    "always lie on such a law, or show that it is none."
)
_WIDE_OF = 0.1  # a law that is farther off its own measurements says little about others
_FIT_NOTE = (
    "Peak above the start, by the law of the table of growth: an extrapolation from the horizons that were measured, "
    "rounded down to two digits. GB: 10^9 bytes. Any: ten million steps or more, for memory that hardly grows with T. "
    f"~: the law is off by more than {_WIDE_OF:.0%} where it was measured. What the process holds before it begins "
    "comes on top."
)


def growth_tables(results: Results) -> list[Table]:
    """One table per problem and variant with more than one horizon."""
    return [
        Table(f"How an outer step grows with T on {case_name(*case)}", _LAW_COLUMNS, _laws(group), _LAW_NOTE)
        for case, group in results.growth.groupby(VARIANT)
    ]


def _laws(group: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    rows = []
    for method in in_order(group["method"]):
        own = {row["quantity"]: row for row in rows_of(group[group["method"] == method])}
        first = next(iter(own.values()))
        measured = f"{first['least_horizon']} to {first['most_horizon']}, {first['horizons']}"
        rows.append((method, measured, *_law(own.get("time"), 1000), *_law(own.get("memory"), 1)))
    return tuple(rows)


def _law(law: Mapping[str, Any] | None, per_step: int) -> tuple[str, ...]:
    if law is None:
        return (DASH, DASH, DASH)
    return (number(law["fixed"]), number(per_step * law["per_step"]), fixed(100 * law["misfit"], 1))


def fitting_tables(results: Results) -> list[Table]:
    """One table per problem and variant whose memory's growth is known."""
    return [_fitting_table(case_name(*case), group) for case, group in results.fitting.groupby(VARIANT)]


def _fitting_table(title: str, group: pd.DataFrame) -> Table:
    memories = sorted(group["memory_gb"].unique())
    rows = []
    for method in in_order(group["method"]):
        own = {row["memory_gb"]: row for row in rows_of(group[group["method"] == method])}
        rows.append((method, *(_horizon(own[memory]) for memory in memories)))
    columns = ("method", *(f"in {memory:g} GB" for memory in memories))
    return Table(f"The largest T that fits, {title}", columns, tuple(rows), _FIT_NOTE)


def _horizon(row: Row) -> str:
    steps = row["largest_horizon"]
    if math.isinf(steps):
        return "any"
    told = f"{steps:,.0f}" if steps else "none"
    return f"~{told}" if row["misfit"] > _WIDE_OF else told
