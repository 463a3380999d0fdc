"""What teaching reached: accuracies, differences to the controls, and whether learned losses teach alike."""

import pandas as pd

from l2t_bench.reports import statistics
from l2t_bench.reports.estimates import estimate_of, named
from l2t_bench.reports.methods import (
    CROSS_ENTROPY,
    TOLD_MORE,
    UNTRAINED,
    VARIANT,
    base_name,
    in_order,
    reference_method,
)
from l2t_bench.reports.statistics import NOTHING, Estimate, bootstrap_mean


def equivalences(students: pd.DataFrame) -> pd.DataFrame:
    """Whether losses that were learned by different gradients teach alike, within the margin that their suite states.

    One row per problem, variant and learned loss other than the one ``against`` which it is held: value, low, high, n
    and unit of the difference in test accuracy, paired by student, with the verdict ``better``, ``worse``, ``~`` or ``n
    too small``; p and equivalence of the two one-sided tests, and their margin.
    """
    rows = []
    for (problem, variant, margin), group in students.groupby([*VARIANT, "equivalence_margin"]):
        learned = group[group["loss"] == "learned"]
        against = reference_method(dict.fromkeys(learned["method"], "exact"))
        if against is None:
            continue
        differences = statistics.accuracy_differences(learned, against)
        intervals = statistics.with_gain(statistics.difference_intervals(differences, ["method"])).set_index("method")
        tested = statistics.equivalence(differences, float(str(margin)), ["method"]).set_index("method")
        rows += [
            {"problem": problem, "variant": variant, "method": method, "against": against, "margin": margin}
            | {name: intervals.at[method, name] for name in ("value", "low", "high", "n", "unit", "verdict")}
            | {"p": tested.loc[method, ["p_lower", "p_upper"]].max(), "equivalence": tested.at[method, "verdict"]}
            for method in in_order(learned["method"])
            if method != against
        ]
    return pd.DataFrame(rows, columns=_EQUIVALENCE_COLUMNS)


_EQUIVALENCE_COLUMNS = [
    *VARIANT,
    "method",
    "against",
    "margin",
    *("value", "low", "high", "n", "unit", "verdict"),
    "p",
    "equivalence",
]


def teaching_summary(students: pd.DataFrame, teachings: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """One row per teaching cell: ``value`` over students, and differences to the controls paired by student.

    ``over_as_long``: over cross entropy in steps as long as the loss's, where the loss was held to that.
    """
    rows = []
    for _, group in statistics.with_round(students).groupby([*VARIANT, "seed", "round"]):
        best = best_fixed(group, value)
        for method in in_order(group["method"]):
            own = group[group["method"] == method]
            rows.append(
                {
                    "cell_id": own["cell_id"].iloc[0],
                    "students": len(own),
                    **named(value, bootstrap_mean(own[value].to_numpy(float))),
                    **named("over_cross_entropy", difference(group, method, CROSS_ENTROPY, value)),
                    **named("over_untrained", difference(group, method, UNTRAINED, value)),
                    "best_fixed": best,
                    **named("over_best_fixed", difference(group, method, best, value)),
                    **named("over_as_long", over_as_long(own)),
                }
            )
    columns = ["cell_id", "students", "best_fixed"]
    for name in (value, "over_cross_entropy", "over_untrained", "over_best_fixed", "over_as_long"):
        columns += list(named(name, NOTHING))
    return pd.DataFrame(rows, columns=columns).merge(teachings, on="cell_id", how="left")


def best_fixed(students: pd.DataFrame, value: str = "test_accuracy") -> str:
    """Of the losses that are not learned and are told no more than a learned one's students, the best on test.

    It is chosen with test in sight, in favour of the controls. Empty where there is none.
    """
    fixed = students[~students["loss"].isin(["learned", "untrained"])]
    fixed = fixed[~fixed["method"].map(base_name).isin(TOLD_MORE)]
    means = fixed.groupby("method")[value].mean()
    return str(means.idxmax()) if len(means) else ""


def over_as_long(students: pd.DataFrame) -> Estimate:
    """Test accuracy under a loss minus that of the same students by cross entropy in steps as long."""
    if "as_long_accuracy" not in students or students["as_long_accuracy"].isna().any():
        return NOTHING
    return bootstrap_mean((students["test_accuracy"] - students["as_long_accuracy"]).to_numpy(float))


def difference(students: pd.DataFrame, method: str, control: str, value: str = "test_accuracy") -> Estimate:
    """``value`` under one loss minus a control's, paired by student seed; nothing for the control itself."""
    if method == control or control not in set(students["method"]):
        return NOTHING
    one_teacher = students.assign(problem="", seed=0)
    differences = statistics.accuracy_differences(one_teacher, control, value=value)
    intervals = statistics.difference_intervals(differences[differences["method"] == method], ["method"])
    return estimate_of(intervals.iloc[0].to_dict()) if len(intervals) else NOTHING
