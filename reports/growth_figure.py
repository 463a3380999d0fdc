"""The figures of growth in T: seconds and memory of an outer step against the horizon, each with its law."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.gradient_panels import at_the_border, failures_told, legend_of
from l2t_bench.reports.marks import colours, symbol
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import FigureGroup, Panel, escaped, log_axis, log_range, set_style
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.variants import case_name

_POINTS = 24  # of a law's line
_BESIDE = 1.06  # times T: how far several crosses at one horizon stand from each other


@dataclass(frozen=True)
class _Quantity:
    name: str  # of ``growth``
    column: str  # of the summary
    unit: str
    axis: str


_TIME = _Quantity("time", "seconds", "s", "seconds per outer step")
_MEMORY = _Quantity("memory", "peak_above_start_mib", "MiB", "peak above start, MiB")
_LAW = (
    "Markers are medians over seeds, lines the law fixed + per step × T that fits them best, both axes logarithmic. "
    "Thin crosses at the upper border: methods without a result."
)


def time_growth(results: Results) -> FigureGroup:
    """Seconds of an outer step against T; panels of more than one horizon."""
    return _group("time-horizon", "Time against T", results, _TIME)


def memory_growth(results: Results) -> FigureGroup:
    """Peak memory against T; panels of more than one horizon."""
    return _group("memory-horizon", "Memory against T", results, _MEMORY)


def _group(anchor: str, title: str, results: Results, quantity: _Quantity) -> FigureGroup:
    shown = results.summary[results.summary[quantity.column] > 0]
    panels = [
        _panel((problem, variant), group, results, quantity)
        for (problem, variant), group in shown.groupby(VARIANT)
        if group["horizon"].nunique() > 1
    ]
    return FigureGroup(anchor, title, _LAW, legend_of(shown, results, results.failed), tuple(panels), by_exactness=True)


def _panel(case: tuple[object, object], rows: pd.DataFrame, results: Results, quantity: _Quantity) -> Panel:
    palette, failed = colours(results.methods), of_case(results.failed, *case)
    laws = of_case(results.growth[results.growth["quantity"] == quantity.name], *case)
    figure = go.Figure()
    for row in rows_of(laws):
        figure.add_trace(_law(row, palette))
    for method in in_order(rows["method"]):
        figure.add_trace(_medians(method, rows[rows["method"] == method], palette[method], quantity))
    horizons = sorted({*rows["horizon"], *failed["horizon"]})
    across, along = log_range(rows[quantity.column]), log_range(pd.Series(horizons, dtype=float))
    for place, method in enumerate(in_order(failed["method"])):
        group = failed[failed["method"] == method]
        places = [horizon * _BESIDE**place for horizon in group["horizon"]]
        edge = [10 ** across[1]] * len(places)
        figure.add_trace(at_the_border(method, group["status"].iloc[0], palette[method], places, edge))
    set_style(figure, height=340)
    figure.update_xaxes(
        title="T", type="log", range=along, tickvals=horizons, ticktext=[str(horizon) for horizon in horizons]
    )
    figure.update_yaxes(title=quantity.axis, **log_axis(across))
    title = case_name(*case)
    told = "; ".join(
        f"{row['method']} {row['per_step']:.3g} {quantity.unit} per step and {row['fixed']:.3g} {quantity.unit} once"
        for row in rows_of(laws)
    )
    return Panel(title, f"{quantity.axis} on {title} against T: {told}{failures_told(failed)}.", figure)


def _law(row: Mapping[str, object], palette: Mapping[str, str]) -> go.Scatter:
    least, most, fixed, per_step = (
        float(str(row[name])) for name in ("least_horizon", "most_horizon", "fixed", "per_step")
    )
    horizons = np.logspace(np.log10(least), np.log10(most), _POINTS)
    return go.Scatter(
        x=horizons,
        y=fixed + per_step * horizons,
        mode="lines",
        line={"color": palette[str(row["method"])], "width": 1.3},
        opacity=0.75,
        hoverinfo="skip",
    )


def _medians(method: str, own: pd.DataFrame, colour: str, quantity: _Quantity) -> go.Scatter:
    return go.Scatter(
        x=own["horizon"],
        y=own[quantity.column],
        mode="markers",
        marker={"color": colour, "symbol": symbol(own["exactness"].iloc[0]), "size": 10},
        hovertemplate=f"<b>{escaped(method)}</b>, T = %{{x}}<br>%{{y:.3g}} {quantity.unit}<extra></extra>",
        cliponaxis=False,
    )
