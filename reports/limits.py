"""Which exact method is the fastest within a memory limit: the leader of those that fit, limit by limit."""

import math

import pandas as pd

from l2t_bench.reports import statistics
from l2t_bench.reports.estimates import estimate_of, named
from l2t_bench.reports.gradient_derive import median_over_seeds
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.statistics import NOTHING, Estimate

CASE = [*VARIANT, "horizon"]
COLUMNS = [*CASE, "from_mib", "method", "seconds", "against", *named("ratio", NOTHING), "faster"]


def leaders_by_limit(gradients: pd.DataFrame) -> pd.DataFrame:
    """One row per problem, variant, horizon and limit from which on another exact method is the fastest that fits.

    ``from_mib`` is its peak above the start, ``seconds`` its time (medians over seeds); ``ratio`` its time over that of
    ``against``, the leader below this limit, and ``faster`` whether the data tell the two apart.
    """
    rows = []
    exact = gradients[gradients["exactness"] == "exact"].dropna(subset=["seconds", "peak_above_start_mib"])
    for case, group in exact.groupby(CASE):
        for place in _front(group):
            estimate, faster = _against(group, place["method"], place["against"])
            rows.append(dict(zip(CASE, case, strict=True)) | place | named("ratio", estimate) | {"faster": faster})
    return pd.DataFrame(rows, columns=COLUMNS)


def _front(group: pd.DataFrame) -> list[dict[str, object]]:
    """The methods that no other one beats in both time and memory, the smallest first."""
    medians = [_medians(group, method) for method in in_order(group["method"])]
    front: list[dict[str, object]] = []
    fastest, leader = math.inf, ""
    for peak, seconds, method in sorted(medians, key=lambda each: each[:2]):  # alike: in the order of tables
        if seconds < fastest:
            front.append({"from_mib": peak, "method": method, "seconds": seconds, "against": leader})
            fastest, leader = seconds, method
    return front


def _medians(group: pd.DataFrame, method: str) -> tuple[float, float, str]:
    own = group[group["method"] == method]
    return median_over_seeds(own, "peak_above_start_mib"), median_over_seeds(own, "seconds"), method


def _against(group: pd.DataFrame, method: object, other: object) -> tuple[Estimate, bool]:
    if not other:
        return NOTHING, False
    pairs = statistics.paired_log_ratios(group, "seconds", str(other))
    judged = statistics.with_verdict(statistics.ratio_intervals(pairs[pairs["method"] == method], ["method"]), "time")
    if judged.empty:
        return NOTHING, False
    row = next(rows_of(judged))
    return estimate_of(row), row["verdict"] == statistics.VERDICTS["time"][0]
