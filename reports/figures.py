"""The plots: one panel per problem and horizon, so that a page can lay them out for any width.

Every method has one colour everywhere; the marker's shape says how exact it is. Ink and paper are stand-ins that the
page replaces by its light or dark theme.
"""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go
from l2t_bench.reports.derive import CROSS_ENTROPY, UNTRAINED, Results, base_name, estimate_in, in_order
from l2t_bench.reports.text import loss_name
from plotly.subplots import make_subplots

INK, MUTED, GRID, PAPER = "#1c2126", "#5c6670", "#dfe2e4", "#fffefc"  # looked up and replaced by the page's theme
BACKEND_COLOURS = {  # Okabe and Ito's, told apart by colour-blind readers too
    "rmd": "#0072B2",
    "higher": "#E69F00",
    "torchopt": "#009E73",
    "functorch": "#D55E00",
    "truncated": "#CC79A7",
    "torchopt-implicit": "#56B4E9",
    UNTRAINED: "#9AA5AF",
    CROSS_ENTROPY: "#66727D",
}
OTHER_COLOURS = ("#B8A800", "#7A4FB5", "#8C5A2B", "#3F8C8C")
SYMBOLS = {
    "exact": "circle",
    "truncated": "triangle-up",
    "stationary": "x",
    "finite-difference": "diamond",
    "stochastic": "square",
}
OTHER_SYMBOL = "star"
MARKER_PATHS = {  # for the legend, in a square from -1 to 1
    "circle": "M1,0A1,1 0 1,1 -1,0A1,1 0 1,1 1,0Z",
    "triangle-up": "M0,-1L1.05,0.85L-1.05,0.85Z",
    "x": "M0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0L-1,-0.6L-0.6,-1Z",
    "diamond": "M0,-1.1L1,0L0,1.1L-1,0Z",
    "square": "M-0.85,-0.85H0.85V0.85H-0.85Z",
    "star": "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31L-0.29,-0.4Z",
}
_LEAST_MIB, _LEAST_NORM_RATIO = 0.1, 1e-4  # what a logarithmic axis shows for less
_FONT = "ui-sans-serif, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Panel:
    """One plot with its heading, and a description for those who cannot see it."""

    title: str
    alt: str
    figure: go.Figure


@dataclass(frozen=True)
class LegendEntry:
    """A name with its colour and marker."""

    label: str
    colour: str
    symbol: str


@dataclass(frozen=True)
class FigureGroup:
    """The panels of one question, with the legend they share."""

    anchor: str
    title: str
    caption: str
    legend: tuple[LegendEntry, ...]
    panels: tuple[Panel, ...]


def draw(results: Results) -> list[FigureGroup]:
    """All figures that the run has data for."""
    groups = (time_against_memory(results), gradient_quality(results), student_accuracy(results), dev_curves(results))
    return [group for group in groups if group.panels]


def colours(methods: Sequence[str]) -> dict[str, str]:
    """One colour per backend; its further options are darker shades of it, and backends that we do not know follow."""
    ordered = in_order(methods)
    unknown = [base for base in dict.fromkeys(map(base_name, ordered)) if base not in BACKEND_COLOURS]
    of_base = BACKEND_COLOURS | {base: _other_colour(index) for index, base in enumerate(unknown)}
    same_base = {method: [other for other in ordered if base_name(other) == base_name(method)] for method in ordered}
    return {method: _darker(of_base[base_name(method)], 0.65 ** same_base[method].index(method)) for method in ordered}


