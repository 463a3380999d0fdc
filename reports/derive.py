"""Statistics of a run: pure functions from tables to tables, and the estimates they are made of."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from l2t_bench.reports import load
from l2t_bench.reports.load import Arrays, Run

ENOUGH = 5  # three against three can never differ significantly, five can
LEVEL = 0.95
RESAMPLES = 10_000
CLEAR_EFFECT = {"seconds": 1.05, "peak_above_start_mib": 1.02}  # a smaller ratio is not called a difference
CROSS_ENTROPY, UNTRAINED = "cross-entropy", "untrained-teacher"
_GENERATOR = 1810_12081  # fixed, so that a page can be made again to the last digit
_KNOWN_ORDER = ("rmd", "higher", "torchopt", "functorch", "truncated", "torchopt-implicit")
_CONTROLS = (UNTRAINED, CROSS_ENTROPY)

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over ``n`` units; NaN where there is nothing to estimate from."""

    value: float
    low: float
    high: float
    n: int

    @property
    def enough(self) -> bool:
        """Whether there are units enough for the interval to decide anything."""
        return self.n >= ENOUGH


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True, eq=False)
class Results:
    """All that a report says of a run: its tables as loaded, and what was derived from them."""

    run: Run
    gradients: pd.DataFrame  # with their quality
    summary: pd.DataFrame
    time_ranking: pd.DataFrame
    memory_ranking: pd.DataFrame
    students: pd.DataFrame
    curves: pd.DataFrame
    selections: pd.DataFrame
    teaching: pd.DataFrame
    failures: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """Every planned method and control, in the order of tables and colours."""
        return in_order(self.run.cells["method"])


def analyse(run: Run) -> Results:
    """The whole derivation, run -> results."""
    quality = gradient_quality(load.gradients(run), run.d_theta)
    students = load.students(run)
    return Results(
        run=run,
        gradients=quality,
        summary=gradient_summary(quality),
        time_ranking=ranking(quality, "seconds"),
        memory_ranking=ranking(quality, "peak_above_start_mib"),
        students=students,
        curves=load.curves(run),
        selections=load.selections(run),
        teaching=teaching_summary(students, load.teachings(run)),
        failures=load.failures(run),
    )


# -- order and names


def base_name(method: str) -> str:
    """``"truncated[window=10]"`` -> ``"truncated"``."""
    return method.partition("[")[0]


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table and figure: exact ones, approximations, others by name, controls last."""

    def rank(method: str) -> tuple[int, int, str]:
        base, by_size = base_name(method), re.sub(r"\d+", lambda digits: digits[0].zfill(12), method)
        if base in _CONTROLS:
            return (2, _CONTROLS.index(base), by_size)
        return (0, _KNOWN_ORDER.index(base), by_size) if base in _KNOWN_ORDER else (1, 0, by_size)

    return sorted(set(methods), key=rank)


# -- estimates


def bootstrap_mean(values: Values) -> Estimate:
    """The mean with its percentile bootstrap interval; a single value has no interval."""
    sample = np.asarray(values, dtype=float)
    if sample.size == 0 or not np.isfinite(sample).all():
        return NOTHING
    if sample.size == 1:
        return Estimate(float(sample[0]), math.nan, math.nan, 1)
    drawn = np.random.default_rng(_GENERATOR).integers(sample.size, size=(RESAMPLES, sample.size))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(sample[drawn].mean(axis=1), [tail, 100 - tail])
    return Estimate(float(sample.mean()), float(low), float(high), sample.size)


def ratio_estimate(numerators: Values, denominators: Values) -> Estimate:
    """The geometric mean of paired ratios, with its interval; nothing where a value is not above zero."""
    above, below = np.asarray(numerators, dtype=float), np.asarray(denominators, dtype=float)
    if not ((above > 0).all() and (below > 0).all()):
        return NOTHING
    logs = bootstrap_mean(np.log(above / below))
    return Estimate(math.exp(logs.value), math.exp(logs.low), math.exp(logs.high), logs.n)


def paired(frame: pd.DataFrame, key: str, column: str, method: str, reference: str) -> tuple[np.ndarray, np.ndarray]:
    """``column`` of two methods on the values of ``key`` that both have, in its order."""
    ours = frame[frame["method"] == method].set_index(key)[column].dropna()
    theirs = frame[frame["method"] == reference].set_index(key)[column].dropna()
    common = sorted(set(ours.index) & set(theirs.index))
    return ours.loc[common].to_numpy(float), theirs.loc[common].to_numpy(float)


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


def reference_method(exactness_by_method: Mapping[str, str]) -> str | None:
    """Which method's gradient the others are compared with: ``rmd``, else another exact one, else none."""
    exact = [method for method in in_order(exactness_by_method) if exactness_by_method[method] == "exact"]
    return "rmd" if "rmd" in exact else next(iter(exact), None)


