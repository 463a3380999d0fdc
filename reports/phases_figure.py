"""The figure of an outer step's phases: where its seconds go, and how they spread over seeds."""

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import INK, FigureGroup, LegendEntry, Panel, escaped, set_style
from l2t_bench.reports.variants import case_name

_PHASES: Mapping[str, tuple[str, str]] = MappingProxyType(  # column: what it is, colour: told apart by the colour-blind
    {
        "seconds_forward": ("rollout", "#88CCEE"),
        "seconds_reverse": ("reverse", "#4477AA"),
        "seconds_dev": ("dev", "#DDAA33"),
    }
)


def phases(results: Results) -> FigureGroup:
    """A bar per method, for the longest horizon of each problem; a point per seed for the whole outer step."""
    shown = results.gradients.dropna(subset=["seconds", *_PHASES])
    longest = shown.groupby(VARIANT)["horizon"].transform("max")
    panels = [
        _panel(f"{case_name(*case)}, T = {group['horizon'].iloc[0]}", group)
        for case, group in shown[shown["horizon"] == longest].groupby(VARIANT)
    ]
    return FigureGroup(
        "phases",
        "Where the time goes",
        "Bars: median seconds of an outer step's phases over seeds, at the longest horizon. Points: the whole outer "
        "step of each seed.",
        (
            *(LegendEntry(name, colour, "square") for name, colour in _PHASES.values()),
            LegendEntry("a seed's outer step", "currentColor", "circle"),
        ),
        tuple(panels),
    )


def _panel(title: str, rows: pd.DataFrame) -> Panel:
    methods = in_order(rows["method"])
    by_method = rows.groupby("method")
    medians = by_method[list(_PHASES)].median().loc[methods]
    places = [-place for place in range(len(methods))]
    figure = go.Figure()
    for column, (name, colour) in _PHASES.items():
        figure.add_trace(
            go.Bar(
                x=medians[column],
                y=places,
                orientation="h",
                marker={"color": colour},
                width=0.6,
                customdata=[escaped(method) for method in methods],
                hovertemplate=f"<b>%{{customdata}}</b>, {name}<br>%{{x:.3g}} s<extra></extra>",
            )
        )
    seeds = rows.assign(place=rows["method"].map(dict(zip(methods, places, strict=True))))
    figure.add_trace(
        go.Scatter(
            x=seeds["seconds"],
            y=seeds["place"],
            mode="markers",
            marker={"color": INK, "size": 5, "symbol": "circle", "opacity": 0.7},
            customdata=seeds["seed"],
            hovertemplate="seed %{customdata}: %{x:.3g} s<extra></extra>",
        )
    )
    set_style(figure, height=90 + 34 * len(methods))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(title="seconds per outer step", nticks=6, rangemode="tozero")
    figure.update_yaxes(
        tickvals=places, ticktext=[escaped(method) for method in methods], range=[places[-1] - 0.6, 0.6], showgrid=False
    )
    told = "; ".join(f"{method} {_seconds_told(medians, method)}" for method in methods)
    return Panel(title, f"Phases of an outer step on {title}: {told}.", figure)


def _seconds_told(medians: pd.DataFrame, method: str) -> str:
    """``rollout 0.1 s, reverse 0.2 s, dev 0.01 s``."""
    seconds = {name: float(str(medians.at[method, column])) for column, (name, _) in _PHASES.items()}
    return ", ".join(f"{name} {value:.3g} s" for name, value in seconds.items())
