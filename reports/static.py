"""A panel's plot as a static SVG, for readers without JavaScript: the same traces, drawn by matplotlib."""

import io
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal
from warnings import catch_warnings, filterwarnings

import plotly.graph_objects as go
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from l2t_bench.reports.panels import GRID, INK, MUTED
from l2t_bench.reports.static_traces import Given, draw_traces, plain

_WIDTH = 6.4  # inches
_PIXELS = 96  # an inch
_LETTER = 0.066  # inches, of a label's mean letter
_TITLE, _MARGIN, _NUMBER = 0.28, 0.16, 0.5  # inches: an axis's title, a margin, a tick's number beside the plot
_LONGEST_LABEL = 34  # letters that have room beside a plot
_STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "svg.fonttype": "none",  # words stay words
        "svg.hashsalt": "l2t_bench",  # the same figure gives the same file
        "text.parse_math": False,  # a dollar sign in a name is one
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": MUTED,
        "axes.edgecolor": GRID,
        "axes.labelcolor": MUTED,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
    }
)


def static_svg(figure: go.Figure) -> Markup:
    """An ``<svg>`` element to stand in a page: no script, no reference to anything, its inks those of the page."""
    style: Any = dict(_STYLE)  # rc_context wants every key by its name
    with rc_context(style), catch_warnings():
        filterwarnings("ignore", "Glyph .* missing from font")  # words stay words: the browser has its own fonts
        return Markup(_inline(_written(_drawn(figure))))


def _drawn(figure: go.Figure) -> Figure:
    traces = [trace.to_plotly_json() for trace in figure.data]
    layout = figure.layout.to_plotly_json()
    subplots = sorted({(trace.get("xaxis", "x"), trace.get("yaxis", "y")) for trace in traces}) or [("x", "y")]
    y_axes = [_axis(layout, y) for _, y in subplots]
    shared = all(axis.get("matches") == "y" for axis in y_axes[1:])
    drawn = Figure(figsize=(_WIDTH, layout.get("height", 340) / _PIXELS))
    placed = drawn.subplots(1, len(subplots), sharey=shared, squeeze=False)[0]
    for (x, y), axes in zip(subplots, placed, strict=True):
        draw_traces(axes, [trace for trace in traces if trace.get("xaxis", "x") == x])
        for shape in layout.get("shapes", ()):
            if shape["type"] == "line" and shape["y0"] == shape["y1"]:
                axes.axhline(shape["y0"], color=shape["line"]["color"], linewidth=shape["line"]["width"])
        _set_axis(axes, "x", _axis(layout, x))
        _set_axis(axes, "y", _axis(layout, y), titled=not shared or axes is placed[0])
    _set_margins(drawn, y_axes, [trace for trace in traces if trace["type"] == "heatmap"], shared=shared)
    return drawn


def _axis(layout: Given, name: str) -> Given:
    """``x2`` as the layout's ``xaxis2``."""
    found: Given = layout.get(f"{name[0]}axis{name[1:]}", {})
    return found


def _set_margins(drawn: Figure, y_axes: list[Given], heat_maps: list[Given], *, shared: bool) -> None:
    """Room for the labels beside the plot, by their letters: matplotlib's own layout draws everything twice."""
    named = [*y_axes[0].get("ticktext", ()), *(name for trace in heat_maps for name in trace["y"])]
    labels = min(_LONGEST_LABEL, max((len(plain(name)) for name in named), default=0)) * _LETTER
    beside = _MARGIN + max(labels, _NUMBER) + _TITLE * ("title" in y_axes[0])
    height, width = drawn.get_figheight(), drawn.get_figwidth()
    drawn.subplots_adjust(
        left=beside / width,
        right=1 - _MARGIN / width,
        top=1 - _MARGIN / height,
        bottom=(_MARGIN + 1.2 * _TITLE) / height,
        wspace=0.08 if shared else 0.3,
    )


def _set_axis(axes: Axes, along: str, given: Given, *, titled: bool = True) -> None:
    """Title, scale, range and ticks as plotly has them; ranges of logarithmic axes are in powers of ten there."""
    if given.get("type") == "log":
        getattr(axes, f"set_{along}scale")("log")
        getattr(axes, f"{along}axis").minorticks_off()
    if "range" in given:
        low, high = (10**end for end in given["range"]) if given.get("type") == "log" else given["range"]
        getattr(axes, f"set_{along}lim")(low, high)
    if "tickvals" in given:
        words = [_shortened(plain(word)) for word in given.get("ticktext", given["tickvals"])]
        getattr(axes, f"set_{along}ticks")(list(given["tickvals"]), words)
    if given.get("showticklabels") is False:
        axes.tick_params(axis=_which(along), length=0, labelbottom=False, labelleft=False)  # another's ticks stay
    if given.get("showgrid") is False:
        axes.grid(visible=False, axis=_which(along))
    if titled and given.get("title", {}).get("text"):
        getattr(axes, f"set_{along}label")(plain(given["title"]["text"]))


def _which(along: str) -> Literal["x", "y"]:
    return "x" if along == "x" else "y"


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"


def _written(drawn: Figure) -> str:
    file = io.StringIO()
    drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return file.getvalue()


def _inline(document: str) -> str:
    """The element alone and short: its words in the page's ink, its width the page's, coordinates to a hundredth."""
    element = document[document.index("<svg") :].strip()
    element = re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", element, count=5)
    element = element.replace("xlink:href", "href").replace("<svg", '<svg class="static" role="img"', 1)
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</defs>", "", element, flags=re.DOTALL)
    element = re.sub(r'<g id="[\w.]+_\d+"', "<g", element)  # several plots in a page would have the same
    element = re.sub(r" font-family: [^;]*;| transform=\"rotate\(-0 [^)]*\)\"", "", element)  # the page has a font
    element = re.sub(r"(\d\.\d\d)\d+", r"\1", element)
    element = re.sub(r"\s*\n\s*", " ", element).replace("> <", "><")
    element = re.sub(r"<g([^>]*)>((?:<use [^>]*/>)+)</g>", _styled_once, element)
    for ink in (INK, MUTED):
        element = element.replace(ink, "currentColor")
    return element


def _styled_once(group: re.Match[str]) -> str:
    """The points of a trace with their common style on the group: matplotlib writes it at each of them."""
    styles = set(re.findall(r' style="([^"]*)"', group[2]))
    if len(styles) != 1 or "style=" in group[1]:
        return group[0]
    (style,) = styles
    points = group[2].replace(f' style="{style}"', "")
    return f'<g{group[1]} style="{style}">{points}</g>'
