"""Gradient quality against what it depends on: the horizon T of a method, and the window K of a truncated one."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from l2t_bench.errors import UserError
from l2t_bench.names import split_spec
from l2t_bench.reports.derive import Results
from l2t_bench.reports.gradient_panels import legend_of
from l2t_bench.reports.marks import BACKEND_COLOURS, colours, shades, symbol
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import MUTED, FigureGroup, LegendEntry, Panel, escaped, log_range, set_style
from l2t_bench.reports.quality_figure import LEAST_NORM_RATIO, quality_axes
from l2t_bench.reports.variants import case_name

_HEIGHT = 300
_TRUNCATED = symbol("truncated")


@dataclass(frozen=True)
class _Line:
    """A line of a panel: what it is, the rows that it goes through, and how it is marked."""

    name: str
    rows: pd.DataFrame
    colour: str
    symbol: str


def quality_by_horizon(results: Results) -> FigureGroup:
    """Cosine and norm ratio against T, a line per method that is not exact; panels of more than one horizon."""
    shown = _compared(results.gradients)
    panels = [
        _panel(case_name(*case), group, "horizon", "T", _lines_of_methods(group, colours(results.methods)))
        for case, group in shown.groupby(VARIANT)
        if group["horizon"].nunique() > 1
    ]
    return FigureGroup(
        "quality-horizon",
        "Gradient quality against T",
        "Medians over seeds with the whole range, the horizon along a logarithmic axis. Whether an approximation keeps "
        "its direction and its length as runs grow longer. Stationary methods compute another quantity.",
        legend_of(shown, results),
        tuple(panels),
        by_exactness=True,
    )


def quality_by_window(results: Results) -> FigureGroup:
    """Cosine and norm ratio against the window K, a line per horizon; panels of more than one window."""
    shown = _compared(results.gradients)
    windows = shown["method"].map(window_of)
    shown = shown.assign(window=windows)[windows.notna()]
    shown = shown[shown.groupby(VARIANT)["window"].transform("nunique") > 1]
    horizons = sorted(shown["horizon"].unique())
    palette = dict(zip(horizons, shades(BACKEND_COLOURS["truncated"], len(horizons)), strict=True))
    return FigureGroup(
        "quality-window",
        "Gradient quality against the window K",
        "Truncated methods keep the last K steps of a run; a line per horizon. Medians over seeds with the whole "
        "range, K along a logarithmic axis.",
        tuple(LegendEntry(f"T = {horizon}", palette[horizon], _TRUNCATED) for horizon in horizons),
        tuple(
            _panel(case_name(*case), group, "window", "window K", _lines_of_horizons(group, palette))
            for case, group in shown.groupby(VARIANT)
        ),
    )


def window_of(method: str) -> float | None:
    """K of ``truncated[window=K]``; ``None`` for a method without a window."""
    try:
        return float(split_spec(method)[1]["window"])
    except (UserError, KeyError, ValueError):
        return None


def _compared(gradients: pd.DataFrame) -> pd.DataFrame:
    """The rows that were held to an exact gradient and are none themselves."""
    return gradients[gradients["exactness"] != "exact"].dropna(subset=["cosine", "norm_ratio"])


def _lines_of_methods(group: pd.DataFrame, palette: Mapping[str, str]) -> list[_Line]:
    rows = {method: group[group["method"] == method] for method in in_order(group["method"])}
    return [_Line(method, own, palette[method], symbol(own["exactness"].iloc[0])) for method, own in rows.items()]


def _lines_of_horizons(group: pd.DataFrame, palette: Mapping[int, str]) -> list[_Line]:
    horizons = sorted(group["horizon"].unique())
    return [_Line(f"T = {each}", group[group["horizon"] == each], palette[each], _TRUNCATED) for each in horizons]


def _panel(title: str, rows: pd.DataFrame, along: str, named: str, lines: Sequence[_Line]) -> Panel:
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.2)
    axes = quality_axes(rows)
    for column, quantity in enumerate(axes, start=1):
        figure.add_trace(_at_one(rows[along]), row=1, col=column)
        for line in lines:
            figure.add_trace(_trace(line, along, quantity), row=1, col=column)
    set_style(figure, height=_HEIGHT)
    places = sorted(rows[along].unique())
    figure.update_xaxes(
        title=named,
        type="log",
        range=log_range(rows[along]),
        tickvals=places,
        ticktext=[f"{each:g}" for each in places],
    )
    for column, (quantity, axis) in enumerate(axes.items(), start=1):
        figure.update_yaxes(title=_words(quantity), **axis, row=1, col=column)
    told = "; ".join(f"{line.name} {_told(line.rows, along)}" for line in lines)
    return Panel(title, f"Gradient quality on {title} against {named}: {told}.", figure)


def _told(own: pd.DataFrame, along: str) -> str:
    last = own[own[along] == own[along].max()]
    cosine, norm = last["cosine"].median(), last["norm_ratio"].median()
    return f"cosine {cosine:.3f} and norm ratio {norm:.3g} at {along} {last[along].iloc[0]:g}"


def _at_one(places: pd.Series) -> go.Scatter:
    line = {"dash": "dash", "width": 1, "color": MUTED}
    return go.Scatter(x=[places.min(), places.max()], y=[1, 1], mode="lines", line=line, hoverinfo="skip")


def _trace(line: _Line, along: str, quantity: str) -> go.Scatter:
    values = line.rows[quantity]
    if quantity == "norm_ratio":
        values = values.clip(lower=LEAST_NORM_RATIO)
    found = values.groupby(line.rows[along]).agg(["median", "min", "max"]).sort_index()
    error: Mapping[Hashable, object] = {
        "type": "data",
        "symmetric": False,
        "array": found["max"] - found["median"],
        "arrayminus": found["median"] - found["min"],
        "color": line.colour,
        "thickness": 1,
        "width": 3,
    }
    return go.Scatter(
        x=list(found.index),
        y=found["median"],
        mode="lines+markers",
        line={"color": line.colour, "width": 1.5},
        marker={"color": line.colour, "symbol": line.symbol, "size": 9},
        error_y=error,
        hovertemplate=f"<b>{escaped(line.name)}</b>, {along} %{{x}}<br>{_words(quantity)} %{{y:.4g}}<extra></extra>",
    )


def _words(quantity: str) -> str:
    return quantity.replace("_", " ")
