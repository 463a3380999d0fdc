"""The figures of teacher gradients: what they cost, and how near they come to the exact one."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from l2t_bench.reports.derive import Results
from l2t_bench.reports.marks import colours, symbol
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import (
    MUTED,
    PAPER,
    FigureGroup,
    LegendEntry,
    Panel,
    escaped,
    log_axis,
    log_range,
    set_style,
)
from l2t_bench.reports.variants import case_name

_LEAST_MIB, _LEAST_NORM_RATIO = 0.1, 1e-4  # what a logarithmic axis shows for less


# -- time against memory


def time_against_memory(results: Results) -> FigureGroup:
    """Seconds per outer step against peak memory, log-log: a small point per seed, a large one for the median."""
    shown = results.gradients.dropna(subset=["seconds", "peak_above_start_mib"])
    shown = shown[shown["seconds"] > 0]
    panels = [
        _cost_panel(_panel_title(*case), group, colours(results.methods), _ranges(shown, case[0]))
        for case, group in shown.groupby([*VARIANT, "horizon"])
    ]
    return FigureGroup(
        "time-memory",
        "Time against memory",
        "One outer step: down and to the left is better. Small markers are seeds, large ones medians; both axes are "
        "logarithmic and the same for one problem's panels.",
        _legend(shown, results),
        tuple(panels),
    )


def _ranges(shown: pd.DataFrame, problem: object) -> tuple[list[float], list[float]]:
    rows = shown[shown["problem"] == problem]
    return log_range(rows["peak_above_start_mib"].clip(lower=_LEAST_MIB)), log_range(rows["seconds"])


def _cost_panel(
    title: str, rows: pd.DataFrame, palette: Mapping[str, str], ranges: tuple[list[float], list[float]]
) -> Panel:
    figure = go.Figure()
    for method in in_order(rows["method"]):
        own = rows[rows["method"] == method]
        mark = symbol(own["exactness"].iloc[0])
        seeds = own.assign(drawn=own["peak_above_start_mib"].clip(lower=_LEAST_MIB))
        figure.add_trace(
            _cost_points(method, seeds, palette[method], mark, size=6, opacity=0.55, what="seed %{customdata[1]}")
        )
        median = seeds[["drawn", "peak_above_start_mib", "seconds"]].median().to_frame().T.assign(seed="")
        figure.add_trace(_cost_points(method, median, palette[method], mark, size=13, opacity=1, what="median"))
    set_style(figure, height=340)
    x, y = ranges
    figure.update_xaxes(title="peak above start, MiB", **log_axis(x))
    figure.update_yaxes(title="seconds per outer step", **log_axis(y))
    seconds, peaks = _medians(rows, "seconds"), _medians(rows, "peak_above_start_mib")
    told = "; ".join(f"{method} {seconds[method]:.3g} s, {peaks[method]:.3g} MiB" for method in seconds)
    return Panel(title, f"Time against memory on {title}. {told}.", figure)


def _cost_points(
    method: str, rows: pd.DataFrame, colour: str, mark: str, *, size: int, opacity: float, what: str
) -> go.Scatter:
    return go.Scatter(
        x=rows["drawn"],
        y=rows["seconds"],
        mode="markers",
        customdata=rows[["peak_above_start_mib", "seed"]],
        marker={
            "color": colour,
            "symbol": mark,
            "size": size,
            "opacity": opacity,
            "line": {"width": 1 if opacity == 1 else 0, "color": PAPER},
        },
        hovertemplate=f"<b>{escaped(method)}</b>, {what}<br>%{{y:.3g}} s, %{{customdata[0]:.3g}} MiB<extra></extra>",
        cliponaxis=False,
    )


# -- gradient quality


def gradient_quality(results: Results) -> FigureGroup:
    """Cosine and norm ratio to the exact gradient, per method; the stationary family below a line of its own."""
    shown = results.gradients.dropna(subset=["cosine", "norm_ratio"])
    palette = colours(results.methods)
    panels = [
        _quality_panel(_panel_title(*case), group, palette, _quality_axes(shown))
        for case, group in shown.groupby([*VARIANT, "horizon"])
    ]
    return FigureGroup(
        "quality",
        "Gradient quality",
        "Direction and length against the exact gradient of the same run; the dashed line at 1 is perfect in both. "
        "A gradient can point the right way and be far too short. Methods below the line compute another quantity.",
        _legend(shown, results),
        tuple(panels),
    )


def _quality_axes(shown: pd.DataFrame) -> dict[str, dict[str, object]]:
    """The axes of cosine and norm ratio, the same in all panels; lengths are compared on a logarithmic one."""
    lowest = shown["cosine"].min()
    norms = pd.concat([shown["norm_ratio"].clip(lower=_LEAST_NORM_RATIO), pd.Series([0.5, 2.0])])
    return {
        "cosine": {"range": [min(0.0, lowest) - 0.08, 1.08], "tickvals": [-1, -0.5, 0, 0.5, 1]},
        "norm_ratio": log_axis(log_range(norms)),
    }


def _quality_panel(
    title: str, rows: pd.DataFrame, palette: Mapping[str, str], axes: Mapping[str, dict[str, object]]
) -> Panel:
    exactness = dict(zip(rows["method"], rows["exactness"], strict=True))
    places = _places(exactness)
    bottom = min(places.values()) - 0.6
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.07, subplot_titles=("cosine", "norm ratio")
    )
    for column, quantity in enumerate(axes, start=1):
        figure.add_trace(_line_at_one(bottom), row=1, col=column)
        for method, place in places.items():
            own = rows[rows["method"] == method]
            style = {"color": palette[method], "symbol": symbol(exactness[method])}
            figure.add_trace(_quality_points(method, own, quantity, place, style, median=False), row=1, col=column)
            figure.add_trace(_quality_points(method, own, quantity, place, style, median=True), row=1, col=column)
    set_style(figure, height=110 + round(32 * (1 - min(places.values()))))
    for column, axis in enumerate(axes.values(), start=1):
        figure.update_xaxes(**axis, row=1, col=column)
    ranked = [place for place in places.values() if place == round(place)]
    if 0 < len(ranked) < len(places):
        figure.add_hline(y=min(ranked) - 0.75, line={"width": 1, "color": MUTED}, layer="below")
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[escaped(method) for method in places],
        range=[bottom, 0.6],
        showgrid=False,
    )
    cosines, norms = _medians(rows, "cosine"), _medians(rows, "norm_ratio")
    told = "; ".join(f"{method} cosine {cosines[method]:.3f}, norm ratio {norms[method]:.3g}" for method in places)
    return Panel(title, f"Gradient quality on {title}. {told}.", figure)


def _line_at_one(bottom: float) -> go.Scatter:
    """A trace, not a shape: shapes lie either under the grid or over the markers."""
    line = {"dash": "dash", "width": 1, "color": MUTED}
    return go.Scatter(x=[1, 1], y=[bottom, 0.6], mode="lines", line=line, hoverinfo="skip")


def _places(exactness: Mapping[str, str]) -> dict[str, float]:
    """The height of each method's row: whole numbers down from 0, the stationary ones half a row further down."""
    ordered = in_order(exactness)
    ranked = [method for method in ordered if exactness[method] != "stationary"]
    apart = [method for method in ordered if exactness[method] == "stationary"]
    return {method: -float(index) for index, method in enumerate(ranked)} | {
        method: -len(ranked) - index - 0.5 for index, method in enumerate(apart)
    }


