"""The traces of a plot drawn by matplotlib: points and lines, bars, heat maps. Traces are plain dictionaries here.

Reading the same keys from plotly's own objects takes longer than drawing them.
"""

import html
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from l2t_bench.reports.panels import INK, PAPER

Given = Mapping[str, Any]
_POINTS_PER_PIXEL = 0.72
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
        "x-thin": "x",
    }
)
_BY_LINES = ("circle-open", "x-thin")  # markers that are nothing but their outline
_DASHES: Mapping[str, str] = MappingProxyType({"dash": "--", "dot": ":"})


def draw_traces(axes: Axes, traces: Sequence[Given]) -> None:
    """Draw them in their order; bars are stacked."""
    ends: dict[float, float] = {}  # of the bars so far, by their place
    for trace in traces:
        if trace["type"] == "heatmap":
            _draw_heatmap(axes, trace)
        elif trace["type"] == "bar":
            _draw_bars(axes, trace, ends)
        else:
            _draw_points(axes, trace)


def plain(text: object) -> str:
    """Panels escape their words for plotly, which knows a little HTML; XML has no control characters."""
    return "".join(each if each.isprintable() else "\ufffd" for each in html.unescape(str(text)))


def _draw_points(axes: Axes, trace: Given) -> None:
    x, y = _values(trace["x"]), _values(trace["y"])
    line, marker, opacity = trace.get("line", {}), trace.get("marker", {}), trace.get("opacity", 1.0)
    if "lines" in trace["mode"]:
        axes.plot(
            x,
            y,
            color=line.get("color"),
            linewidth=line.get("width", 1),
            linestyle=_DASHES.get(line.get("dash", ""), "-"),
            drawstyle="steps-post" if line.get("shape") == "hv" else "default",
            alpha=opacity,
        )
    if "markers" in trace["mode"]:
        _draw_markers(axes, trace, x, y, marker.get("opacity", opacity))
    for along in ("x", "y"):
        if "array" in trace.get(f"error_{along}", {}):
            _draw_error(axes, trace[f"error_{along}"], along, x, y, line.get("color", INK))


def _draw_markers(axes: Axes, trace: Given, x: Sequence[float], y: Sequence[float], opacity: float) -> None:
    marker = trace["marker"]
    colour, symbol = marker.get("color", trace.get("line", {}).get("color", INK)), marker.get("symbol", "circle")
    axes.plot(
        x,
        y,
        linestyle="none",
        marker=_MARKERS.get(symbol, "*"),
        markersize=marker.get("size", 6) * _POINTS_PER_PIXEL,
        markerfacecolor="none" if symbol in _BY_LINES else colour,
        markeredgecolor=colour if symbol in _BY_LINES else PAPER,
        markeredgewidth=marker.get("line", {}).get("width", 0) * _POINTS_PER_PIXEL,
        alpha=opacity,
        clip_on=trace.get("cliponaxis", True),
        zorder=3,
    )


def _draw_error(axes: Axes, error: Given, along: str, x: Sequence[float], y: Sequence[float], line_colour: str) -> None:
    above = _values(error["array"])
    below = _values(error["arrayminus"]) if "arrayminus" in error else above
    centres, at = (x, y) if along == "x" else (y, x)
    ends = zip(centres, below, above, strict=True)
    lows, highs = zip(*((centre - less, centre + more) for centre, less, more in ends), strict=True)
    bars = axes.hlines if along == "x" else axes.vlines
    bars(at, lows, highs, color=error.get("color", line_colour), linewidth=1)


def _draw_bars(axes: Axes, trace: Given, ends: dict[float, float]) -> None:
    places, lengths = _values(trace["y"]), _values(trace["x"])
    begins = [ends.get(place, 0.0) for place in places]
    axes.barh(places, lengths, left=begins, height=trace["width"], color=trace["marker"]["color"])
    ends.update((place, begin + length) for place, begin, length in zip(places, begins, lengths, strict=True))


def _draw_heatmap(axes: Axes, trace: Given) -> None:
    colours = LinearSegmentedColormap.from_list("l2t", [tuple(stop) for stop in trace["colorscale"]])
    rows = [list(line) for line in trace["z"]]
    axes.grid(visible=False)
    axes.imshow(rows, cmap=colours, vmin=trace["zmin"], vmax=trace["zmax"], aspect="auto")
    axes.set_xticks(range(len(trace["x"])), [plain(name) for name in trace["x"]])
    axes.set_yticks(range(len(trace["y"])), [plain(name) for name in trace["y"]])
    for at, line in enumerate(trace.get("text", ())):
        for place, word in enumerate(line):
            axes.text(place, at, word, ha="center", va="center", color="#1c2126")


def _values(array: Any) -> list[float]:
    """Numbers; ``None`` is a gap."""
    return [float("nan") if value is None else float(value) for value in array]
