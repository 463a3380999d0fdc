"""The whole of Phi_t along a student's training: the paper's Figure 4, for every pair of classes and many steps."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from l2t_bench.reports.coefficients_figure import RED_TO_BLUE
from l2t_bench.reports.derive import Results
from l2t_bench.reports.load import results_of
from l2t_bench.reports.panels import FigureGroup, Panel, escaped, set_style
from l2t_bench.reports.rows import Row
from l2t_bench.reports.variants import case_name

_NAMED = 20  # classes: more have no room for their names beside the map


def whole_matrix(results: Results) -> FigureGroup:
    """A heat map for each cell that kept Phi_t, with a frame per step: the page has a slider over them."""
    cells = [cell for cell in results_of(results.run, "phi") if cell["cell_id"] in results.run.matrices]
    several = len({cell["seed"] for cell in cells}) > 1
    return FigureGroup(
        "whole-matrix",
        "The whole of Φ over t",
        "Rows: the class of the example; columns: the class whose log-probability is weighed. Blue entries ask for it "
        "to grow, red ones for it to fall. The slider goes along the student’s training; all its steps have one scale.",
        (),
        tuple(_panel(cell, results, several) for cell in cells),
    )


def _panel(cell: Row, results: Results, several: bool) -> Panel:
    steps, matrices = zip(*sorted(results.run.matrices[cell["cell_id"]].items()), strict=True)
    names = [escaped(name) for name in cell["measurements"]["names"]]
    bound = max(float(np.abs(matrix).max()) for matrix in matrices) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=matrices[-1],
            x=names,
            y=names,
            zmin=-bound,
            zmax=bound,
            colorscale=RED_TO_BLUE,
            colorbar={"thickness": 10, "len": 0.9},
            hovertemplate="%{y}, weight of %{x}: %{z:.4f}<extra></extra>",
        ),
        frames=[
            go.Frame(name=f"step {step}", data=[go.Heatmap(z=matrix)])
            for step, matrix in zip(steps, matrices, strict=True)
        ],
    )
    set_style(figure, height=440)
    shown = len(names) <= _NAMED
    figure.update_xaxes(title="weighed class", type="category", showticklabels=shown, showgrid=False)
    figure.update_yaxes(
        title="class of the example", type="category", showticklabels=shown, showgrid=False, autorange="reversed"
    )
    whose = f"{cell['method']}, seed {cell['seed']}" if several else cell["method"]
    title = f"{case_name(cell['problem'], cell['variant'])}, learned by {whose}"
    return Panel(title, f"Phi_t on {title}: {_told(steps, matrices)}.", figure)


def _told(steps: Sequence[int], matrices: Sequence[np.ndarray]) -> str:
    return "; ".join(
        f"at step {steps[place]} from {matrices[place].min():.3g} to {matrices[place].max():.3g}"
        for place in dict.fromkeys((0, len(steps) - 1))
    )
