"""The figure of the adjoints' health: |w_bar_t| from omega_T back to omega_0."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.adjoint_words import without_adjoint
from l2t_bench.reports.derive import Results
from l2t_bench.reports.marks import colours
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import FigureGroup, LegendEntry, Panel, escaped, log_axis, log_range, set_style
from l2t_bench.reports.variants import case_name


def adjoint_health(results: Results) -> FigureGroup:
    """The norm of the adjoint against t, a line per method and seed, for the longest horizon of each problem."""
    palette = colours(results.methods)
    shown = results.adjoints[results.adjoints["norm"] > 0]  # a logarithmic axis has no zero
    longest = shown.groupby(VARIANT)["horizon"].max()
    longest.update(shown[shown["t"] < shown["horizon"]].groupby(VARIANT)["horizon"].max())  # lines before dots
    groups = shown[shown["horizon"] == shown.join(longest.rename("longest"), on=VARIANT)["longest"]].groupby(VARIANT)
    panels = [_panel(case_name(*case), rows, palette) for case, rows in groups]
    return FigureGroup(
        "adjoint",
        "Health of the adjoint",
        "How far a small change of the student's parameters before step t moves the objective. A line that climbs by "
        "orders of magnitude to the left is an explosion: the gradient is right, and of no use to a teacher. One that "
        "falls to nothing says that what theta did early does not count. A line per seed; a dot at T for a method "
        "that walks no adjoint back. " + without_adjoint(results.gradients, results.adjoints),
        tuple(LegendEntry(method, palette[method], "circle") for method in in_order(shown["method"])),
        tuple(panels),
    )


def _panel(problem: str, rows: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure = go.Figure()
    told = []
    for method in in_order(rows["method"]):
        own = rows[rows["method"] == method]
        for seed, line in own.groupby("seed"):
            ordered = line.sort_values("t")
            figure.add_trace(
                go.Scatter(
                    x=ordered["t"],
                    y=ordered["norm"],
                    mode="lines" if len(ordered) > 1 else "markers",
                    line={"color": palette[method], "width": 1.5},
                    marker={"color": palette[method], "size": 7, "symbol": "circle"},
                    opacity=0.8,
                    hovertemplate=f"<b>{escaped(method)}</b>, seed {seed}<br>t = %{{x}}: %{{y:.3g}}<extra></extra>",
                )
            )
        way = f" to {_at(own, 'min'):.3g} at its earliest step" if own["t"].nunique() > 1 else ""
        told.append(f"{method} {'from ' if way else ''}{_at(own, 'max'):.3g} at the end{way}")
    set_style(figure, height=340)
    figure.update_xaxes(title="step t", nticks=8)
    figure.update_yaxes(title="|w_bar_t|", **log_axis(log_range(rows["norm"])))
    title = f"{problem}, T = {rows['horizon'].iloc[0]}"
    return Panel(title, f"Norm of the adjoint on {title}, medians over seeds: {'; '.join(told)}.", figure)


def _at(rows: pd.DataFrame, end: str) -> float:
    """The median norm at the latest or earliest step that a method has."""
    return float(rows.loc[rows["t"] == rows["t"].agg(end), "norm"].median())