def _quality_points(
    method: str, own: pd.DataFrame, quantity: str, place: float, style: Mapping[str, str], *, median: bool
) -> go.Scatter:
    values = pd.Series([own[quantity].median()]) if median else own[quantity]
    name = quantity.replace("_", " ")
    which = "median" if median else "seed %{customdata[0]}"
    size = {"size": 13, "line": {"width": 1, "color": PAPER}} if median else {"size": 6, "opacity": 0.55}
    return go.Scatter(
        x=values.clip(lower=_LEAST_NORM_RATIO) if quantity == "norm_ratio" else values,
        y=[place] * len(values),
        mode="markers",
        customdata=[["", values.iloc[0]]] if median else own[["seed", quantity]],
        marker={**style, **size},
        hovertemplate=f"<b>{escaped(method)}</b>, {which}<br>{name} %{{customdata[1]:.4g}}<extra></extra>",
        cliponaxis=False,
    )


# -- what both share


def _legend(rows: pd.DataFrame, results: Results) -> tuple[LegendEntry, ...]:
    palette = colours(results.methods)
    exactness = dict(zip(rows["method"], rows["exactness"], strict=True))
    return tuple(LegendEntry(method, palette[method], symbol(exactness[method])) for method in in_order(exactness))


def _panel_title(problem: object, variant: object, horizon: object) -> str:
    return f"{case_name(problem, variant)}, T = {horizon}"


def _medians(rows: pd.DataFrame, column: str) -> dict[str, float]:
    return {method: float(rows.loc[rows["method"] == method, column].median()) for method in in_order(rows["method"])}
