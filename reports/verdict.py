"""What the data decide, in sentences, and what they leave open.

A difference is called one when its interval excludes "none", rests on enough units, and is large enough, by
``statistics``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from l2t_bench.reports.chosen import chosen
from l2t_bench.reports.derive import Results, of_case
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.finding import Finding
from l2t_bench.reports.formats import fixed, number, ratio
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import ENOUGH, TOO_SMALL, Estimate
from l2t_bench.reports.teaching_verdict import teaching_findings
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import joined


@dataclass(frozen=True)
class _Quantity:
    question: str
    noun: str
    column: str  # of the summary: its ratio to the baseline


_RULE = (
    "Made from the data by a fixed rule: a difference is called one when its 95 % bootstrap interval excludes no "
    "difference, rests on at least five seeds or students, and is above 5 % in time or 2 % in memory. Otherwise: "
    "undecided."
)
_RANKED = "Exact methods alone are ranked; what another gives up is told, and not weighed against what it saves."
_TAUGHT = (
    "In what students reach any such difference counts, however small; losses teach alike where two one-sided tests "
    "(TOST, 5 %) put them within the margin that the suite states."
)
_TIME = _Quantity("Fastest exact method", "time", "time_ratio")
_MEMORY = _Quantity("Exact method with the least memory", "memory", "memory_ratio")


def findings(results: Results) -> list[Finding]:
    """The verdict, subject by subject: each problem, variant and horizon, then each problem's teaching."""
    found = []
    for (problem, variant, horizon), rows in results.summary.groupby([*VARIANT, "horizon"]):
        subject = f"{case_name(problem, variant)}, T = {horizon}"
        own = []
        for ranking, quantity in ((results.time_ranking, _TIME), (results.memory_ranking, _MEMORY)):
            ranked = of_case(ranking[ranking["horizon"] == horizon], problem, variant)
            if len(ranked):
                own.append(_least(subject, quantity, ranked, rows))
        found += _with_choices(own, results, (problem, variant, int(str(horizon))))
        leaders = results.leaders[results.leaders["horizon"] == horizon]
        found += _within_limits(subject, list(rows_of(of_case(leaders, problem, variant))))
        found += [_loss(subject, row) for row in rows_of(rows[rows["exactness"] != "exact"])]
    return found + teaching_findings(results)


def _with_choices(own: Sequence[Finding], results: Results, case: tuple[object, object, int]) -> list[Finding]:
    """Each decided one with a ``backend.toml`` to copy; a method that is both has one."""
    told, answers = [], set[str]()
    for finding in own:
        if finding.decided and finding.answer not in answers:
            answers.add(finding.answer)
            why = f"{finding.question} on {finding.subject}. {finding.detail}"
            told.append(replace(finding, choice=chosen(results.run, *case, finding.answer, why)))
        else:
            told.append(finding)
    return told


def rule(results: Results) -> str:
    """By what the verdict is made, as far as the run has what it is made of."""
    taught = len(results.teaching) or len(results.translating) or len(results.equivalences)
    return joined(_RULE, _RANKED if len(results.summary) else "", _TAUGHT if taught else "")


def headlines(found: Sequence[Finding]) -> list[str]:
    """A line for each question that several subjects share: ``Fastest exact method: rmd in 4 of 4 comparisons.``"""
    lines = []
    for quantity in (_TIME, _MEMORY):
        asked = [finding for finding in found if finding.question == quantity.question]
        winners = Counter(finding.answer for finding in asked if finding.decided)
        told = [f"{method} in {count} of {len(asked)}" for method, count in winners.most_common()]
        if left := len(asked) - winners.total():
            told.append(f"undecided in {left} of {len(asked)}")
        if asked:
            lines.append(f"{quantity.question}: {', '.join(told)} comparison{'s' * (len(asked) != 1)}.")
    return lines


