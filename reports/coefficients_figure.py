"""The paper's Figure 4: entries of Phi_t for a class and those that are like it or not, along a student's training."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import number
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.panels import FigureGroup, Panel, escaped, set_style
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

RED_TO_BLUE = [[0.0, "#b2182b"], [0.5, "#f4f2ee"], [1.0, "#2166ac"]]  # red and blue: told apart by the colour-blind too
_NOTE = (
    "Entries of Phi_t in the row of one class, under the teacher that was learned. Positive: p of both classes is "
    "asked to grow together; negative: they are driven apart."
)


def coefficients(results: Results) -> FigureGroup:
    """A heat map for each class that was looked at: parts of the training along rows, other classes along columns."""
    panels = [_panel(*each) for each in _pairs(results.coefficients)]
    return FigureGroup("coefficients", "What the learned loss asks of two classes", _NOTE, (), tuple(panels))


def coefficient_tables(results: Results) -> list[Table]:
    """The same numbers as tables."""
    return [_table(*each) for each in _pairs(results.coefficients)]


def _pairs(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    keys = [*VARIANT, "method", "seed", "anchor"]
    several = frame["seed"].nunique() > 1
    for (problem, variant, method, seed, anchor), group in frame.groupby(keys, sort=False):
        whose = f"{method}, seed {seed}" if several else method
        yield f"{case_name(problem, variant)}, learned by {whose}: {anchor}", group


def _grid(group: pd.DataFrame) -> tuple[list[str], list[str], list[list[float]]]:
    """Names of rows and columns, and the values."""
    parts = list(dict.fromkeys(group["part"]))
    others = list(dict.fromkeys(zip(group["other"], group["alike"], strict=True)))
    values: Mapping[Any, float] = group.set_index(["part", "other"])["value"].to_dict()
    rows = [f"{part:.0%} of the run" for part in parts]
    columns = [f"{other} ({'alike' if alike else 'not alike'})" for other, alike in others]
    return rows, columns, [[values[part, other] for other, _ in others] for part in parts]


def _panel(title: str, group: pd.DataFrame) -> Panel:
    rows, columns, values = _grid(group)
    bound = max(abs(value) for line in values for value in line) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=[escaped(column) for column in columns],
            y=rows,
            zmin=-bound,
            zmax=bound,
            colorscale=RED_TO_BLUE,
            text=[[number(value, 2) for value in line] for line in values],
            texttemplate="%{text}",
            hovertemplate="%{y}, %{x}: %{z:.4f}<extra></extra>",
            showscale=False,
        )
    )
    set_style(figure, height=90 + 56 * len(rows))
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False)
    told = "; ".join(
        f"{row}: " + ", ".join(f"{column} {number(value, 2)}" for column, value in zip(columns, line, strict=True))
        for row, line in zip(rows, values, strict=True)
    )
    return Panel(title, f"{title}. {told}.", figure)


def _table(title: str, group: pd.DataFrame) -> Table:
    rows, columns, values = _grid(group)
    lines = tuple((row, *(number(value) for value in line)) for row, line in zip(rows, values, strict=True))
    rule = group["rule"].iloc[0]
    return Table(f"Phi_t of {title}", ("when", *columns), lines, f"{_NOTE} Classes: {rule}.")
