"""The figures of benchmarks: how the time of an outer step grows with T."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.benchmark_derive import BenchmarkResults
from l2t_bench.reports.benchmark_record import OUTER_STEP
from l2t_bench.reports.marks import colours
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.panels import FigureGroup, LegendEntry, Panel, escaped, log_axis, log_range, set_style
from l2t_bench.reports.variants import case_name


def draw_benchmarks(results: BenchmarkResults) -> list[FigureGroup]:
    """All figures that the records have data for."""
    group = time_per_step(results)
    return [group] if group.panels else []


def time_per_step(results: BenchmarkResults) -> FigureGroup:
    """Milliseconds of an outer step per student step against T, a line per method, one panel per record and problem.

    Where there is one T only, its table says all that there is.
    """
    shown = results.timings[(results.timings["phase"] == OUTER_STEP) & (results.timings["min_seconds"] > 0)]
    several = len(results.benchmarks.records) > 1
    palette = colours(results.methods)
    panels = [
        _panel(case_name(problem, record if several else ""), rows, palette)
        for (record, problem), rows in shown.groupby(["record", "problem"], sort=False)
        if rows["horizon"].nunique() > 1
    ]
    return FigureGroup(
        "benchmark-time",
        "Time of an outer step per student step",
        "Medians over rounds with their interquartile range, divided by T; both axes are logarithmic. A flat line is "
        "time in proportion to T.",
        tuple(LegendEntry(method, palette[method], "circle") for method in in_order(shown["method"])),
        tuple(panels),
    )


def _panel(title: str, rows: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure = go.Figure()
    per_step = rows.assign(**{name: 1e3 * rows[f"{name}_seconds"] / rows["horizon"] for name in ("median", "q1", "q3")})
    told = []
    for method in in_order(rows["method"]):
        own = per_step[per_step["method"] == method].sort_values("horizon")
        figure.add_trace(
            go.Scatter(
                x=own["horizon"],
                y=own["median"],
                mode="lines+markers",
                line={"color": palette[method], "width": 1.5},
                marker={"color": palette[method], "size": 9},
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": own["q3"] - own["median"],
                    "arrayminus": own["median"] - own["q1"],
                    "color": palette[method],
                    "thickness": 1,
                    "width": 3,
                },
                hovertemplate=f"<b>{escaped(method)}</b><br>T = %{{x}}: %{{y:.3g}} ms<extra></extra>",
            )
        )
        last = own.iloc[-1]
        told.append(f"{method} {last['median']:.3g} ms at T = {last['horizon']}")
    set_style(figure, height=340)
    horizons = sorted(rows["horizon"].unique())
    figure.update_xaxes(
        title="T", type="log", range=log_range(rows["horizon"]), tickvals=horizons, ticktext=[str(t) for t in horizons]
    )
    figure.update_yaxes(title="ms per student step", **log_axis(log_range(pd.concat([per_step["q1"], per_step["q3"]]))))
    return Panel(title, f"Time of an outer step per student step on {title}: {'; '.join(told)}.", figure)
