"""A panel's plot as a static SVG, for readers without JavaScript: the same traces, drawn by matplotlib."""

import html
import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from l2t_bench.reports.panels import GRID, INK, MUTED, PAPER

_WIDTH = 6.4  # inches
_PIXELS = 96  # an inch
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
        "grid.color": GRID,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
    }
)
_MARKERS: Mapping[str, str] = MappingProxyType(
    {
        "circle": "o",
        "circle-open": "o",
        "hexagon": "H",
        "triangle-up": "^",
        "x": "X",
        "diamond": "D",
        "square": "s",
        "star": "*",
    }
)
_DASHES: Mapping[str, str] = MappingProxyType({"dash": "--", "dot": ":"})


def static_svg(figure: go.Figure) -> Markup:
    """An ``<svg>`` element to stand in a page: no script, no reference to anything, its inks those of the page."""
    style: Any = dict(_STYLE)  # rc_context wants every key by its name
    with rc_context(style):
        height = (figure.layout.height or 340) / _PIXELS
        drawn = Figure(figsize=(_WIDTH, height), layout="constrained")
        columns = sorted({trace.xaxis or "x" for trace in figure.data}) or ["x"]
        placed = drawn.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        for name, axes in zip(columns, placed, strict=True):
            for trace in figure.data:
                if (trace.xaxis or "x") == name:
                    _draw(axes, trace)
            _set_axis(axes, "x", figure.layout[f"xaxis{name[1:]}"])
            _set_axis(axes, "y", figure.layout.yaxis, titled=axes is placed[0])
        return Markup(_inline(_written(drawn)))


def _draw(axes: Axes, trace: Any) -> None:
    if isinstance(trace, go.Heatmap):
        _draw_heatmap(axes, trace)
        return
    x, y = _values(trace.x), _values(trace.y)
    opacity = 1.0 if trace.opacity is None else trace.opacity
    if "lines" in trace.mode:
        dash = _DASHES.get(trace.line.dash or "", "-")
        axes.plot(x, y, color=trace.line.color, linewidth=trace.line.width or 1, linestyle=dash, alpha=opacity)
    if "markers" in trace.mode:
        _draw_markers(axes, trace, x, y, opacity)
    for along in ("x", "y"):
        _draw_error(axes, trace, along, x, y)


def _draw_markers(axes: Axes, trace: Any, x: Sequence[float], y: Sequence[float], opacity: float) -> None:
    marker = trace.marker
    hollow = marker.symbol == "circle-open"
    axes.scatter(
        x,
        y,
        s=(marker.size or 6) ** 2 * 0.5,
        marker=_MARKERS.get(marker.symbol or "circle", "*"),
        facecolors="none" if hollow else marker.color,
        edgecolors=marker.color if hollow else PAPER,
        linewidths=(marker.line.width or 0) * 0.75,
        alpha=opacity if marker.opacity is None else marker.opacity,
        clip_on=trace.cliponaxis is not False,
        zorder=3,
    )


def _draw_error(axes: Axes, trace: Any, along: str, x: Sequence[float], y: Sequence[float]) -> None:
    error = trace[f"error_{along}"]
    if error.array is None:
        return
    above = _values(error.array)
    below = above if error.arrayminus is None else _values(error.arrayminus)
    given: dict[str, Any] = {f"{along}err": [below, above]}
    axes.errorbar(x, y, **given, fmt="none", ecolor=error.color or trace.line.color or INK, elinewidth=1, capsize=3)


def _draw_heatmap(axes: Axes, trace: Any) -> None:
    colours = LinearSegmentedColormap.from_list("l2t", [tuple(stop) for stop in trace.colorscale])
    rows = [list(line) for line in trace.z]
    axes.imshow(rows, cmap=colours, vmin=trace.zmin, vmax=trace.zmax, aspect="auto")
    axes.set_xticks(range(len(trace.x)), [_plain(name) for name in trace.x])
    axes.set_yticks(range(len(trace.y)), [_plain(name) for name in trace.y])
    for at, line in enumerate(trace.text or ()):
        for place, word in enumerate(line):
            axes.text(place, at, word, ha="center", va="center", color="#1c2126")


def _set_axis(axes: Axes, along: str, given: Any, *, titled: bool = True) -> None:
    """Title, scale, range and ticks as plotly has them; ranges of logarithmic axes are in powers of ten there."""
    if given.type == "log":
        getattr(axes, f"set_{along}scale")("log")
        getattr(axes, f"{along}axis").minorticks_off()
    if given.range is not None:
        low, high = (10**end for end in given.range) if given.type == "log" else given.range
        getattr(axes, f"set_{along}lim")(low, high)
    if given.tickvals is not None:
        words = [_plain(word) for word in given.ticktext or given.tickvals]
        getattr(axes, f"set_{along}ticks")(list(given.tickvals), words)
    if given.showgrid is False:
        axes.grid(visible=False, axis="x" if along == "x" else "y")
    if given.title.text and titled:
        getattr(axes, f"set_{along}label")(_plain(given.title.text))


def _values(array: Any) -> list[float]:
    """Numbers; ``None`` is a gap."""
    return [float("nan") if value is None else float(value) for value in array]


def _plain(text: object) -> str:
    """Panels escape their words for plotly, which knows a little HTML."""
    return html.unescape(str(text))


def _written(drawn: Figure) -> str:
    file = io.StringIO()
    drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return file.getvalue()


def _inline(document: str) -> str:
    """The element alone, its words in the page's ink, its width the page's."""
    element = document[document.index("<svg") :].strip()
    element = re.sub(r'\s(xmlns(:\w+)?|version|width|height)="[^"]*"', "", element, count=5)
    element = element.replace("xlink:href", "href").replace("<svg", '<svg class="static" role="img"', 1)
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    for ink in (INK, MUTED):
        element = element.replace(ink, "currentColor")
    return element
