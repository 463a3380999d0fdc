"""What follows from a run's tables of gradients: their quality, summaries by method, rankings, ratios over problems."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from l2t_bench.reports import statistics
from l2t_bench.reports.estimates import estimate_of, named
from l2t_bench.reports.methods import VARIANT, baseline_method, in_order, reference_method
from l2t_bench.reports.reading import Arrays
from l2t_bench.reports.statistics import NOTHING, TOO_SMALL, Estimate

QUANTITIES: Mapping[str, str] = {"seconds": "time", "peak_above_start_mib": "memory"}  # what a column measures


def _ratios(group: pd.DataFrame, column: str, baseline: str | None) -> dict[str, tuple[Estimate, str]]:
    """Each method's ratio to the baseline within one problem and horizon, paired by seed and round, and its verdict."""
    if baseline is None:
        return {}
    pairs = statistics.paired_log_ratios(group, column, baseline)
    judged = statistics.with_verdict(statistics.ratio_intervals(pairs, ["method"]), QUANTITIES[column])
    return {row["method"]: (estimate_of(row), row["verdict"]) for row in judged.to_dict("records")}


# -- gradient quality


def compare_gradients(ours: Arrays, exact: Arrays) -> tuple[float, float, float]:
    """Cosine, norm ratio and relative error of one gradient to another; NaN where they are of different shapes."""
    if {key: array.shape for key, array in ours.items()} != {key: array.shape for key, array in exact.items()}:
        return math.nan, math.nan, math.nan
    d, e = _flat(ours), _flat(exact)
    norm, exact_norm = float(np.linalg.norm(d)), float(np.linalg.norm(e))
    if not (math.isfinite(norm) and math.isfinite(exact_norm)) or exact_norm == 0:
        return math.nan, math.nan, math.nan
    cosine = float(np.clip((d / norm) @ (e / exact_norm), -1, 1)) if norm > 0 else math.nan
    return cosine, norm / exact_norm, float(np.linalg.norm(d - e)) / exact_norm


def _flat(arrays: Arrays) -> np.ndarray:
    return np.concatenate(
        [np.asarray(arrays[key], dtype=np.float64).ravel() for key in sorted(arrays)] or [np.empty(0)]
    )


def gradient_quality(gradients: pd.DataFrame, d_theta: Mapping[tuple[str, int], Arrays]) -> pd.DataFrame:
    """``gradients`` with each row's reference, cosine, norm ratio and relative error to it."""
    quality = pd.DataFrame(
        math.nan, index=gradients.index, columns=["cosine", "norm_ratio", "relative_error"], dtype=float
    )
    references = pd.Series("", index=gradients.index, dtype=object)
    keys = zip(gradients["cell_id"], gradients["horizon"], strict=True)
    kept = pd.Series([key in d_theta for key in keys], index=gradients.index, dtype=bool)
    for _, group in gradients[kept].groupby([*VARIANT, "seed", "horizon"]):
        horizon = int(group["horizon"].iloc[0])
        reference = reference_method(dict(zip(group["method"], group["exactness"], strict=True)))
        if reference is None:
            continue
        references[group.index] = reference
        exact = d_theta[group.loc[group["method"] == reference, "cell_id"].iloc[0], horizon]
        for index, cell_id in group["cell_id"].items():
            quality.loc[index] = compare_gradients(d_theta[cell_id, horizon], exact)
    return gradients.assign(reference=references, **{column: quality[column] for column in quality.columns})


# -- the comparison of methods


def gradient_summary(quality: pd.DataFrame) -> pd.DataFrame:
    """One row per problem, variant, horizon and method: time and memory with ratios to the baseline, and quality."""
    rows = []
    for (problem, variant, horizon), group in quality.groupby([*VARIANT, "horizon"]):
        exactness = dict(zip(group["method"], group["exactness"], strict=True))
        baseline = baseline_method(exactness)
        ratios = {column: _ratios(group, column, baseline) for column in QUANTITIES}
        for method in in_order(exactness):
            own = group[group["method"] == method]
            rows.append(
                {"problem": problem, "variant": variant, "horizon": horizon}
                | {"method": method, "exactness": exactness[method]}
                | {"seeds": own["seed"].nunique(), "baseline": baseline or ""}
                | {column: median_over_seeds(own, column) for column in QUANTITIES}
                | named("time_ratio", ratios["seconds"].get(method, _NO_RATIO)[0])
                | named("memory_ratio", ratios["peak_above_start_mib"].get(method, _NO_RATIO)[0])
                | _quality(own)
            )
    return pd.DataFrame(rows, columns=_SUMMARY_COLUMNS)


