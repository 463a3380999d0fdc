"""The figure of what teacher gradients cost: time against memory, with the front that no other method beats."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.gradient_panels import at_the_border, failures_told, legend_of, medians, panel_title
from l2t_bench.reports.marks import colours, symbol
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import MUTED, PAPER, FigureGroup, Panel, escaped, log_axis, log_range, set_style
from l2t_bench.reports.rows import rows_of

_LEAST_MIB = 0.1  # what a logarithmic axis shows for less
_Ranges = tuple[list[float], list[float]]


def time_against_memory(results: Results) -> FigureGroup:
    """Seconds per outer step against peak memory, log-log: a small point per seed, a large one for the median."""
    shown = results.gradients.dropna(subset=["seconds", "peak_above_start_mib"])
    shown = shown[shown["seconds"] > 0]
    panels = []
    for (problem, variant, horizon), group in shown.groupby([*VARIANT, "horizon"]):
        failed = of_case(results.failed[results.failed["horizon"] == horizon], problem, variant)
        title = panel_title(problem, variant, horizon)
        panels.append(_panel(title, group, failed, colours(results.methods), _ranges(shown, problem)))
    return FigureGroup(
        "time-memory",
        "Time against memory",
        "One outer step: down and to the left is better. Small markers are seeds, large ones medians; both axes are "
        "logarithmic and the same for one problem's panels. The dotted steps are the Pareto front: of what computes "
        "the gradient of the run, nothing measured is below and to the left of it. Thin crosses at the right border: "
        "methods without a result.",
        legend_of(shown, results, results.failed),
        tuple(panels),
        by_exactness=True,
    )


def _ranges(shown: pd.DataFrame, problem: object) -> _Ranges:
    rows = shown[shown["problem"] == problem]
    return log_range(rows["peak_above_start_mib"].clip(lower=_LEAST_MIB)), log_range(rows["seconds"])


def _panel(title: str, rows: pd.DataFrame, failed: pd.DataFrame, palette: Mapping[str, str], ranges: _Ranges) -> Panel:
    figure = go.Figure()
    x, y = ranges
    drawn = rows.assign(drawn=rows["peak_above_start_mib"].clip(lower=_LEAST_MIB))
    figure.add_trace(_front(drawn, x, y))
    for method in in_order(rows["method"]):
        seeds = drawn[drawn["method"] == method]
        mark = symbol(seeds["exactness"].iloc[0])
        figure.add_trace(
            _points(method, seeds, palette[method], mark, size=6, opacity=0.55, what="seed %{customdata[1]}")
        )
        median = seeds[["drawn", "peak_above_start_mib", "seconds"]].median().to_frame().T.assign(seed="")
        figure.add_trace(_points(method, median, palette[method], mark, size=13, opacity=1, what="median"))
    heights = np.logspace(y[1], y[0], len(failed) + 2)[1:-1]
    for row, height in zip(rows_of(failed), heights, strict=True):
        method = row["method"]
        figure.add_trace(at_the_border(method, row["status"], palette[method], [10 ** x[1]], [float(height)]))
    set_style(figure, height=340)
    figure.update_xaxes(title="peak above start, MiB", **log_axis(x))
    figure.update_yaxes(title="seconds per outer step", **log_axis(y))
    seconds, peaks = medians(rows, "seconds"), medians(rows, "peak_above_start_mib")
    told = "; ".join(f"{method} {seconds[method]:.3g} s, {peaks[method]:.3g} MiB" for method in seconds)
    return Panel(title, f"Time against memory on {title}. {told}{failures_told(failed)}.", figure)


def _front(drawn: pd.DataFrame, x: list[float], y: list[float]) -> go.Scatter:
    """The steps below and to the left of which no median is; stationary methods compute something else."""
    ranked = drawn[drawn["exactness"] != "stationary"]
    places = sorted(ranked.groupby("method")[["drawn", "seconds"]].median().itertuples(index=False, name=None))
    front: list[tuple[float, float]] = []
    for peak, seconds in places:
        if not front or seconds < front[-1][1]:
            front.append((peak, seconds))
    if front:
        front = [(front[0][0], 10 ** y[1]), *front, (10 ** x[1], front[-1][1])]
    return go.Scatter(
        x=[peak for peak, _ in front],
        y=[seconds for _, seconds in front],
        mode="lines",
        line={"color": MUTED, "width": 1.2, "dash": "dot", "shape": "hv"},
        hoverinfo="skip",
    )


def _points(
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
