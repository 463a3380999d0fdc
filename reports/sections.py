"""The page's sections in reading order: each with the tables and plots that answer its question."""

from collections.abc import Iterable
from dataclasses import dataclass

from l2t_bench.reports.adjoint_figure import adjoint_health
from l2t_bench.reports.agreement_tables import agreement_tables
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.cell_tables import other_tables
from l2t_bench.reports.coefficients_figure import coefficient_tables, coefficients
from l2t_bench.reports.cost_figure import time_against_memory
from l2t_bench.reports.derive import Results
from l2t_bench.reports.effective_lr_figure import effective_lr
from l2t_bench.reports.engine_tables import engine_tables
from l2t_bench.reports.gradient_tables import gradient_tables
from l2t_bench.reports.growth_figure import memory_growth, time_growth
from l2t_bench.reports.growth_tables import fitting_tables, growth_tables
from l2t_bench.reports.hyper_gradients import hyper_gradient_tables
from l2t_bench.reports.matrix_figure import whole_matrix
from l2t_bench.reports.matrix_tables import matrix_tables
from l2t_bench.reports.panels import FigureGroup
from l2t_bench.reports.paper_tables import paper_tables
from l2t_bench.reports.phases_figure import phases
from l2t_bench.reports.quality_curves import quality_by_horizon, quality_by_window
from l2t_bench.reports.quality_figure import gradient_quality
from l2t_bench.reports.seed_tables import seed_tables
from l2t_bench.reports.selection_tables import selection_tables
from l2t_bench.reports.stationary_tables import stationary_tables
from l2t_bench.reports.statistics_tables import aggregate_tables, equivalence_tables
from l2t_bench.reports.table import Table
from l2t_bench.reports.teaching_figures import dev_curves, student_accuracy
from l2t_bench.reports.teaching_tables import teaching_tables
from l2t_bench.reports.training_tables import training_tables
from l2t_bench.reports.translation_tables import translation_tables
from l2t_bench.reports.warning_tables import gradient_warning_tables, teaching_warning_tables

Part = Table | FigureGroup


@dataclass(frozen=True)
class Section:
    """A part of the page with its anchor, its name in the navigation, and its tables and plots in reading order."""

    anchor: str
    name: str
    title: str
    parts: tuple[Part, ...]
    lead: str = ""


def sections(results: Results) -> list[Section]:
    """Those that the run has anything for."""
    found = (
        Section("matrix", "At a glance", "Every method on every problem", tuple(matrix_tables(results))),
        Section(
            "gradients",
            "Gradients",
            "Teacher gradients: time against memory",
            _parts([time_against_memory(results)], gradient_tables(results, detail=True)),
        ),
        Section("gradient-quality", "Quality", "Gradient quality", _quality(results)),
        Section("speed", "Speed", "Speed: phases, growth with T, compilation", _speed(results)),
        Section("memory", "Memory", "Memory: growth with T, and what fits", _memory(results)),
        Section("teaching", "Accuracy", "What the losses teach, and the paper’s tables", _teaching(results)),
        Section("climb", "Curves and Φ", "The teacher’s climb, and the loss that it hands out", _figures(results)),
        Section(
            "statistics", "Statistics", "Over problems, and within a margin", _statistics(results), _STATISTICS_LEAD
        ),
        Section("others", "Other cells", "Other cells", tuple(other_tables(results))),
    )
    return [section for section in found if section.parts]


_STATISTICS_LEAD = (
    "The unit is a seed, or a student where one teacher taught: rounds repeat it and are averaged first. Intervals are "
    "95 % percentile bootstrap intervals of 10,000 resamples with a fixed generator; ratios are paired by problem, "
    "seed and round, and averaged as logarithms."
)


def _parts(figures: Iterable[FigureGroup], tables: Iterable[Table]) -> tuple[Part, ...]:
    return (*(group for group in figures if group.panels), *tables)


def _quality(results: Results) -> tuple[Part, ...]:
    figures = [
        gradient_quality(results),
        quality_by_horizon(results),
        quality_by_window(results),
        adjoint_health(results),
    ]
    return _parts(
        figures, [*stationary_tables(results), *gradient_warning_tables(results), *hyper_gradient_tables(results)]
    )


def _speed(results: Results) -> tuple[Part, ...]:
    tables = [*growth_tables(results), *break_even_tables(results.break_even, units="seeds"), *engine_tables(results)]
    return _parts([phases(results), time_growth(results)], tables)


def _memory(results: Results) -> tuple[Part, ...]:
    return _parts([memory_growth(results)], fitting_tables(results))


def _teaching(results: Results) -> tuple[Part, ...]:
    return (
        *paper_tables(results, detail=True),
        *training_tables(results),
        *seed_tables(results, detail=True),
        *_parts([student_accuracy(results)], teaching_tables(results, detail=True)),
        *translation_tables(results, detail=True),
        *_parts([effective_lr(results)], teaching_warning_tables(results)),
    )


def _figures(results: Results) -> tuple[Part, ...]:
    return (
        *_parts([dev_curves(results)], [*selection_tables(results), *agreement_tables(results)]),
        *_parts([coefficients(results), whole_matrix(results)], coefficient_tables(results)),
    )


def _statistics(results: Results) -> tuple[Part, ...]:
    return (*aggregate_tables(results), *equivalence_tables(results))
