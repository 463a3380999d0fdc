"""The whole derivation: a run as loaded becomes all that a report says of it."""

from dataclasses import dataclass

import pandas as pd

from l2t_bench.reports import load, load_teaching
from l2t_bench.reports.agreement import curve_agreements, exactness_by_method
from l2t_bench.reports.break_even import break_even
from l2t_bench.reports.failed import failed_methods
from l2t_bench.reports.gradient_derive import aggregates, gradient_quality, gradient_summary, outer_steps, ranking
from l2t_bench.reports.growth import fitting_horizons, growth, memories_with
from l2t_bench.reports.limits import leaders_by_limit
from l2t_bench.reports.load import Run
from l2t_bench.reports.load_translation import translations
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.paper_derive import beside_the_paper, scores
from l2t_bench.reports.provenance import host_gigabytes
from l2t_bench.reports.teaching_derive import equivalences, over_teachers, teaching_summary


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report says of a run: its tables as loaded, and what was derived from them."""

    run: Run
    gradients: pd.DataFrame  # with their quality
    summary: pd.DataFrame
    time_ranking: pd.DataFrame
    memory_ranking: pd.DataFrame
    leaders: pd.DataFrame  # the fastest exact method within a memory limit
    growth: pd.DataFrame  # of time and memory in T
    fitting: pd.DataFrame  # the largest T that fits
    adjoints: pd.DataFrame  # |w_bar_t| against t
    students: pd.DataFrame
    translations: pd.DataFrame  # of students that are judged by BLEU
    curves: pd.DataFrame
    selections: pd.DataFrame
    effective_lrs: pd.DataFrame
    coefficients: pd.DataFrame  # of Phi_t
    teaching: pd.DataFrame  # by accuracy
    translating: pd.DataFrame  # by BLEU
    teaching_over_teachers: pd.DataFrame  # by accuracy, where there are several seeds
    translating_over_teachers: pd.DataFrame
    aggregates: pd.DataFrame  # ratios over problems
    break_even: pd.DataFrame  # of compilation
    equivalences: pd.DataFrame  # of the learned losses
    agreements: pd.DataFrame  # of the curves of learned losses
    papers: pd.DataFrame  # what was measured beside the paper's numbers
    others: pd.DataFrame  # figures of cells of a plug-in's own kind
    failed: pd.DataFrame  # methods without any gradient, where they were to have one
    failures: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """Every planned method and control, in the order of tables and colours."""
        return in_order(self.run.cells["method"])


def analyse(run: Run) -> Results:
    """The whole derivation, run -> results."""
    quality = gradient_quality(load.gradients(run), run.d_theta)
    summary, students = gradient_summary(quality), load_teaching.students(run)
    laws = growth(summary)
    curves, teachings, translated = load_teaching.curves(run), load_teaching.teachings(run), translations(run)
    return Results(
        run=run,
        gradients=quality,
        summary=summary,
        time_ranking=ranking(quality, "seconds"),
        memory_ranking=ranking(quality, "peak_above_start_mib"),
        leaders=leaders_by_limit(quality),
        growth=laws,
        fitting=fitting_horizons(laws, memories_with(host_gigabytes(run))),
        adjoints=load.adjoints(run),
        students=students,
        translations=translated,
        curves=curves,
        selections=load_teaching.selections(run),
        effective_lrs=load_teaching.effective_lrs(run),
        coefficients=load_teaching.coefficients(run),
        teaching=teaching_summary(students, teachings),
        translating=teaching_summary(translated, teachings, "test_bleu"),
        teaching_over_teachers=over_teachers(students, teachings),
        translating_over_teachers=over_teachers(translated, teachings, "test_bleu"),
        aggregates=aggregates(summary),
        break_even=break_even(outer_steps(quality)),
        equivalences=equivalences(students),
        agreements=curve_agreements(curves, exactness_by_method(run)),
        papers=beside_the_paper(run, scores(students, translated), teachings),
        others=load.other_figures(run),
        failed=failed_methods(run.cells, quality),
        failures=load.failures(run),
    )


def of_case(frame: pd.DataFrame, problem: object, variant: object) -> pd.DataFrame:
    """The rows of one problem and variant."""
    return frame[(frame["problem"] == problem) & (frame["variant"] == variant)]
