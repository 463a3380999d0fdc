"""The rows of a comparison: what each run needed of time and memory and reached in accuracy, and how they differ.

What both runs measured is one table, its column ``run`` either ``base`` or ``new``; each row has a seed and a round.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.reports import gradient_derive, methods, statistics
from l2t_bench.reports.rows import Row, rows_of

NO_DIFFERENCE: Mapping[str, float] = {"time": 1.0, "memory": 1.0, "accuracy": 0.0}  # ratios, and percentage points
CASE = ["problem", "variant", "horizon"]
KEYS = ["problem", "variant", "method", "horizon"]
_COLUMNS = [*KEYS, "quantity", "base", "new", "value", "low", "high", "n", "unit", "left_out", "verdict"]
_NAMES = ["problem", "variant", "method", "seed", "round"]
_MEASURED = ("horizon", "exactness", *gradient_derive.QUANTITIES, "student_seed", "test_accuracy", "equivalence_margin")


def measured_in_both(base: pd.DataFrame, new: pd.DataFrame, cells: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The measurements ``base`` and ``new`` of two runs that belong to ``cells`` of ``kind``, as one table.

    ``machine`` names where a row was measured, the same text for the same machine.
    """
    own = cells[cells["kind"] == kind]
    columns = [column for column in _MEASURED if column in base]
    sides = []
    for frame, side in ((base, "base"), (new, "new")):
        names = own[[*_NAMES, f"cell_id_{side}"]].rename(columns={f"cell_id_{side}": "cell_id"})
        names = names.assign(run=side, machine=[json.dumps(each, sort_keys=True) for each in own[f"machine_{side}"]])
        sides.append(frame[["cell_id", *columns]].merge(names, on="cell_id")[["run", "machine", *_NAMES, *columns]])
    joined = pd.concat(sides, ignore_index=True)
    return joined.assign(horizon=pd.to_numeric(joined["horizon"], errors="coerce").astype(float))


