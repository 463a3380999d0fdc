"""What the figures of teacher gradients share: legends, titles, medians, and the border where failures are shown."""

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.reports.derive import Results
from l2t_bench.reports.marks import FAILED_SYMBOL, colours, symbol
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.panels import LegendEntry, escaped
from l2t_bench.reports.variants import case_name


def legend_of(rows: pd.DataFrame, results: Results, failed: pd.DataFrame | None = None) -> tuple[LegendEntry, ...]:
    """An entry for each method of ``rows``, and after them for those of ``failed``."""
    palette = colours(results.methods)
    exactness = dict(zip(rows["method"], rows["exactness"], strict=True))
    entries = [LegendEntry(method, palette[method], symbol(exactness[method])) for method in in_order(exactness)]
    others = [] if failed is None else in_order(set(failed["method"]) - set(exactness))
    return (*entries, *(LegendEntry(f"{method}: no result", palette[method], FAILED_SYMBOL) for method in others))


def at_the_border(method: str, status: str, colour: str, x: list[float], y: list[float]) -> go.Scatter:
    """A method without a result, at the place of a panel's border where it would have been or beyond."""
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"color": colour, "symbol": FAILED_SYMBOL, "size": 11, "line": {"width": 2.5, "color": colour}},
        hovertemplate=f"<b>{escaped(method)}</b>: {escaped(status)}<extra></extra>",
        cliponaxis=False,
    )


def failures_told(failed: pd.DataFrame) -> str:
    """``; without a result: higher (oom_host)``; nothing where there are none."""
    told = dict(zip(failed["method"], failed["status"], strict=True))
    listed = ", ".join(f"{method} ({status})" for method, status in told.items())
    return f"; without a result: {listed}" if listed else ""


def panel_title(problem: object, variant: object, horizon: object) -> str:
    """``digits/mlp, T = 100``."""
    return f"{case_name(problem, variant)}, T = {horizon}"


def medians(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """Each method's median of ``column``, in the order of tables."""
    return {method: float(rows.loc[rows["method"] == method, column].median()) for method in in_order(rows["method"])}