_NO_RATIO = (NOTHING, TOO_SMALL)
_SUMMARY_COLUMNS = [
    *VARIANT,
    "horizon",
    "method",
    "exactness",
    "seeds",
    "baseline",
    "seconds",
    "time_ratio",
    "time_ratio_low",
    "time_ratio_high",
    "time_ratio_n",
    "peak_above_start_mib",
    "memory_ratio",
    "memory_ratio_low",
    "memory_ratio_high",
    "memory_ratio_n",
    "reference",
    "cosine",
    "cosine_worst",
    "norm_ratio",
    "norm_ratio_worst",
    "relative_error",
    "relative_error_worst",
]


def median_over_seeds(own: pd.DataFrame, column: str) -> float:
    """The median over seeds of one method's ``column``, a seed's rounds averaged first."""
    return float(own.groupby("seed")[column].mean().median())


def _quality(own: pd.DataFrame) -> dict[str, object]:
    return {
        "reference": ", ".join(in_order(own["reference"][own["reference"] != ""])),
        "cosine": own["cosine"].median(),
        "cosine_worst": own["cosine"].min(),
        "norm_ratio": own["norm_ratio"].median(),
        "norm_ratio_worst": farthest_from_one(own["norm_ratio"].to_numpy(float)),
        "relative_error": own["relative_error"].median(),
        "relative_error_worst": own["relative_error"].max(),
    }


def farthest_from_one(ratios: np.ndarray) -> float:
    """The ratio that is the worst: twice too long is as bad as half as long, and zero is worse than both."""
    known = ratios[np.isfinite(ratios)]
    if known.size == 0:
        return math.nan
    with np.errstate(divide="ignore"):
        return float(known[np.argmax(np.abs(np.log(known)))])


def ranking(gradients: pd.DataFrame, column: str) -> pd.DataFrame:
    """The exact methods of each problem, variant and horizon against the one that needs least of ``column``.

    ``behind`` says that a method is told apart from the leader: interval above 1, effect large enough, n large enough.
    """
    rows = []
    exact = gradients[gradients["exactness"] == "exact"].dropna(subset=[column])
    for (problem, variant, horizon), group in exact.groupby([*VARIANT, "horizon"]):
        medians = {str(method): median_over_seeds(own, column) for method, own in group.groupby("method")}
        leader = min(in_order(medians), key=lambda method: medians[method])
        ratios = _ratios(group, column, leader)
        for method in sorted(in_order(medians), key=lambda method: medians[method]):
            estimate, verdict = ratios.get(method, _NO_RATIO)
            behind = verdict in ("slower", "larger")
            rows.append(
                {"problem": problem, "variant": variant, "horizon": horizon}
                | {"leader": leader, "method": method, "behind": behind}
                | named("ratio", estimate)
            )
    columns = [*VARIANT, "horizon", "leader", "method", "behind", *named("ratio", NOTHING)]
    return pd.DataFrame(rows, columns=columns)


def aggregates(summary: pd.DataFrame) -> pd.DataFrame:
    """Each method's geometric mean of its ratios over the problems that all methods have, one row a horizon and method.

    Columns: horizon, method, exactness, baseline, time_ratio and memory_ratio, each with its _common and _total
    problems. Only for horizons of more than one problem. Ratios to another baseline than most are not averaged with
    them; stationary methods compute another quantity, and are left out.
    """
    rows = []
    ranked = summary[(summary["exactness"] != "stationary") & (summary["baseline"] != "")]
    for horizon, group in ranked.groupby("horizon"):
        if group["problem"].nunique() < 2:
            continue
        baseline = group["baseline"].mode().iloc[0]
        own = group["baseline"] == baseline
        exactness = dict(zip(group["method"], group["exactness"], strict=True))
        means = {
            name: statistics.geometric_means(group.assign(value=group[name].where(own)), by=VARIANT).set_index("method")
            for name in ("time_ratio", "memory_ratio")
        }
        for method in in_order(exactness):
            row = {"horizon": horizon, "method": method, "exactness": exactness[method], "baseline": baseline}
            for name, mean in means.items():
                row |= {name: mean.at[method, "value"]}
                row |= {f"{name}_{count}": mean.at[method, count] for count in ("common", "total")}
            rows.append(row)
    columns = ["horizon", "method", "exactness", "baseline"]
    for name in ("time_ratio", "memory_ratio"):
        columns += [name, f"{name}_common", f"{name}_total"]
    return pd.DataFrame(rows, columns=columns)


def outer_steps(gradients: pd.DataFrame) -> pd.DataFrame:
    """What ``break_even`` asks of a run: its gradient cells, paired by seed and round."""
    unit = gradients["seed"].astype(str) + "/" + gradients["round"].astype(str)
    return gradients[[*VARIANT, "horizon", "method", "seconds", "seconds_compile"]].assign(unit=unit)
