"""The figure of gradient quality: how near each method's gradient comes to the exact one, in direction and length."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from l2t_bench.reports.derive import Results
from l2t_bench.reports.gradient_panels import legend_of, medians, panel_title
from l2t_bench.reports.marks import colours, symbol
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import MUTED, PAPER, FigureGroup, Panel, escaped, log_axis, log_range, set_style

LEAST_NORM_RATIO = 1e-4  # what a logarithmic axis shows for less


def gradient_quality(results: Results) -> FigureGroup:
    """Cosine and norm ratio to the exact gradient, per method; the stationary family below a line of its own."""
    shown = results.gradients.dropna(subset=["cosine", "norm_ratio"])
    palette = colours(results.methods)
    panels = [
        _panel(panel_title(*case), group, palette, quality_axes(shown))
        for case, group in shown.groupby([*VARIANT, "horizon"])
    ]
    return FigureGroup(
        "quality",
        "Gradient quality",
        "Direction and length against the exact gradient of the same run; the dashed line at 1 is perfect in both. "
        "A gradient can point the right way and be far too short. Methods below the line compute another quantity.",
        legend_of(shown, results),
        tuple(panels),
        by_exactness=True,
    )


def quality_axes(shown: pd.DataFrame) -> dict[str, dict[str, object]]:
    """The axes of cosine and norm ratio, the same in all panels; lengths are compared on a logarithmic one."""
    lowest = shown["cosine"].min()
    norms = pd.concat([shown["norm_ratio"].clip(lower=LEAST_NORM_RATIO), pd.Series([0.5, 2.0])])
    return {
        "cosine": {"range": [min(0.0, lowest) - 0.08, 1.08], "tickvals": [-1, -0.5, 0, 0.5, 1]},
        "norm_ratio": log_axis(log_range(norms)),
    }


def _panel(title: str, rows: pd.DataFrame, palette: Mapping[str, str], axes: Mapping[str, dict[str, object]]) -> Panel:
    exactness = dict(zip(rows["method"], rows["exactness"], strict=True))
    places = _places(exactness)
    bottom = min(places.values()) - 0.6
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.07)
    for column, quantity in enumerate(axes, start=1):
        figure.add_trace(_line_at_one(bottom), row=1, col=column)
        for method, place in places.items():
            own = rows[rows["method"] == method]
            style = {"color": palette[method], "symbol": symbol(exactness[method])}
            figure.add_trace(_points(method, own, quantity, place, style, median=False), row=1, col=column)
            figure.add_trace(_points(method, own, quantity, place, style, median=True), row=1, col=column)
    set_style(figure, height=110 + round(32 * (1 - min(places.values()))))
    for column, (quantity, axis) in enumerate(axes.items(), start=1):
        figure.update_xaxes(title=quantity.replace("_", " "), **axis, row=1, col=column)
    ranked = [place for place in places.values() if place == round(place)]
    if 0 < len(ranked) < len(places):
        figure.add_hline(y=min(ranked) - 0.75, line={"width": 1, "color": MUTED}, layer="below")
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[escaped(method) for method in places],
        range=[bottom, 0.6],
        showgrid=False,
    )
    cosines, norms = medians(rows, "cosine"), medians(rows, "norm_ratio")
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


def _points(
    method: str, own: pd.DataFrame, quantity: str, place: float, style: Mapping[str, str], *, median: bool
) -> go.Scatter:
    values = pd.Series([own[quantity].median()]) if median else own[quantity]
    name = quantity.replace("_", " ")
    which = "median" if median else "seed %{customdata[0]}"
    size = {"size": 13, "line": {"width": 1, "color": PAPER}} if median else {"size": 6, "opacity": 0.55}
    return go.Scatter(
        x=values.clip(lower=LEAST_NORM_RATIO) if quantity == "norm_ratio" else values,
        y=[place] * len(values),
        mode="markers",
        customdata=[["", values.iloc[0]]] if median else own[["seed", quantity]],
        marker={**style, **size},
        hovertemplate=f"<b>{escaped(method)}</b>, {which}<br>{name} %{{customdata[1]:.4g}}<extra></extra>",
        cliponaxis=False,
    )
