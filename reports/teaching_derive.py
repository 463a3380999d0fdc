"""What teaching reached: accuracies, differences to the controls, and whether learned losses teach alike."""

from collections.abc import Iterator
from typing import Any

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
from l2t_bench.reports.statistics import NOTHING, Estimate, students_mean


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
        cells = group.groupby("method")["cell_id"].first()
        rows += [{"cell_id": cells[method], **reached} for method, reached in _reached(group, value)]
    return pd.DataFrame(rows, columns=["cell_id", *_reached_columns(value)]).merge(teachings, on="cell_id", how="left")


def over_teachers(students: pd.DataFrame, teachings: pd.DataFrame, value: str = "test_accuracy") -> pd.DataFrame:
    """One row per method of a problem and variant that have several seeds: what their teachers reach in the mean.

    The columns of ``teaching_summary`` that are estimates, over seeds and not over students: students of one seed share
    a teacher, and in some suites a split of the data, and say nothing of the next one. Of a run that goes on those
    seeds count that every method has, ``teachers`` of them; where these are fewer than two there is no row.
    kept_untrained: of these teachers those that were kept before the first outer step, and have learned nothing.
    """
    rows = []
    untrained = set(teachings.loc[teachings["selected_outer_step"] == 0, "cell_id"])
    for (problem, variant), group in statistics.with_round(students).groupby(VARIANT):
        shared = _seeds_of_all(group)
        if len(shared) > 1:
            common = group[group["seed"].isin(shared)]
            losses = common.groupby("method")["loss"].first()
            rows += [
                {"problem": problem, "variant": variant, "method": method, "loss": losses[method]}
                | {"teachers": len(shared), "kept_untrained": _seeds_in(common, method, untrained), **reached}
                for method, reached in _reached(common, value)
            ]
    columns = [*VARIANT, "method", "loss", "teachers", "kept_untrained", *_reached_columns(value)]
    return pd.DataFrame(rows, columns=columns)


def _seeds_in(students: pd.DataFrame, method: str, cells: set[str]) -> int:
    """How many seeds of a method these cells are of."""
    own = students[(students["method"] == method) & students["cell_id"].isin(cells)]
    return int(own["seed"].nunique())


def _seeds_of_all(students: pd.DataFrame) -> set[Any]:
    """The seeds under which every method has students: means over unequal ones would compare splits, not losses."""
    return set.intersection(*(set(own["seed"]) for _, own in students.groupby("method")))


def _reached(students: pd.DataFrame, value: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each method, and what its students reach, by itself and over the controls."""
    best = best_fixed(students, value)
    for method in in_order(students["method"]):
        own = students[students["method"] == method]
        yield (
            method,
            {
                "students": len(own[["seed", "student_seed"]].drop_duplicates()),
                "best_fixed": best,
                **named(value, students_mean(own, own[value].astype(float))),
                **named("over_cross_entropy", difference(students, method, CROSS_ENTROPY, value)),
                **named("over_untrained", difference(students, method, UNTRAINED, value)),
                **named("over_best_fixed", difference(students, method, best, value)),
                **named("over_as_long", over_as_long(own)),
            },
        )


def _reached_columns(value: str) -> list[str]:
    estimates = (value, "over_cross_entropy", "over_untrained", "over_best_fixed", "over_as_long")
    return ["students", "best_fixed", *(column for name in estimates for column in named(name, NOTHING))]


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
    return students_mean(students, (students["test_accuracy"] - students["as_long_accuracy"]).astype(float))


def difference(students: pd.DataFrame, method: str, control: str, value: str = "test_accuracy") -> Estimate:
    """``value`` under one loss minus a control's, paired by seed and student; nothing for the control itself."""
    if method == control or control not in set(students["method"]):
        return NOTHING
    differences = statistics.accuracy_differences(students.assign(problem=""), control, value=value)
    intervals = statistics.difference_intervals(differences[differences["method"] == method], ["method"])
    return estimate_of(intervals.iloc[0].to_dict()) if len(intervals) else NOTHING