def gradient_quality(gradients: pd.DataFrame, d_theta: Mapping[tuple[str, int], Arrays]) -> pd.DataFrame:
    """``gradients`` with each row's reference, cosine, norm ratio and relative error to it."""
    quality = pd.DataFrame(
        math.nan, index=gradients.index, columns=["cosine", "norm_ratio", "relative_error"], dtype=float
    )
    references = pd.Series("", index=gradients.index, dtype=object)
    keys = zip(gradients["cell_id"], gradients["horizon"], strict=True)
    kept = pd.Series([key in d_theta for key in keys], index=gradients.index, dtype=bool)
    for _, group in gradients[kept].groupby(["problem", "seed", "horizon"]):
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


def baseline_method(exactness_by_method: Mapping[str, str]) -> str | None:
    """What ratios are taken against: ``higher``, else the first exact method, else none."""
    if "higher" in exactness_by_method:
        return "higher"
    return next((method for method in in_order(exactness_by_method) if exactness_by_method[method] == "exact"), None)


def gradient_summary(quality: pd.DataFrame) -> pd.DataFrame:
    """One row per problem, horizon and method: time and memory with ratios to the baseline, and gradient quality."""
    rows = []
    for (problem, horizon), group in quality.groupby(["problem", "horizon"]):
        exactness = dict(zip(group["method"], group["exactness"], strict=True))
        baseline = baseline_method(exactness)
        rows += [
            {"problem": problem, "horizon": horizon, "method": method, "exactness": exactness[method]}
            | _costs(group, method, baseline)
            | _quality(group[group["method"] == method])
            for method in in_order(exactness)
        ]
    return pd.DataFrame(rows, columns=_SUMMARY_COLUMNS)


_SUMMARY_COLUMNS = [
    "problem",
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


def _costs(group: pd.DataFrame, method: str, baseline: str | None) -> dict[str, object]:
    own = group[group["method"] == method]
    return {
        "seeds": len(own),
        "baseline": baseline or "",
        "seconds": own["seconds"].median(),
        "peak_above_start_mib": own["peak_above_start_mib"].median(),
        **_named("time_ratio", _ratio(group, "seconds", method, baseline)),
        **_named("memory_ratio", _ratio(group, "peak_above_start_mib", method, baseline)),
    }


def _ratio(group: pd.DataFrame, column: str, method: str, reference: str | None) -> Estimate:
    if reference is None:
        return NOTHING
    return ratio_estimate(*paired(group, "seed", column, method, reference))


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        f"{name}_n": estimate.n,
    }


def estimate_in(row: Mapping[str, object], name: str) -> Estimate:
    """The estimate that a summary's row holds under ``name``."""
    value, low, high, n = (row[key] for key in (name, f"{name}_low", f"{name}_high", f"{name}_n"))
    return Estimate(float(str(value)), float(str(low)), float(str(high)), int(float(str(n))))


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
    """The exact methods of each problem and horizon against the one that needs least of ``column``.

    ``behind`` says that a method is told apart from the leader: interval above 1, effect large enough, n large enough.
    """
    rows = []
    exact = gradients[gradients["exactness"] == "exact"].dropna(subset=[column])
    for (problem, horizon), group in exact.groupby(["problem", "horizon"]):
        medians = group.groupby("method")[column].median()
        leader = min(in_order(medians.index), key=lambda method: float(medians[method]))
        for method in sorted(in_order(medians.index), key=lambda method: float(medians[method])):
            estimate = _ratio(group, column, method, leader)
            clear = estimate.enough and estimate.low > 1 and estimate.value > CLEAR_EFFECT[column]
            rows.append(
                {"problem": problem, "horizon": horizon, "leader": leader, "method": method, "behind": clear}
                | _named("ratio", estimate)
            )
    columns = ["problem", "horizon", "leader", "method", "behind", *_named("ratio", NOTHING)]
    return pd.DataFrame(rows, columns=columns)


# -- teaching


def teaching_summary(students: pd.DataFrame, teachings: pd.DataFrame) -> pd.DataFrame:
    """One row per teaching cell: test accuracy over students, and differences to the controls paired by student."""
    rows = []
    for (_, _), group in students.groupby(["problem", "seed"]):
        for method in in_order(group["method"]):
            own = group[group["method"] == method]
            rows.append(
                {
                    "cell_id": own["cell_id"].iloc[0],
                    "students": len(own),
                    **_named("test_accuracy", bootstrap_mean(own["test_accuracy"].to_numpy(float))),
                    **_named("over_cross_entropy", difference(group, method, CROSS_ENTROPY)),
                    **_named("over_untrained", difference(group, method, UNTRAINED)),
                }
            )
    columns = ["cell_id", "students"]
    for name in ("test_accuracy", "over_cross_entropy", "over_untrained"):
        columns += list(_named(name, NOTHING))
    return pd.DataFrame(rows, columns=columns).merge(teachings, on="cell_id", how="left")


def difference(students: pd.DataFrame, method: str, control: str) -> Estimate:
    """Test accuracy of one loss minus a control's, paired by student seed; nothing for the control itself."""
    if method == control or control not in set(students["method"]):
        return NOTHING
    return bootstrap_mean(np.subtract(*paired(students, "student_seed", "test_accuracy", method, control)))
