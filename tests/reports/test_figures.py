"""The plots hold the data, and mark methods alike everywhere."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from l2t_bench.reports import (
    adjoint_figure,
    cost_figure,
    marks,
    panels,
    phases_figure,
    quality_figure,
    teaching_figures,
)
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.figures import draw
from l2t_bench.reports.load import load_run


@pytest.fixture
def results(kept_run: Path) -> Results:
    return analyse(load_run(kept_run))


def test_a_backend_keeps_its_colour_whatever_else_is_in_the_run() -> None:
    alone, among = marks.colours(["higher"]), marks.colours(["rmd", "mine", "higher", "cross-entropy"])
    assert alone["higher"] == among["higher"]


def test_colours_differ_between_methods_and_options() -> None:
    methods = [
        *marks.BACKEND_COLOURS,
        "truncated[window=10]",
        "truncated[window=100]",
        *(f"mine{i}" for i in range(9)),
    ]
    assert len(set(marks.colours(methods).values())) == len(methods)


def test_every_exactness_class_has_a_marker_that_the_legend_can_draw() -> None:
    drawn = [*marks.SYMBOLS.values(), marks.symbol("something new")]
    assert len(set(drawn)) == len(drawn)
    assert {*drawn, marks.FAILED_SYMBOL} == set(marks.MARKER_PATHS)


def test_time_against_memory_has_a_point_per_seed_and_one_for_the_median(results: Results) -> None:
    group = cost_figure.time_against_memory(results)
    assert [panel.title for panel in group.panels][-1] == "digits/mlp, T = 100"
    _, seeds, median = group.panels[-1].figure.data[:3]
    own = results.gradients.query("problem == 'digits/mlp' and horizon == 100 and method == 'rmd'")
    assert list(seeds.y) == own["seconds"].tolist() and list(seeds.x) == own["peak_above_start_mib"].tolist()
    assert (median.x[0], median.y[0]) == (own["peak_above_start_mib"].median(), own["seconds"].median())
    assert seeds.marker.color == median.marker.color == marks.BACKEND_COLOURS["rmd"]


def test_memory_below_the_axis_is_drawn_at_its_edge_and_told_as_it_is(results: Results) -> None:
    results.gradients.loc[results.gradients["method"] == "rmd", "peak_above_start_mib"] = 0.0
    seeds = cost_figure.time_against_memory(results).panels[0].figure.data[1]
    assert set(seeds.x) == {0.1}
    assert {row[0] for row in seeds.customdata} == {0.0}


def test_the_stationary_family_stands_apart(results: Results) -> None:
    panel = quality_figure.gradient_quality(results).panels[0].figure
    labels, places = panel.layout.yaxis.ticktext, panel.layout.yaxis.tickvals
    assert labels[-1] == "torchopt-implicit"
    assert places[-2] - places[-1] == 1.5 and places[0] - places[1] == 1
    assert panel.layout.shapes[0].y0 == (places[-2] + places[-1]) / 2


def test_the_accuracy_plot_has_every_student_and_the_interval_of_the_mean(results: Results) -> None:
    (panel,) = teaching_figures.student_accuracy(results).panels
    students, mean = panel.figure.data[:2]
    row = results.teaching.iloc[0]
    assert len(students.x) == 12 and mean.x[0] == row["test_accuracy"]
    assert mean.x[0] + mean.error_x.array[0] == pytest.approx(row["test_accuracy_high"])
    assert mean.x[0] - mean.error_x.arrayminus[0] == pytest.approx(row["test_accuracy_low"])


def test_the_curves_are_those_of_the_learned_losses(results: Results) -> None:
    group = teaching_figures.dev_curves(results)
    assert [entry.label for entry in group.legend] == ["rmd", "higher", "truncated[window=100]"]
    climb, judged = group.panels
    assert len(climb.figure.data) == 3 and len(climb.figure.data[0].x) == 20
    line, ring = judged.figure.data[:2]
    assert list(line.x) == [0, 10, 20] and list(ring.x) == [20] and list(ring.y) == [0.96]


def test_every_panel_is_described_in_words(results: Results) -> None:
    for group in draw(results):
        for panel in group.panels:
            assert panel.title in panel.alt and any(character.isdigit() for character in panel.alt)


def test_the_adjoints_are_drawn_over_the_longest_horizon_a_line_per_seed(results: Results) -> None:
    group = adjoint_figure.adjoint_health(results)
    assert [panel.title for panel in group.panels] == ["digits/lenet, T = 100", "digits/mlp, T = 100"]
    traces = group.panels[1].figure.data
    lines = [trace for trace in traces if trace.mode == "lines"]
    assert len(lines) == results.adjoints.query("problem == 'digits/mlp' and t == 0 and horizon == 100").shape[0]
    assert list(lines[0].x) == [0, 50, 100] and list(lines[0].y) == pytest.approx([2.0, 2**0.5, 1.0])
    assert {entry.label for entry in group.legend} >= {"rmd", "higher"}


def test_a_method_that_walks_no_adjoint_back_has_a_dot_at_its_end_and_says_so_in_words(results: Results) -> None:
    group = adjoint_figure.adjoint_health(results)
    panel = group.panels[1]
    dots = [trace for trace in panel.figure.data if trace.mode == "markers"]
    assert dots and all((list(dot.x), list(dot.y)) == ([100], [1.0]) for dot in dots)
    assert "torchopt-implicit 1 at the end." in panel.alt
    assert group.caption.endswith("torchopt-implicit: not walked back."), group.caption


def test_a_dot_at_a_longer_horizon_takes_no_line_away(results: Results) -> None:
    dot = results.adjoints.query("method == 'torchopt-implicit' and t == horizon").iloc[:1].assign(horizon=900, t=900)
    more = replace(results, adjoints=pd.concat([results.adjoints, dot]))
    drawn = adjoint_figure.adjoint_health(more)
    assert [panel.title for panel in drawn.panels] == ["digits/lenet, T = 100", "digits/mlp, T = 100"]
    alone = replace(results, adjoints=dot)
    (panel,) = adjoint_figure.adjoint_health(alone).panels
    assert panel.title.endswith("T = 900") and [trace.mode for trace in panel.figure.data] == ["markers"]


def test_the_front_goes_through_the_methods_that_none_beats_in_both(results: Results) -> None:
    front = cost_figure.time_against_memory(results).panels[-1].figure.data[0]
    own = results.gradients.query("problem == 'digits/mlp' and horizon == 100 and exactness != 'stationary'")
    medians = own.groupby("method")[["peak_above_start_mib", "seconds"]].median()
    inner = list(zip(front.x, front.y, strict=True))[1:-1]
    assert inner == [tuple(medians.loc["truncated[window=10]"])], "truncated is smaller and faster than every exact one"
    assert front.line.shape == "hv"


def test_a_method_without_a_result_stands_at_the_border(results: Results) -> None:
    panel = cost_figure.time_against_memory(results).panels[-1]
    crosses = [trace for trace in panel.figure.data if trace.marker.symbol == marks.FAILED_SYMBOL]
    assert len(crosses) == 4 and all(cross.x[0] == 10 ** panel.figure.layout.xaxis.range[1] for cross in crosses)
    assert "(timeout)" in panel.alt and "(refused)" in panel.alt


def test_phases_are_stacked_and_every_seed_has_its_point(results: Results) -> None:
    panel = phases_figure.phases(results).panels[0]
    bars = [trace for trace in panel.figure.data if trace.type == "bar"]
    (points,) = [trace for trace in panel.figure.data if trace.type == "scatter"]
    assert len(bars) == 3 and len(points.x) == 5 * 6
    assert "rmd rollout" in panel.alt and panel.title == "digits/lenet, T = 100"


@pytest.mark.parametrize(
    ("between", "ticks"),
    [
        ([-4.2, 1.1], ["0.0001", "0.001", "0.01", "0.1", "1", "10"]),
        ([-1.1, 1.1], ["0.1", "0.2", "0.5", "1", "2", "5", "10"]),
        ([0.1, 0.75], ["2", "3", "4", "5"]),
        ([-2.0, -1.73], ["0.01", "0.012", "0.014", "0.016", "0.018"]),
    ],
)
def test_a_logarithmic_axis_has_three_ticks_at_least_however_little_it_spans(
    between: list[float], ticks: list[str]
) -> None:
    assert panels.log_axis(between)["ticktext"] == ticks
