"""What the data decide of the losses that were learned: better than others or not, and alike or not."""

import math

from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.finding import Finding
from l2t_bench.reports.formats import accuracy, equivalent, points
from l2t_bench.reports.methods import CROSS_ENTROPY, VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import EQUIVALENT, Estimate
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import loss_label


def teaching_findings(results: Results) -> list[Finding]:
    """The verdict on each problem's teaching."""
    found = []
    for (problem, variant), rows in results.teaching.groupby(VARIANT):
        for row in rows_of(rows[rows["loss"] == "learned"]):
            found += [_gain(row, results), *_over_best(row, results)]
        found += [_alike(row) for row in rows_of(of_case(results.equivalences, problem, variant))]
    return found


def _gain(row: Row, results: Results) -> Finding:
    """Whether a learned loss teaches better than cross entropy."""
    gain, untrained = estimate_in(row, "over_cross_entropy"), estimate_in(row, "over_untrained")
    alike = of_case(results.teaching, row["problem"], row["variant"])
    label = loss_label(row, alike["seed"].nunique() > 1)
    question = f"{label[:1].upper()}{label[1:]}, against cross-entropy"
    reached = f"Test accuracy {accuracy(estimate_in(row, 'test_accuracy'))} over {row['students']} students."
    beside = f" Over the untrained teacher: {points(untrained)} points." if not math.isnan(untrained.value) else ""
    decided = gain.enough and (gain.low > 0 or gain.high < 0)
    answer = f"{points(gain)} points" if decided else "undecided"
    against = "" if decided else f" Over cross-entropy: {points(gain)} points."
    if math.isnan(gain.value):
        against = " There are no cross-entropy students to compare with."
    return Finding(
        f"{case_name(row['problem'], row['variant'])}, teaching",
        question,
        answer,
        f"{reached}{against}{beside}",
        decided,
    )


def _over_best(row: Row, results: Results) -> list[Finding]:
    """Whether it teaches better than every fixed loss; nothing where cross entropy is the best of them, or alone."""
    best, gain = row["best_fixed"], estimate_in(row, "over_best_fixed")
    if best in ("", CROSS_ENTROPY) or math.isnan(gain.value):
        return []
    alike = of_case(results.teaching, row["problem"], row["variant"])
    label = loss_label(row, alike["seed"].nunique() > 1)
    decided = gain.enough and (gain.low > 0 or gain.high < 0)
    detail = f"{best} is the best on test of the fixed losses that are told no more."
    return [
        Finding(
            f"{case_name(row['problem'], row['variant'])}, teaching",
            f"{label[:1].upper()}{label[1:]}, against the best fixed loss",
            f"{points(gain)} points" if decided else "undecided",
            detail if decided else f"Over {best}: {points(gain)} points. {detail}",
            decided,
        )
    ]


def _alike(row: Row) -> Finding:
    """Whether a learned loss teaches as the reference's does, within the margin that the suite states."""
    question = f"Learned by {row['method']}, as good as learned by {row['against']}?"
    difference = Estimate(row["value"], row["low"], row["high"], row["n"])
    answer = equivalent(row["equivalence"], row["margin"])
    detail = f"Over {row['against']}: {points(difference)} points of test accuracy ({row['verdict']})."
    subject = f"{case_name(row['problem'], row['variant'])}, teaching"
    return Finding(subject, question, answer, detail, row["equivalence"] == EQUIVALENT)
