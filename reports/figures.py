"""The plots of a run: one panel per problem and horizon, so that a page can lay them out for any width."""

from l2t_bench.reports.adjoint_figure import adjoint_health
from l2t_bench.reports.coefficients_figure import coefficients
from l2t_bench.reports.derive import Results
from l2t_bench.reports.effective_lr_figure import effective_lr
from l2t_bench.reports.gradient_figures import gradient_quality, time_against_memory
from l2t_bench.reports.panels import FigureGroup
from l2t_bench.reports.teaching_figures import dev_curves, student_accuracy


def draw(results: Results) -> list[FigureGroup]:
    """All figures that the run has data for, in the order of the page."""
    groups = (
        time_against_memory(results),
        gradient_quality(results),
        adjoint_health(results),
        student_accuracy(results),
        dev_curves(results),
        effective_lr(results),
        coefficients(results),
    )
    return [group for group in groups if group.panels]
