"""What the data decide of the losses that were learned: better than others or not, and alike or not."""

import math

import pandas as pd

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.finding import Finding
from l2t_bench.reports.formats import equivalent, points
from l2t_bench.reports.methods import CROSS_ENTROPY, VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import EQUIVALENT, Estimate
from l2t_bench.reports.teaching_measures import ACCURACY, BLEU, Measure
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import loss_label


def teaching_findings(results: Results) -> list[Finding]:
    """The verdict on each problem's teaching."""
    found = []
    for teaching, pooled, measure in _judged(results):
        for (problem, variant), rows in teaching.groupby(VARIANT):
            over_all = of_case(pooled, problem, variant)
            by_seed = over_all.empty and rows["seed"].nunique() > 1
            for row in rows_of(rows if over_all.empty else over_all):
                if row["loss"] == "learned":
                    label = loss_label(row, by_seed)
                    learned = f"{label[:1].upper()}{label[1:]}"
                    found += [_gain(row, learned, measure), *_over_best(row, learned, measure)]
                    found += _by_shape(row, learned)
            found += [_alike(row) for row in rows_of(of_case(results.equivalences, problem, variant))]
    return found


def _judged(results: Results) -> list[tuple[pd.DataFrame, pd.DataFrame, Measure]]:
    """Each cell's students, and those of several seeds: where there are several the verdict is over all of them."""
    return [
        (results.teaching, results.teaching_over_teachers, ACCURACY),
        (results.translating, results.translating_over_teachers, BLEU),
    ]


def _gain(row: Row, learned: str, measure: Measure) -> Finding:
    """Whether a learned loss teaches better than cross entropy."""
    gain, untrained = estimate_in(row, "over_cross_entropy"), estimate_in(row, "over_untrained")
    students = f"{row['students']} students" + (f" of {row['teachers']} seeds" if "teachers" in row else "")
    reached = f"{measure.name} {measure.mean(estimate_in(row, measure.column))} over {students}."
    beside = "" if math.isnan(untrained.value) else f" Over the untrained teacher: {measure.over(untrained)}."
    decided = _decides(gain)
    answer = measure.over(gain) if decided else "undecided"
    against = "" if decided else f" Over cross-entropy: {measure.over(gain)}."
    if math.isnan(gain.value):
        against = " There are no cross-entropy students to compare with."
    detail = f"{reached}{against}{beside}{_kept_untrained(row)}"
    return Finding(_subject(row), f"{learned}, against cross-entropy", answer, detail, decided)


def _kept_untrained(row: Row) -> str:
    """What a gain is owed to where the teacher that was kept has learned nothing."""
    reason = "on held-out students none after it scored more, by mean less deviation."
    if count := row.get("kept_untrained", 0):
        return f" Of {count} of {row['teachers']} seeds the untrained teacher was kept: {reason}"
    return f" The untrained teacher was kept: {reason}" if row.get("selected_outer_step") == 0 else ""


def _over_best(row: Row, learned: str, measure: Measure) -> list[Finding]:
    """Whether it teaches better than every fixed loss; nothing where cross entropy is the best of them, or alone."""
    best, gain = row["best_fixed"], estimate_in(row, "over_best_fixed")
    if best in ("", CROSS_ENTROPY) or math.isnan(gain.value):
        return []
    detail = f"{best} is the best on test of the fixed losses that are told no more."
    question = f"{learned}, against the best fixed loss"
    if _decides(gain):
        return [Finding(_subject(row), question, measure.over(gain), detail, decided=True)]
    return [
        Finding(_subject(row), question, "undecided", f"Over {best}: {measure.over(gain)}. {detail}", decided=False)
    ]


def _by_shape(row: Row, learned: str) -> list[Finding]:
    """What a loss's shape adds to its size; nothing where it was not held to cross entropy in steps as long."""
    gain = estimate_in(row, "over_as_long")
    if math.isnan(gain.value):
        return []
    decided = _decides(gain)
    answer = ACCURACY.over(gain) if decided else "undecided"
    against = "" if decided else f"Over that: {ACCURACY.over(gain)}. "
    detail = f"{against}Against cross entropy, for the same students, in steps as long as its own."
    return [Finding(_subject(row), f"{learned}: what its shape adds to its size", answer, detail, decided)]


def _decides(gain: Estimate) -> bool:
    """Whether an interval of enough students excludes no difference."""
    return gain.enough and (gain.low > 0 or gain.high < 0)


def _subject(row: Row) -> str:
    return f"{case_name(row['problem'], row['variant'])}, teaching"


def _alike(row: Row) -> Finding:
    """Whether a learned loss teaches as the reference's does, within the margin that the suite states."""
    question = f"Learned by {row['method']}, as good as learned by {row['against']}?"
    difference = Estimate(row["value"], row["low"], row["high"], row["n"])
    answer = equivalent(row["equivalence"], row["margin"])
    detail = f"Over {row['against']}: {points(difference)} points of test accuracy ({row['verdict']})."
    return Finding(_subject(row), question, answer, detail, row["equivalence"] == EQUIVALENT)
