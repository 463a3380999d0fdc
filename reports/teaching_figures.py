"""The figures of teaching: what students reach under each loss, and how the teacher was optimised."""

from collections.abc import Iterator, Mapping

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.marks import colours
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.panels import INK, FigureGroup, LegendEntry, Panel, escaped, set_style
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import judged_by, loss_name

# -- students


def student_accuracy(results: Results) -> FigureGroup:
    """Every fresh student's test accuracy under each loss, with the mean and its interval."""
    panels = [
        _accuracy_panel(case_name(*case), group, results)
        for case, group in results.teaching.groupby(VARIANT, sort=True)
    ]
    return FigureGroup(
        "accuracy",
        "What the losses teach",
        "Losses are named by the gradient that their teacher learned with. Small markers are fresh students that no "
        "choice has seen; large ones are means with 95 % intervals.",
        (),
        tuple(panels),
    )


def _accuracy_panel(problem: str, teaching: pd.DataFrame, results: Results) -> Panel:
    palette = colours(results.methods)
    several = teaching["seed"].nunique() > 1
    figure = go.Figure()
    labels, told = [], []
    for place, row in enumerate(rows_of(teaching)):
        own = results.students[results.students["cell_id"] == row["cell_id"]]
        mean, colour = estimate_in(row, "test_accuracy"), palette[row["method"]]
        labels.append(escaped(loss_name(row, several)))
        told.append(f"{loss_name(row, several)} {mean.value:.3f}")
        spread = [-place + 0.26 * ((index % 5) / 2 - 1) for index in range(len(own))]
        figure.add_trace(
            go.Scatter(
                x=own["test_accuracy"],
                y=spread,
                mode="markers",
                customdata=own["student_seed"],
                marker={"color": colour, "size": 6, "opacity": 0.5},
                hovertemplate="student %{customdata}: %{x:.4f}<extra></extra>",
            )
        )
        error = {
            "type": "data",
            "symmetric": False,
            "array": [mean.high - mean.value],
            "arrayminus": [mean.value - mean.low],
            "color": INK,
            "thickness": 2,
            "width": 5,
        }
        figure.add_trace(
            go.Scatter(
                x=[mean.value],
                y=[-place],
                mode="markers",
                marker={"color": colour, "size": 12, "symbol": "diamond", "line": {"width": 1.5, "color": INK}},
                error_x=error if mean.n > 1 else None,
                hovertemplate=f"<b>{labels[-1]}</b><br>mean %{{x:.4f}} of {mean.n} students<extra></extra>",
            )
        )
    set_style(figure, height=100 + 46 * len(labels))
    figure.update_yaxes(tickvals=[-place for place in range(len(labels))], ticktext=labels, showgrid=False)
    figure.update_xaxes(title="test accuracy", nticks=5)
    return Panel(problem, f"Test accuracy on {problem}. {'; '.join(told)}.", figure)


# -- the teacher's optimisation


def dev_curves(results: Results) -> FigureGroup:
    """The dev objective along the teacher's optimisation, and the held-out students that choose among its teachers."""
    palette = colours(results.methods)
    judged = {case_name(*case): group for case, group in results.selections.groupby(VARIANT)}
    panels = []
    for case, group in results.curves.groupby(VARIANT):
        panels.append(_curve_panel(case_name(*case), group, palette))
        if case_name(*case) in judged:
            panels.append(_selection_panel(case_name(*case), judged[case_name(*case)], palette))
    return FigureGroup(
        "curves",
        "The teacher's optimisation",
        "The dev objective that the teacher climbs, a mean over each outer step's students; and what held-out students "
        "reach on dev, mean and standard deviation, by which a teacher is kept: the ringed one.",
        tuple(LegendEntry(method, palette[method], "circle") for method in in_order(results.curves["method"])),
        tuple(panels),
    )


def _curve_panel(problem: str, curves: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure = go.Figure()
    told = []
    for method, seed, line in _lines(curves):
        told.append(f"{method} from {line['value'].iloc[0]:.3f} to {line['value'].iloc[-1]:.3f}")
        figure.add_trace(
            go.Scatter(
                x=line["outer_step"],
                y=line["value"],
                mode="lines+markers",
                line={"color": palette[method], "width": 2},
                marker={"size": 5},
                customdata=line[["gradient_norm"]],
                hovertemplate=f"<b>{escaped(method)}</b>, seed {seed}, outer step %{{x}}<br>objective %{{y:.4f}}, "
                "gradient norm %{customdata[0]:.3g}<extra></extra>",
            )
        )
    set_style(figure, height=340)
    figure.update_xaxes(title="outer step", nticks=8)
    figure.update_yaxes(title="dev objective", nticks=6)
    return Panel(f"{problem}, dev objective", f"{problem}, dev objective: {'; '.join(told)}.", figure)


def _selection_panel(problem: str, selections: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure = go.Figure()
    told = []
    measure = judged_by(selections["measure"].iloc[0])
    for method, seed, line in _lines(selections):
        kept = line[line["selected"]]
        told += [f"{method} {value:.3f} at outer step {step}" for step, value in zip(*_points(kept), strict=True)]
        figure.add_trace(
            go.Scatter(
                x=line["outer_step"],
                y=line["mean"],
                mode="lines+markers",
                line={"color": palette[method], "width": 1.5},
                marker={"size": 7},
                error_y={"array": line["std"], "thickness": 1, "width": 3},
                hovertemplate=f"<b>{escaped(method)}</b>, seed {seed}, outer step %{{x}}<br>held-out students "
                "%{y:.4f} ± %{error_y.array:.4f}<extra></extra>",
            )
        )
        figure.add_trace(_ring(*_points(kept), palette[method]))
    set_style(figure, height=340)
    figure.update_xaxes(title="outer step", nticks=8)
    figure.update_yaxes(title=measure, nticks=6)
    title = f"{problem}, held-out students"
    return Panel(title, f"{title}, {measure} of the teachers kept: {'; '.join(told)}.", figure)


def _lines(frame: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Method, seed and rows in the order of outer steps, method by method."""
    for method in in_order(frame["method"]):
        for seed, own in frame[frame["method"] == method].groupby("seed"):
            yield method, int(str(seed)), own.sort_values("outer_step")


def _points(rows: pd.DataFrame) -> tuple[list[int], list[float]]:
    return rows["outer_step"].tolist(), rows["mean"].tolist()


def _ring(x: list[int], y: list[float], colour: str) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 16, "color": colour, "line": {"width": 2.5, "color": colour}}
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip")
