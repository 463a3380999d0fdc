"""The tidy tables that a report hands on as CSV files, by their names."""

import pandas as pd

from l2t_bench.reports.derive import Results


def csv_frames(results: Results) -> dict[str, pd.DataFrame]:
    """What was measured, one row per measurement, and what follows from it, one row per row of a table.

    Units are in the names of columns; what has none is a ratio, a cosine, a fraction or a count.
    """
    measured = {
        "gradients.csv": results.gradients,
        "students.csv": results.students,
        "curves.csv": results.curves,
    }
    others = {
        "translations.csv": results.translations,
        "selections.csv": results.selections,
        "effective-lr.csv": results.effective_lrs,
        "coefficients.csv": results.coefficients,
        "others.csv": results.others,
        "failures.csv": results.failures,
        "summary.csv": results.summary,
        "ranking-time.csv": results.time_ranking,
        "ranking-memory.csv": results.memory_ranking,
        "memory-limits.csv": results.leaders,
        "growth.csv": results.growth,
        "largest-horizon.csv": results.fitting,
        "teaching.csv": results.teaching,
        "translating.csv": results.translating,
        "teaching-over-teachers.csv": results.teaching_over_teachers,
        "translating-over-teachers.csv": results.translating_over_teachers,
        "equivalence.csv": results.equivalences,
        "over-problems.csv": results.aggregates,
        "paper.csv": results.papers,
        "teachers.csv": results.agreements,
        "break-even.csv": results.break_even,
    }
    return measured | {name: frame for name, frame in others.items() if len(frame)}
