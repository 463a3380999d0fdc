"""What figures are made of: panels in groups with a legend, and the look and axes that panels share.

Ink and paper are stand-ins that the page replaces by its light or dark theme.
"""

import html
import math
from dataclasses import dataclass
from functools import cache

import pandas as pd
import plotly.graph_objects as go

INK, MUTED, GRID, PAPER = "#1c2126", "#5c6670", "#dfe2e4", "#fffefc"  # looked up and replaced by the page's theme
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
    by_exactness: bool = False  # whether its markers say how exact a method is


def escaped(text: object) -> str:
    """Text that plotly shows as it is: its labels know a little HTML."""
    return html.escape(str(text), quote=False)


def set_style(figure: go.Figure, *, height: int) -> None:
    """Give ``figure`` the look that all panels share, ``height`` in pixels; the page gives width and theme."""
    figure.update_layout(template=_look(), height=height)


@cache
def _look() -> go.layout.Template:
    """The shared look, validated by plotly once."""
    axis = {
        "automargin": True,
        "gridcolor": GRID,
        "zeroline": False,
        "showline": False,
        "fixedrange": True,
        "title": {"font": {"size": 12, "color": MUTED}, "standoff": 8},
        "tickfont": {"size": 11, "color": MUTED},
        "tickangle": 0,
    }
    return go.layout.Template(
        layout={
            "autosize": True,
            "showlegend": False,
            "margin": {"l": 8, "r": 14, "t": 24, "b": 8},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": _FONT, "size": 12, "color": MUTED},
            "hoverlabel": {"bgcolor": PAPER, "bordercolor": GRID, "font": {"color": INK, "family": _FONT, "size": 12}},
            "xaxis": axis,
            "yaxis": axis,
        }
    )


def log_range(values: pd.Series) -> list[float]:
    """Where a logarithmic axis begins and ends that shows ``values``, all above zero, in powers of ten."""
    low, high = math.log10(values.min()), math.log10(values.max())
    margin = max(0.1, 0.08 * (high - low))
    return [low - margin, high + margin]


def log_axis(between: list[float]) -> dict[str, object]:
    """A logarithmic axis: powers of ten where it spans more than two and a half, else three ticks of 1, 2, 5 or finer.

    ``between`` is its range in powers of ten, as plotly has it.
    """
    low, high = between
    inside: list[float] = []
    for leading in _LEADING[:1] if high - low > 2.5 else _LEADING[1:]:
        ticks = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in leading]
        inside = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(inside) >= 3:
            break
    return {"type": "log", "range": between, "tickvals": inside, "ticktext": [f"{tick:g}" for tick in inside]}


_LEADING = (  # digits, the coarse ones first; the last ones are as evenly spread as round numbers can be
    (1.0,),
    (1.0, 2.0, 5.0),
    tuple(range(1, 10)),
    (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2, 2.5, 2.8, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0),
)
