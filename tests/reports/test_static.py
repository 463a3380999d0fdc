"""Plots without JavaScript: the same traces as SVG, of no script and no reference to anything outside."""

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import plotly.graph_objects as go
import pytest

from l2t_bench.reports.derive import analyse
from l2t_bench.reports.figures import draw
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import render
from l2t_bench.reports.panels import escaped, set_style
from l2t_bench.reports.quality_figure import gradient_quality
from l2t_bench.reports.static import static_svg

HOSTILE = "</noscript><script>alert($1$)</script> & _x^2"


def svg_of(*traces: go.Scatter | go.Heatmap, **axes: object) -> str:
    figure = go.Figure(list(traces))
    set_style(figure, height=200)
    figure.update_layout(**axes)
    return static_svg(figure)


def words(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag == "text"]


def test_every_panel_of_a_page_has_its_plot_as_sound_svg(kept_run: Path) -> None:
    results = analyse(load_run(kept_run))
    panels = [panel for group in draw(results) for panel in group.panels]
    page = render(results)
    assert page.count('<svg class="static"') == len(panels) > 5
    for panel in panels:
        svg = static_svg(panel.figure)
        ElementTree.fromstring(svg)
        assert not re.search(r"https?:|//|<script|url\((?!#)", svg), "it asks nobody for anything"


def test_the_same_figure_gives_the_same_svg() -> None:
    trace = go.Scatter(x=[0, 1], y=[1, 2], mode="lines", line={"color": "#0072B2"})
    assert svg_of(trace) == svg_of(trace)


def test_lines_keep_their_colour_and_a_gap_where_there_is_no_value() -> None:
    whole, gap = (
        svg_of(go.Scatter(x=[0, 1, 2, 3, 4], y=y, mode="lines", line={"color": "#0072B2"}))
        for y in ([1, 2, 3, 2, 1], [1, 2, None, 2, 1])
    )
    (line,), (broken,) = (re.findall(r'<path d="([^"]*)"[^>]*#0072b2', svg) for svg in (whole, gap))
    assert line.count("M") == 1 and broken.count("M") == 2


def test_a_logarithmic_axis_has_its_ticks_and_titles() -> None:
    svg = svg_of(
        go.Scatter(x=[1, 100], y=[0, 1], mode="markers", marker={"color": "#0072B2"}),
        xaxis={"type": "log", "range": [0, 2], "tickvals": [1, 10, 100], "ticktext": ["1", "ten", "100"], "title": "T"},
    )
    assert {"1", "ten", "100", "T"} <= set(words(svg))


def test_a_heat_map_says_its_values_and_names() -> None:
    svg = svg_of(
        go.Heatmap(
            z=[[0.5, -0.5]], x=["dog", "car"], y=["start"], zmin=-1, zmax=1, text=[["0.50", "−0.50"]],
            colorscale=[[0.0, "#b2182b"], [0.5, "#f4f2ee"], [1.0, "#2166ac"]],
        )
    )  # fmt: skip
    assert {"dog", "car", "start", "0.50", "−0.50"} <= set(words(svg))


def test_hostile_words_are_words() -> None:
    svg = svg_of(
        go.Scatter(x=[0], y=[0], mode="markers", marker={"color": "#0072B2"}),
        yaxis={"tickvals": [0], "ticktext": [escaped(HOSTILE)]},
    )
    assert f"{HOSTILE[:33]}…" in words(svg), "as much of it as there is room for"
    assert "<script" not in svg and "</noscript" not in svg


@pytest.mark.parametrize("array", [{"array": [0.1]}, {"array": [0.1], "arrayminus": [0.2]}])
def test_intervals_are_drawn(array: dict[str, list[float]]) -> None:
    trace = go.Scatter(x=[0.5], y=[0], mode="markers", marker={"color": "#0072B2"})
    plain = svg_of(trace)
    trace.update(error_x={"type": "data", "symmetric": False, "color": "#123456", **array})
    with_interval = svg_of(trace)
    assert "#123456" in with_interval and "#123456" not in plain


def test_no_value_at_all_is_no_error() -> None:
    assert "<svg" in svg_of(go.Scatter(x=[0], y=[math.nan], mode="lines+markers", marker={"color": "#0072B2"}))


def test_axes_that_are_shared_keep_their_names(kept_run: Path) -> None:
    (panel, *_) = gradient_quality(analyse(load_run(kept_run))).panels
    shown = words(static_svg(panel.figure))
    assert {"rmd", "torchopt-implicit", "cosine", "norm ratio"} <= set(shown) and shown.count("rmd") == 1


def test_bars_are_stacked() -> None:
    svg = svg_of(
        *(go.Bar(x=[length], y=[0], orientation="h", width=0.5, marker={"color": colour}) for length, colour in BARS),
        xaxis={"range": [0, 3]},
    )
    ends = {
        colour: [float(x) for x, _ in re.findall(r"[ML] (\S+) (\S+)", path)]
        for path, colour in re.findall(r'<path d="([^"]*)"[^>]*style="fill: (#[0-9a-f]{6})', svg)
    }
    assert max(ends["#123456"]) == min(ends["#654321"]) and max(ends["#654321"]) > max(ends["#123456"])


BARS = ((1.0, "#123456"), (2.0, "#654321"))
