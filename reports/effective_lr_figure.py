"""At which lr cross entropy would take steps as long as a loss does, along a student's training."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results
from l2t_bench.reports.marks import colours
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import FigureGroup, LegendEntry, Panel, escaped, log_axis, log_range, set_style
from l2t_bench.reports.variants import case_name


def effective_lr(results: Results) -> FigureGroup:
    """A line for each loss; one panel for each problem and variant."""
    palette = colours(results.methods)
    panels = [_panel(case_name(*case), group, palette) for case, group in results.effective_lrs.groupby(VARIANT)]
    methods = in_order(results.effective_lrs["method"])
    return FigureGroup(
        "effective-lr",
        "Shape of a loss, or only its size?",
        "The lr times the norm of the loss's gradient over that of cross entropy's, on the same batch at the same "
        "student: the lr at which cross entropy would take a step as long. A loss whose line is that of cross entropy "
        "at its own best lr teaches by its shape; one whose students do no better than cross entropy at such a line, "
        "by its size. The first fresh student of each loss.",
        tuple(LegendEntry(method, palette[method], "circle") for method in methods),
        tuple(panels),
    )


def _panel(title: str, group: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure, told = go.Figure(), []
    for method in in_order(group["method"]):
        own = group[group["method"] == method]
        for seed, line in own.groupby("seed"):
            ordered = line.sort_values("step")
            figure.add_trace(
                go.Scatter(
                    x=ordered["step"],
                    y=ordered["effective"].where(ordered["effective"] > 0),  # zero has no place on a log axis
                    mode="lines",
                    line={"color": palette[method], "width": 2},
                    hovertemplate=f"<b>{escaped(method)}</b>, seed {seed}, step %{{x}}: %{{y:.3g}}<extra></extra>",
                )
            )
            told.append(f"{method} from {ordered['effective'].iloc[0]:.3g} to {ordered['effective'].iloc[-1]:.3g}")
    set_style(figure, height=340)
    figure.update_xaxes(title="step of the student", nticks=8)
    figure.update_yaxes(title="effective lr", **log_axis(log_range(group["effective"][group["effective"] > 0])))
    return Panel(title, f"{title}, effective lr: {'; '.join(told)}.", figure)