def _other_colour(index: int) -> str:
    return _darker(OTHER_COLOURS[index % len(OTHER_COLOURS)], 0.7 ** (index // len(OTHER_COLOURS)))


def _darker(colour: str, factor: float) -> str:
    return "#" + "".join(f"{round(int(colour[i : i + 2], 16) * factor):02X}" for i in (1, 3, 5))


def symbol(exactness: str) -> str:
    """The marker of an exactness class."""
    return SYMBOLS.get(exactness, OTHER_SYMBOL)


def _legend(rows: pd.DataFrame, results: Results) -> tuple[LegendEntry, ...]:
    palette = colours(results.methods)
    exactness = dict(zip(rows["method"], rows["exactness"], strict=True))
    return tuple(LegendEntry(method, palette[method], symbol(exactness[method])) for method in in_order(exactness))


def _panel_title(problem: object, horizon: object) -> str:
    return f"{problem}, T = {horizon}"


def _medians(rows: pd.DataFrame, column: str) -> dict[str, float]:
    return {method: float(rows.loc[rows["method"] == method, column].median()) for method in in_order(rows["method"])}


def _text(text: object) -> str:
    """Text that plotly shows as it is: its labels know a little HTML."""
    return html.escape(str(text), quote=False)


# -- time against memory


def time_against_memory(results: Results) -> FigureGroup:
    """Seconds per outer step against peak memory, log-log: a small point per seed, a large one for the median."""
    shown = results.gradients.dropna(subset=["seconds", "peak_above_start_mib"])
    shown = shown[shown["seconds"] > 0]
    panels = [
        _cost_panel(_panel_title(problem, horizon), group, colours(results.methods), _ranges(shown, problem))
        for (problem, horizon), group in shown.groupby(["problem", "horizon"])
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
    return _log_range(rows["peak_above_start_mib"].clip(lower=_LEAST_MIB)), _log_range(rows["seconds"])


def _log_range(values: pd.Series) -> list[float]:
    low, high = math.log10(values.min()), math.log10(values.max())
    margin = max(0.1, 0.08 * (high - low))
    return [low - margin, high + margin]


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
    _style(figure, height=340)
    x, y = ranges
    figure.update_xaxes(title="peak above start, MiB", **_log_axis(x))
    figure.update_yaxes(title="seconds per outer step", **_log_axis(y))
    seconds, peaks = _medians(rows, "seconds"), _medians(rows, "peak_above_start_mib")
    told = "; ".join(f"{method} {seconds[method]:.3g} s, {peaks[method]:.3g} MiB" for method in seconds)
    return Panel(title, f"Time against memory on {title}. {told}.", figure)


def _log_axis(between: list[float]) -> dict[str, object]:
    """A logarithmic axis with ticks at 1, 2, 5, 10, ...; powers of ten only where it spans more than two and a half."""
    low, high = between
    leading = (1, 2, 5) if high - low <= 2.5 else (1,)
    ticks = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in leading]
    inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
    return {"type": "log", "range": between, "tickvals": inside, "ticktext": [f"{tick:g}" for tick in inside]}


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
        hovertemplate=f"<b>{_text(method)}</b>, {what}<br>%{{y:.3g}} s, %{{customdata[0]:.3g}} MiB<extra></extra>",
        cliponaxis=False,
    )


# -- gradient quality


def gradient_quality(results: Results) -> FigureGroup:
    """Cosine and norm ratio to the exact gradient, per method; the stationary family below a line of its own."""
    shown = results.gradients.dropna(subset=["cosine", "norm_ratio"])
    palette = colours(results.methods)
    panels = [
        _quality_panel(_panel_title(problem, horizon), group, palette, _quality_axes(shown))
        for (problem, horizon), group in shown.groupby(["problem", "horizon"])
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
        "norm_ratio": _log_axis(_log_range(norms)),
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
    _style(figure, height=110 + round(32 * (1 - min(places.values()))))
    for column, axis in enumerate(axes.values(), start=1):
        figure.update_xaxes(**axis, row=1, col=column)
    ranked = [place for place in places.values() if place == round(place)]
    if 0 < len(ranked) < len(places):
        figure.add_hline(y=min(ranked) - 0.75, line={"width": 1, "color": MUTED}, layer="below")
    figure.update_yaxes(
        tickvals=list(places.values()),
        ticktext=[_text(method) for method in places],
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
        hovertemplate=f"<b>{_text(method)}</b>, {which}<br>{name} %{{customdata[1]:.4g}}<extra></extra>",
        cliponaxis=False,
    )


# -- teaching


def student_accuracy(results: Results) -> FigureGroup:
    """Every fresh student's test accuracy under each loss, with the mean and its interval."""
    panels = [
        _accuracy_panel(str(problem), group, results)
        for problem, group in results.teaching.groupby("problem", sort=True)
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
    for place, record in enumerate(teaching.to_dict("records")):
        row = {str(key): value for key, value in record.items()}
        own = results.students[results.students["cell_id"] == row["cell_id"]]
        mean, colour = estimate_in(row, "test_accuracy"), palette[row["method"]]
        labels.append(_text(loss_name(row, several)))
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
    _style(figure, height=100 + 46 * len(labels))
    figure.update_yaxes(tickvals=[-place for place in range(len(labels))], ticktext=labels, showgrid=False)
    figure.update_xaxes(title="test accuracy", nticks=5)
    return Panel(problem, f"Test accuracy on {problem}. {'; '.join(told)}.", figure)


def dev_curves(results: Results) -> FigureGroup:
    """The dev objective along the teacher's optimisation, and the held-out students that choose among its teachers."""
    palette = colours(results.methods)
    judged = {str(problem): group for problem, group in results.selections.groupby("problem")}
    panels = []
    for problem, group in results.curves.groupby("problem"):
        panels.append(_curve_panel(str(problem), group, palette))
        if str(problem) in judged:
            panels.append(_selection_panel(str(problem), judged[str(problem)], palette))
    return FigureGroup(
        "curves",
        "The teacher's optimisation",
        "The dev objective that the teacher climbs, a mean over each outer step's students; and the dev accuracy of "
        "held-out students, mean and standard deviation, by which a teacher is kept: the ringed one.",
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
                hovertemplate=f"<b>{_text(method)}</b>, seed {seed}, outer step %{{x}}<br>objective %{{y:.4f}}, "
                "gradient norm %{customdata[0]:.3g}<extra></extra>",
            )
        )
    _style(figure, height=340)
    figure.update_xaxes(title="outer step", nticks=8)
    figure.update_yaxes(title="dev objective", nticks=6)
    return Panel(f"{problem}, dev objective", f"{problem}, dev objective: {'; '.join(told)}.", figure)


def _selection_panel(problem: str, selections: pd.DataFrame, palette: Mapping[str, str]) -> Panel:
    figure = go.Figure()
    told = []
    for method, seed, line in _lines(selections):
        kept = line[line["selected"]]
        told += [f"{method} {value:.3f} at outer step {step}" for step, value in zip(*_points(kept), strict=True)]
        figure.add_trace(
            go.Scatter(
                x=line["outer_step"],
                y=line["dev_accuracy_mean"],
                mode="lines+markers",
                line={"color": palette[method], "width": 1.5},
                marker={"size": 7},
                error_y={"array": line["dev_accuracy_std"], "thickness": 1, "width": 3},
                hovertemplate=f"<b>{_text(method)}</b>, seed {seed}, outer step %{{x}}<br>held-out students "
                "%{y:.4f} ± %{error_y.array:.4f}<extra></extra>",
            )
        )
        figure.add_trace(_ring(*_points(kept), palette[method]))
    _style(figure, height=340)
    figure.update_xaxes(title="outer step", nticks=8)
    figure.update_yaxes(title="dev accuracy", nticks=6)
    title = f"{problem}, held-out students"
    return Panel(title, f"{title}, dev accuracy of the teachers kept: {'; '.join(told)}.", figure)


def _lines(frame: pd.DataFrame) -> Iterator[tuple[str, int, pd.DataFrame]]:
    """Method, seed and rows in the order of outer steps, method by method."""
    for method in in_order(frame["method"]):
        for seed, own in frame[frame["method"] == method].groupby("seed"):
            yield method, int(str(seed)), own.sort_values("outer_step")


def _points(rows: pd.DataFrame) -> tuple[list[int], list[float]]:
    return rows["outer_step"].tolist(), rows["dev_accuracy_mean"].tolist()


def _ring(x: list[int], y: list[float], colour: str) -> go.Scatter:
    marker = {"symbol": "circle-open", "size": 16, "color": colour, "line": {"width": 2.5, "color": colour}}
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, hoverinfo="skip")


def _style(figure: go.Figure, *, height: int) -> None:
    """The look that all panels share; the page gives width and theme."""
    figure.update_layout(
        template="none",
        height=height,
        autosize=True,
        showlegend=False,
        margin={"l": 8, "r": 14, "t": 24, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 12, "color": MUTED},
        hoverlabel={"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK, "family": _FONT, "size": 12}},
    )
    axes = {
        "automargin": True,
        "gridcolor": GRID,
        "zeroline": False,
        "showline": False,
        "fixedrange": True,
        "title_font": {"size": 12, "color": MUTED},
        "title_standoff": 8,
        "tickfont": {"size": 11, "color": MUTED},
        "tickangle": 0,
    }
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)
    figure.update_annotations(font={"size": 12, "color": MUTED})