def relative_to_baseline(gradients: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """``column`` divided by the baseline method's of the same run, machine, seed and round, and what has no such ratio.

    The baseline is chosen by problem, variant and horizon, among the methods that both runs have.
    """
    relative, lost = [], []
    for _, group in gradients.groupby(CASE):
        runs = group.groupby("method")["run"].nunique()
        shared = group[group["method"].isin(runs.index[runs == 2])]
        baseline = methods.baseline_method(dict(zip(shared["method"], shared["exactness"], strict=True)))
        if baseline is None:
            lost.append(shared.assign(reason="machines differ, and both runs have no exact method to take ratios to"))
            continue
        of_baseline = shared[shared["method"] == baseline]
        lost.append(of_baseline.assign(reason="machines differ, and ratios are taken to this method"))
        pairs = statistics.paired_log_ratios(shared, column, baseline, by=["run", "machine", *CASE])
        pairs = pairs[pairs["method"] != baseline]
        relative.append(pairs.assign(**{column: np.exp(pairs["log_ratio"])}))
        paired = pairs.groupby("method")["run"].nunique()
        alone = shared[~shared["method"].isin([baseline, *paired.index[paired == 2]])]
        lost.append(alone.assign(reason=f"machines differ, and {baseline} was not measured on the same one"))
    without_ratio = [row for frame in lost for row in rows_of(frame[[*KEYS, "reason"]].drop_duplicates())]
    columns = ["run", *KEYS, "seed", "round", column]
    if not relative:
        return gradients.loc[[], columns], without_ratio
    return pd.concat(relative, ignore_index=True)[columns], without_ratio


def ratio_rows(measured: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows of the quantity that ``column`` measures: base and new in its unit, ``value`` new/base."""
    quantity = gradient_derive.QUANTITIES[column]
    pairs = statistics.paired_log_ratios(measured, column, "base", by=KEYS, side="run")
    pairs = pairs[pairs["run"] == "new"]
    intervals = statistics.with_verdict(statistics.ratio_intervals(pairs, KEYS), quantity)
    better, worse = statistics.VERDICTS[quantity]
    verdicts = intervals["verdict"].replace({better: "better", worse: "worse"})
    kept = pairs.dropna(subset=["log_ratio"])
    used = measured.merge(kept[[*KEYS, "seed", "round"]], on=[*KEYS, "seed", "round"])
    used = used.assign(level=np.log(used[column].to_numpy(dtype=float)))
    return _with_levels(intervals.assign(verdict=verdicts, unit="seed", quantity=quantity), used, geometric=True)


def accuracy_rows(students: pd.DataFrame) -> pd.DataFrame:
    """Rows of test accuracy: base and new as fractions, ``value`` new - base in percentage points."""
    differences = _accuracy_differences(students)
    points = differences.assign(difference=100 * differences["difference"])
    intervals = statistics.with_gain(statistics.difference_intervals(points, KEYS))
    kept = differences.dropna(subset=["difference"])
    pair = [*KEYS, "seed", "student_seed", "round"]
    used = students.merge(kept[pair], on=pair)
    used = used.assign(level=used["test_accuracy"].to_numpy(dtype=float))
    return _with_levels(intervals.assign(quantity="accuracy"), used, geometric=False)


def _accuracy_differences(students: pd.DataFrame) -> pd.DataFrame:
    """Each student's test accuracy in new minus that in base."""
    differences = statistics.accuracy_differences(students, "base", by=KEYS, side="run")
    return differences[differences["run"] == "new"]


def equivalence_rows(students: pd.DataFrame) -> pd.DataFrame:
    """Whether new's test accuracy is base's within the margin that the suite states; none where it states none.

    Columns: problem, variant, method, horizon, value (new - base, a fraction), low and high (90 %), n, unit, p, margin
    and equivalence.
    """
    tested = [
        statistics.equivalence(_accuracy_differences(own), float(str(margin)), KEYS).assign(margin=margin)
        for margin, own in students.groupby("equivalence_margin")
    ]
    if not tested:
        return pd.DataFrame(columns=EQUIVALENCE_COLUMNS)
    rows = pd.concat(tested, ignore_index=True).rename(columns={"verdict": "equivalence"})
    rows = rows.assign(p=rows[["p_lower", "p_upper"]].max(axis=1)).astype({"horizon": "Int64"})
    return rows.loc[rows["n"] > 0, EQUIVALENCE_COLUMNS].reset_index(drop=True)


EQUIVALENCE_COLUMNS = [*KEYS, "value", "low", "high", "n", "unit", "p", "margin", "equivalence"]


def aggregate_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The geometric means of the ratios new/base over the problems that all methods have.

    Columns: quantity (time or memory), horizon, method, value, common and total (problems). Only where there is more
    than one problem.
    """
    found = [
        statistics.geometric_means(group, by=["problem", "variant"]).assign(
            quantity=str(quantity), horizon=int(str(horizon))
        )
        for (quantity, horizon), group in rows[rows["quantity"] != "accuracy"].groupby(["quantity", "horizon"])
        if group["problem"].nunique() > 1
    ]
    if not found:
        return pd.DataFrame(columns=AGGREGATE_COLUMNS)
    return pd.concat(found, ignore_index=True)[AGGREGATE_COLUMNS]


AGGREGATE_COLUMNS = ["quantity", "horizon", "method", "value", "common", "total"]


def _with_levels(intervals: pd.DataFrame, used: pd.DataFrame, *, geometric: bool) -> pd.DataFrame:
    """``intervals`` that rest on any pair, with what each run had on the pairs: means over seeds of ``level``.

    A ``geometric`` mean is that of logarithms.
    """
    by_seed = used.groupby(["run", *KEYS, "seed"], dropna=False)["level"].mean()
    levels = by_seed.groupby(["run", *KEYS], dropna=False).mean().unstack("run").reindex(columns=["base", "new"])
    if geometric:
        levels = levels.apply(np.exp)
    rows = intervals[intervals["n"] > 0].merge(levels.reset_index(), on=KEYS, how="left")
    return rows[_COLUMNS]


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as tables have them: by problem, horizon, method and quantity."""
    ranks = {name: rank for rank, name in enumerate(methods.in_order(rows["method"]))}
    quantities = {name: rank for rank, name in enumerate(NO_DIFFERENCE)}
    keyed = rows.assign(
        _teaching=rows["quantity"] == "accuracy",
        _method=rows["method"].map(ranks),
        _rank=rows["quantity"].map(quantities),
    )
    keyed = keyed.sort_values(["problem", "variant", "_teaching", "horizon", "_method", "_rank"], ignore_index=True)
    return keyed[_COLUMNS].astype({"horizon": "Int64"})


def without_row(
    measured: pd.DataFrame, rows: pd.DataFrame, known: list[dict[str, Any]], quantity: str, base: str, new: str
) -> list[dict[str, Any]]:
    """What was measured in sound cells and has no row all the same, with the ``known`` reason or what is seen."""
    sides = [measured.loc[measured["run"] == side, KEYS].drop_duplicates() for side in ("base", "new")]
    found = sides[0].merge(sides[1], on=KEYS, how="outer", indicator="where")
    seen = {
        "left_only": f"horizon only in {base}",
        "right_only": f"horizon only in {new}",
        "both": "no seed with a usable value in both runs",
    }
    judged, told = set(map(_key, rows_of(rows))), {_key(row): row["reason"] for row in known}
    return [
        {key: row[key] for key in KEYS} | {"quantity": quantity, "reason": told.get(_key(row), seen[str(row["where"])])}
        for row in rows_of(found)
        if _key(row) not in judged
    ]


def _key(row: Row) -> tuple[str, str, str, int]:
    """Problem, variant, method and horizon as what can be looked up, which NaN cannot."""
    return row["problem"], row["variant"], row["method"], -1 if pd.isna(row["horizon"]) else int(row["horizon"])