def _least(subject: str, quantity: _Quantity, ranked: pd.DataFrame, rows: pd.DataFrame) -> Finding:
    """Which exact method needs least, and whether the data tell it apart from each of the others."""
    leader = str(ranked["leader"].iloc[0])
    others = list(rows_of(ranked[ranked["method"] != leader]))
    estimates = {row["method"]: estimate_in(row, "ratio") for row in others}
    level = [row["method"] for row in others if not row["behind"]]
    own = next(row for row in rows_of(rows) if row["method"] == leader)
    baseline = _sentence(leader, estimate_in(own, quantity.column), quantity.noun, own["baseline"])

    def answered(answer: str, detail: str, *, decided: bool) -> Finding:
        return Finding(subject, quantity.question, answer, detail.strip(), decided)

    if not others:
        return answered(leader, f"No other exact method was measured. {baseline}", decided=False)
    if not all(estimate.enough for estimate in estimates.values()):
        needed = f"{TOO_SMALL}: {ENOUGH} seeds are needed to tell methods apart; {leader} came first."
        return answered("undecided", f"{needed} {baseline}", decided=False)
    if level:
        told = " ".join(_sentence(method, estimates[method], quantity.noun, leader) for method in level)
        beside = "" if own["baseline"] in level else f" {baseline}"
        return answered(f"undecided between {_and([leader, *level])}", f"{told}{beside}", decided=False)
    following = others[0]["method"]
    told = f"Next: {_sentence(following, estimates[following], quantity.noun, leader)}"
    return answered(leader, told if following == own["baseline"] else f"{baseline} {told}", decided=True)


def _sentence(method: str, estimate: Estimate, noun: str, other: str) -> str:
    """``rmd takes 0.46x the time of higher [0.45, 0.47].``; nothing where there is nothing to compare."""
    if method == other or not other or math.isnan(estimate.value):
        return ""
    return f"{method} takes {_times(estimate, noun, other)}."


def _times(estimate: Estimate, noun: str, other: str) -> str:
    interval = ratio(estimate).partition(" ")[2] if estimate.enough else ""
    return f"{ratio(estimate, interval=False)}× the {noun} of {other} {interval}".rstrip()


def _and(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _within_limits(subject: str, leaders: Sequence[Row]) -> list[Finding]:
    """Which exact method to take where memory is limited; nothing where the smallest one is the fastest too."""
    if len(leaders) < 2:
        return []
    decided = all(row["faster"] for row in leaders[1:])
    ordered = ", ".join(f"{row['method']} from {number(row['from_mib'])} MiB on" for row in leaders)
    sentences = [_sentence(row["method"], estimate_in(row, "ratio"), "time", row["against"]) for row in leaders[1:]]
    rule = "Peaks above the start, medians over seeds."
    detail = joined(*sentences, "" if decided else f"By the medians: {ordered}.", rule)
    question = "Fastest exact method within a memory limit"
    return [Finding(subject, question, ordered if decided else "undecided", detail, decided)]


def _loss(subject: str, row: Row) -> Finding:
    """What a method that is not exact gives up, and what it gets for it."""
    question = f"What {row['method']} gives up"
    if row["exactness"] == "stationary":
        question = f"What {row['method']} computes instead (another quantity, not ranked)"
    known = not math.isnan(row["cosine"])
    answer = f"cosine {fixed(row['cosine'], 3)}, norm ratio {number(row['norm_ratio'])}" if known else "not compared"
    worst = f"Worst seed: cosine {fixed(row['cosine_worst'], 3)}, norm ratio {number(row['norm_ratio_worst'])}. "
    prices = [
        _times(estimate_in(row, quantity.column), quantity.noun, row["baseline"])
        for quantity in (_TIME, _MEMORY)
        if not math.isnan(row[quantity.column])
    ]
    cost = f"It takes {' and '.join(prices)}." if prices else ""
    return Finding(subject, question, answer, f"{worst if known else ''}{cost}", decided=known)
