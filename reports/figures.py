"""The plots of a run: one panel per problem and horizon, so that a page can lay them out for any width."""

from l2t_bench.reports.adjoint_figure import adjoint_health
from l2t_bench.reports.coefficients_figure import coefficients
from l2t_bench.reports.cost_figure import time_against_memory
from l2t_bench.reports.derive import Results
from l2t_bench.reports.effective_lr_figure import effective_lr
from l2t_bench.reports.growth_figure import memory_growth, time_growth
from l2t_bench.reports.matrix_figure import whole_matrix
from l2t_bench.reports.panels import FigureGroup
from l2t_bench.reports.phases_figure import phases
from l2t_bench.reports.quality_curves import quality_by_horizon, quality_by_window
from l2t_bench.reports.quality_figure import gradient_quality
from l2t_bench.reports.sections import sections
from l2t_bench.reports.teaching_figures import dev_curves, student_accuracy

__all__ = [
    "adjoint_health",
    "coefficients",
    "dev_curves",
    "draw",
    "effective_lr",
    "gradient_quality",
    "memory_growth",
    "phases",
    "quality_by_horizon",
    "quality_by_window",
    "student_accuracy",
    "time_against_memory",
    "time_growth",
    "whole_matrix",
]


def draw(results: Results) -> list[FigureGroup]:
    """All figures that the run has data for, in the order of the page."""
    return [part for section in sections(results) for part in section.parts if isinstance(part, FigureGroup)]
