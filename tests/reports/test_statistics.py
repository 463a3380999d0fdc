"""The statistics against scipy and against cases worked out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from l2t_bench.errors import UserError
from l2t_bench.reports import gradient_derive, statistics, teaching_derive
from l2t_bench.reports.statistics import TOO_SMALL, UNDECIDED

INTERVAL = ["value", "low", "high", "n"]
SECONDS = [1.3, 0.7, 2.9, 1.1, 1.6, 0.4, 2.2]


def costs(seconds: dict[str, list[float]], **columns: Any) -> pd.DataFrame:
    """The seconds of each method by seed, on one problem and horizon unless told."""
    rows = [
        {"problem": "p", "horizon": 10, "method": method, "seed": seed, "seconds": value, **columns}
        for method, values in seconds.items()
        for seed, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["problem", "horizon", "method", "seed", "seconds", *columns])


def taught(accuracies: dict[str, list[float]], seed: int = 0) -> pd.DataFrame:
    """The test accuracies of each method by student seed."""
    rows = [
        {"problem": "p", "method": method, "seed": seed, "student_seed": student, "test_accuracy": value}
        for method, values in accuracies.items()
        for student, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def ratios_to(frame: pd.DataFrame, baseline: str = "higher") -> pd.DataFrame:
    """The ratios to the baseline with their intervals, by method."""
    pairs = statistics.paired_log_ratios(frame, "seconds", baseline)
    return statistics.ratio_intervals(pairs, ["method"]).set_index("method")


def samples(values: list[float]) -> pd.DataFrame:
    """Differences of one student for each of many seeds."""
    return pd.DataFrame({"method": "m", "seed": range(len(values)), "student_seed": 0, "difference": values})


def judged(value: float, low: float, high: float, n: int, quantity: str = "time") -> str:
    frame = pd.DataFrame([[value, low, high, n]], columns=INTERVAL)
    return str(statistics.with_verdict(frame, quantity)["verdict"].iloc[0])


# -- pairs


def test_a_log_ratio_is_that_of_the_same_seed_and_horizon() -> None:
    frame = pd.concat(
        [costs({"higher": [1.0, 2.0], "rmd": [3.0, 10.0]}), costs({"higher": [5.0], "rmd": [1.0]}).assign(horizon=20)]
    )
    pairs = statistics.paired_log_ratios(frame, "seconds", "higher")
    assert list(pairs.columns) == ["problem", "horizon", "method", "baseline", "seed", "round", "log_ratio"]
    rmd = pairs[pairs["method"] == "rmd"].set_index(["horizon", "seed"])["log_ratio"]
    assert {key: math.exp(value) for key, value in rmd.items()} == {
        (10, 0): pytest.approx(3.0),
        (10, 1): pytest.approx(5.0),
        (20, 0): pytest.approx(0.2),
    }


def test_the_baseline_is_exactly_itself() -> None:
    rows = ratios_to(costs({"higher": SECONDS, "rmd": SECONDS}))
    assert rows.loc["higher", INTERVAL].tolist() == [1.0, 1.0, 1.0, 7]


def test_rounds_are_paired_with_rounds() -> None:
    frame = pd.concat(
        [
            costs({"higher": [1.0], "rmd": [2.0]}, round=0),
            costs({"higher": [10.0], "rmd": [30.0]}, round=1),
            costs({"rmd": [999.0]}, round=2),
        ]
    )
    rmd = ratios_to(frame).loc["rmd"]
    assert rmd["value"] == pytest.approx(math.sqrt(2 * 3))
    assert rmd["n"] == 1


def test_an_unpaired_seed_is_dropped() -> None:
    rows = ratios_to(costs({"higher": [1.0, 1.0, 1.0], "rmd": [2.0, 2.0, 2.0, 1000.0]}))
    assert rows.loc["rmd", INTERVAL].tolist() == [pytest.approx(2.0)] * 3 + [3]
    assert rows.at["rmd", "left_out"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -1.0, None])
@pytest.mark.parametrize("side", ["higher", "rmd"])
def test_a_pair_without_two_positive_numbers_is_left_out_and_counted(bad: Any, side: str) -> None:
    seconds: dict[str, list[Any]] = {"higher": [1.0, 1.0, 1.0], "rmd": [2.0, 2.0, 2.0]}
    seconds[side][1] = bad
    row = ratios_to(costs(seconds)).loc["rmd"]
    assert row["value"] == pytest.approx(2.0)
    assert (row["n"], row["left_out"]) == (2, 1)


def test_twins_count_once_and_only_when_both_are_usable() -> None:
    twins = pd.concat([costs({"higher": [1.0], "rmd": [2.0]}), costs({"rmd": [8.0]})])
    assert ratios_to(twins).loc["rmd", ["value", "n"]].tolist() == [pytest.approx(4.0), 1]
    spoilt = pd.concat([costs({"higher": [1.0], "rmd": [2.0]}), costs({"rmd": [math.nan]})])
    assert ratios_to(spoilt).loc["rmd", ["n", "left_out"]].tolist() == [0, 1]


def test_sides_other_than_methods_are_paired_too() -> None:
    frame = pd.concat([costs({"rmd": [2.0]}, run="base"), costs({"rmd": [3.0]}, run="new")])
    pairs = statistics.paired_log_ratios(frame, "seconds", "base", by=["problem", "method"], side="run")
    assert pairs.set_index("run").at["new", "log_ratio"] == pytest.approx(math.log(1.5))


def test_accuracies_are_paired_by_seed_and_student() -> None:
    frame = pd.concat([taught({"a": [0.9, 0.8], "b": [0.5, 0.6]}, seed=0), taught({"a": [0.7], "b": [0.7]}, seed=1)])
    pairs = statistics.accuracy_differences(frame, "b")
    assert list(pairs.columns) == [
        *("problem", "method", "baseline", "seed", "student_seed", "round", "difference"),
    ]
    ours = pairs[pairs["method"] == "a"].set_index(["seed", "student_seed"])["difference"]
    assert ours.to_dict() == {(0, 0): pytest.approx(0.4), (0, 1): pytest.approx(0.2), (1, 0): 0.0}


# -- intervals


def test_bootstrap_of_two_values_has_the_three_means_that_there_are() -> None:
    estimate = statistics.bootstrap_mean([1.0, 3.0])  # means 1, 2 and 3 with chances 1/4, 1/2 and 1/4
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (2.0, 1.0, 3.0, 2)


def test_bootstrap_is_golden_and_repeats_itself() -> None:
    estimate = statistics.bootstrap_mean([0.1, 0.4, 0.2, 0.9, 0.5])
    assert estimate == statistics.bootstrap_mean([0.1, 0.4, 0.2, 0.9, 0.5])
    assert estimate.value == pytest.approx(0.42)
    assert (estimate.low, estimate.high) == (pytest.approx(0.2), pytest.approx(0.66))


def test_bootstrap_agrees_with_the_normal_interval_on_many_values() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=2000)
    estimate = statistics.bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_one_value_has_no_interval_and_none_has_no_value() -> None:
    single = statistics.bootstrap_mean([2.0])
    assert single.value == 2.0 and math.isnan(single.low) and not single.enough
    assert math.isnan(statistics.bootstrap_mean([]).value) and statistics.bootstrap_mean([]).n == 0
    assert math.isnan(statistics.bootstrap_mean([1.0, math.nan]).value)


def test_the_interval_is_scipys_for_the_same_draws() -> None:
    ours = statistics.bootstrap_mean(SECONDS)
    theirs = scipy.stats.bootstrap(
        (SECONDS,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1810_12081)
    ).confidence_interval
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=1e-12), pytest.approx(theirs.high, rel=1e-12))


def test_the_interval_is_scipys_for_other_draws_within_monte_carlo_noise() -> None:
    row = statistics.bootstrap_intervals(samples(SECONDS), "difference", ["method"]).iloc[0]
    theirs = scipy.stats.bootstrap(
        (SECONDS,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(7)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert abs(row["low"] - theirs.low) < 0.03 * width
    assert abs(row["high"] - theirs.high) < 0.03 * width


def test_ratios_are_paired_and_averaged_geometrically() -> None:
    row = ratios_to(costs({"higher": [2.0, 4.0], "rmd": [1.0, 8.0]})).loc["rmd"]  # 1/2 and 2
    assert row["value"] == pytest.approx(1.0)
    assert (row["low"], row["high"]) == (pytest.approx(0.5), pytest.approx(2.0))


def test_equal_ratios_have_an_interval_of_no_width() -> None:
    frame = costs({"higher": [2.0, 4.0, 6.0, 8.0, 10.0], "rmd": [1.0, 2.0, 3.0, 4.0, 5.0]})
    row = statistics.with_verdict(ratios_to(frame), "time").loc["rmd"]
    assert (row["value"], row["low"], row["high"]) == (pytest.approx(0.5),) * 3
    assert row["n"] >= statistics.ENOUGH and row["verdict"] == "faster"


def test_a_ratio_to_nothing_is_no_ratio() -> None:
    row = ratios_to(costs({"higher": [0.0, 0.0], "rmd": [1.0, 1.0]})).loc["rmd"]
    assert (row["n"], row["left_out"]) == (0, 2)
    assert math.isnan(row["value"])
    beside = ratios_to(costs({"higher": [0.0, 1.0], "rmd": [1.0, 3.0]})).loc["rmd"]
    assert (beside["n"], beside["left_out"], beside["value"]) == (1, 1, pytest.approx(3.0))


def test_a_ratio_is_the_geometric_mean_of_the_pairs() -> None:
    rows = ratios_to(costs({"higher": [1.0] * 7, "rmd": SECONDS}))
    assert rows.at["rmd", "value"] == pytest.approx(scipy.stats.gmean(SECONDS), rel=1e-12)
    assert rows.at["rmd", "low"] < rows.at["rmd", "value"] < rows.at["rmd", "high"]


def test_the_inverse_ratio_has_the_inverse_interval() -> None:
    frame = costs({"higher": [1.0] * 7, "rmd": SECONDS})
    there, back = ratios_to(frame).loc["rmd"], ratios_to(frame, "rmd").loc["higher"]
    assert back["value"] == pytest.approx(1 / there["value"])
    assert back["low"] == pytest.approx(1 / there["high"], rel=0.02)  # percentiles of one set of draws: not quite


def test_rounds_do_not_inflate_n() -> None:
    once = costs({"higher": [1.0] * 4, "rmd": SECONDS[:4]})
    thrice = pd.concat([once.assign(round=number) for number in range(3)])
    assert ratios_to(thrice)[INTERVAL].to_dict() == ratios_to(once)[INTERVAL].to_dict()
    assert set(ratios_to(thrice)["n"]) == {4}


def test_a_seed_with_more_rounds_weighs_no_more() -> None:
    once = costs({"higher": [1.0, 1.0], "rmd": [2.0, 8.0]}, round=0)
    more = pd.concat([once, *(costs({"higher": [1.0], "rmd": [2.0]}, round=number) for number in (1, 2, 3))])
    assert ratios_to(more).at["rmd", "value"] == pytest.approx(4.0)


def test_the_order_of_rows_does_not_matter() -> None:
    frame = pd.concat([costs({"higher": SECONDS[::-1], "rmd": SECONDS}, round=number) for number in range(3)])
    frame["seconds"] *= np.random.default_rng(0).uniform(0.5, 2, len(frame))
    shuffled = frame.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(ratios_to(shuffled), ratios_to(frame), check_exact=True)


def test_the_order_of_samples_does_not_even_change_the_last_digit() -> None:
    spread = np.random.default_rng(0).lognormal(0, 3, size=21)
    frame = pd.DataFrame({"seed": [0, 1, 2] * 7, "round": np.arange(21) // 3, "seconds": spread})
    one, other = (
        statistics.bootstrap_intervals(rows, "seconds", []) for rows in (frame, frame.sample(frac=1, random_state=1))
    )
    assert one["n"].tolist() == [3]
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_one_seed_has_a_value_and_no_interval() -> None:
    row = ratios_to(costs({"higher": [1.0], "rmd": [2.0]})).loc["rmd"]
    assert row["value"] == pytest.approx(2.0)
    assert math.isnan(row["low"]) and math.isnan(row["high"]) and row["n"] == 1


def test_students_of_several_seeds_count_by_seed_and_those_of_one_seed_by_student() -> None:
    one = taught({"a": [0.9, 0.8, 0.7], "b": [0.5, 0.5, 0.5]})
    two = pd.concat([one, taught({"a": [0.6], "b": [0.5]}, seed=1)])
    for frame, unit, n, value in ((one, "student", 3, 0.3), (two, "seed", 2, 0.2)):
        differences = statistics.accuracy_differences(frame, "b")
        row = statistics.difference_intervals(differences, ["method"]).set_index("method").loc["a"]
        assert (row["unit"], row["n"], row["value"]) == (unit, n, pytest.approx(value))


# -- verdicts


def test_a_clear_effect_has_a_name() -> None:
    assert judged(0.5, 0.4, 0.6, 5) == "faster"
    assert judged(2.0, 1.9, 2.1, 5) == "slower"
    assert judged(0.5, 0.4, 0.6, 5, "memory") == "smaller"
    assert judged(2.0, 1.9, 2.1, 5, "memory") == "larger"


def test_an_effect_of_four_percent_with_a_tight_interval_is_undecided_in_time_and_not_in_memory() -> None:
    assert judged(1.04, 1.039, 1.041, 9) == UNDECIDED
    assert judged(1 / 1.04, 0.961, 0.962, 9) == UNDECIDED
    assert judged(1.04, 1.039, 1.041, 9, "memory") == "larger"


def test_the_smallest_clear_effect_is_a_factor_that_must_be_exceeded() -> None:
    assert judged(1.05, 1.04, 1.06, 5) == UNDECIDED
    assert judged(1.051, 1.04, 1.06, 5) == "slower"
    assert judged(1 / 1.05, 0.94, 0.96, 5) == UNDECIDED
    assert judged(1 / 1.051, 0.94, 0.96, 5) == "faster"


def test_a_large_effect_whose_interval_holds_one_is_undecided() -> None:
    assert judged(2.0, 1.0, 4.0, 5) == UNDECIDED
    assert judged(0.5, 0.2, 1.0, 5) == UNDECIDED


def test_four_seeds_are_too_few_and_keep_their_interval() -> None:
    frame = costs({"higher": [1.0] * 4, "rmd": [2.0, 2.1, 2.2, 2.3]})
    row = statistics.with_verdict(ratios_to(frame), "time").loc["rmd"]
    assert row["verdict"] == TOO_SMALL
    assert row["low"] > 1.9


def test_nothing_measured_is_too_few() -> None:
    assert judged(math.nan, math.nan, math.nan, 0) == TOO_SMALL


def test_another_quantity_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match="did you mean 'time'"):
        judged(1, 1, 1, 5, "tme")


# -- equivalence


NOISE = [0.002, -0.001, 0.0005, 0.003, -0.002, 0.0015, 0.001, -0.0005]


def equivalence_of(differences: list[float], margin: float) -> Any:
    return statistics.equivalence(samples(differences), margin, ["method"]).iloc[0]


@pytest.mark.parametrize("margin", [0.0005, 0.002, 0.01])
@pytest.mark.parametrize("shift", [0.0, 0.004, -0.003])
def test_both_p_values_and_the_interval_are_those_of_scipys_t_test(margin: float, shift: float) -> None:
    differences = [value + shift for value in NOISE]
    row = equivalence_of(differences, margin)
    lower = scipy.stats.ttest_1samp(differences, -margin, alternative="greater")
    upper = scipy.stats.ttest_1samp(differences, margin, alternative="less")
    interval = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert row["p_lower"] == pytest.approx(lower.pvalue, rel=1e-9)
    assert row["p_upper"] == pytest.approx(upper.pvalue, rel=1e-9)
    assert (row["low"], row["high"]) == (pytest.approx(interval.low), pytest.approx(interval.high))
    equivalent = max(lower.pvalue, upper.pvalue) < 0.05
    different = not equivalent and scipy.stats.ttest_1samp(differences, 0).pvalue < 0.05
    assert row["verdict"] == ("equivalent" if equivalent else "different" if different else UNDECIDED)


def test_equivalence_has_all_its_verdicts() -> None:
    assert equivalence_of(NOISE, 0.01)["verdict"] == "equivalent"
    assert equivalence_of([value + 0.01 for value in NOISE], 0.005)["verdict"] == "different"
    assert equivalence_of(NOISE, 0.0006)["verdict"] == UNDECIDED
    assert equivalence_of(NOISE[:4], 0.1)["verdict"] == TOO_SMALL


def test_a_difference_needs_the_interval_of_95_percent_and_not_of_90() -> None:
    shifted = [value + 0.0007 for value in NOISE]
    assert 0.05 < scipy.stats.ttest_1samp(shifted, 0).pvalue < 0.10
    row = equivalence_of(shifted, 0.001)
    assert row["low"] > 0 and row["verdict"] == UNDECIDED


def test_a_difference_within_the_margin_is_equivalent_even_where_it_is_certain() -> None:
    assert equivalence_of([value + 0.004 for value in NOISE], 0.02)["verdict"] == "equivalent"


@pytest.mark.parametrize(
    ("difference", "verdict"), [(0.0, "equivalent"), (0.0625, "equivalent"), (0.25, "different"), (-0.5, "different")]
)
def test_differences_without_variance_are_certain(difference: float, verdict: str) -> None:
    row = equivalence_of([difference] * 6, 0.125)
    assert row["verdict"] == verdict
    assert (row["low"], row["high"]) == (difference, difference)
    assert {row["p_lower"], row["p_upper"]} == ({0.0} if verdict == "equivalent" else {0.0, 1.0})


def test_on_the_margin_without_variance_is_not_within_it() -> None:
    assert equivalence_of([0.125] * 6, 0.125)["p_upper"] == 1.0


def test_one_pair_tests_nothing_but_has_a_value() -> None:
    row = equivalence_of([0.001], 0.01)
    assert (row["value"], row["n"], row["verdict"]) == (0.001, 1, TOO_SMALL)
    assert all(math.isnan(row[name]) for name in ("low", "high", "p_lower", "p_upper"))


def test_rounds_and_students_do_not_make_a_test_more_certain() -> None:
    students = pd.concat([samples(NOISE).assign(student_seed=student, round=student) for student in range(5)])
    row = statistics.equivalence(students, 0.002, ["method"]).iloc[0]
    assert (row["n"], row["unit"]) == (8, "seed")
    assert row["p_upper"] == pytest.approx(equivalence_of(NOISE, 0.002)["p_upper"])


@pytest.mark.parametrize("margin", [0, -0.01, math.nan, math.inf])
def test_a_margin_that_is_not_above_zero_is_a_mistake(margin: float) -> None:
    with pytest.raises(UserError, match="above zero"):
        equivalence_of(NOISE, margin)


# -- aggregates


def table(values: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = [
        {"problem": problem, "horizon": 10, "method": method, "value": value}
        for method, by_problem in values.items()
        for problem, value in by_problem.items()
    ]
    return pd.DataFrame(rows, columns=["problem", "horizon", "method", "value"])


def test_only_common_cases_are_averaged() -> None:
    ratios = table({"rmd": {"a": 0.5, "b": 2.0, "hard": 8.0}, "functorch": {"a": 1.0, "b": 4.0}})
    rows = statistics.geometric_means(ratios).set_index("method")
    naive = scipy.stats.gmean([0.5, 2.0, 8.0])
    assert rows.at["rmd", "value"] == pytest.approx(1.0)
    assert naive == pytest.approx(2.0)  # the same as functorch's, which never met the hard problem
    assert rows.at["functorch", "value"] == pytest.approx(2.0)
    assert set(zip(rows["common"], rows["total"], strict=True)) == {(2, 3)}


def test_the_geometric_mean_is_scipys() -> None:
    ratios = table({"rmd": {str(index): value for index, value in enumerate(SECONDS)}})
    row = statistics.geometric_means(ratios).iloc[0]
    assert row["value"] == pytest.approx(scipy.stats.gmean(SECONDS), rel=1e-12)
    assert (row["common"], row["total"]) == (7, 7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -2.0])
def test_a_case_with_an_unusable_value_is_not_common(bad: float) -> None:
    ratios = table({"rmd": {"a": 2.0, "b": bad}, "higher": {"a": 3.0, "b": 1.0}})
    rows = statistics.geometric_means(ratios).set_index("method")
    assert rows["value"].to_dict() == {"higher": pytest.approx(3.0), "rmd": pytest.approx(2.0)}
    assert set(rows["common"]) == {1} and set(rows["total"]) == {2}


def test_a_method_that_never_finished_leaves_no_case_in_common() -> None:
    ratios = table({"rmd": {"a": 2.0}})
    rows = statistics.geometric_means(ratios, methods=["rmd", "crashed"])
    assert list(rows["method"]) == ["crashed", "rmd"]
    assert rows["value"].isna().all() and set(rows["common"]) == {0} and set(rows["total"]) == {1}


def test_methods_that_are_not_compared_do_not_narrow_what_is_common() -> None:
    ratios = table({"rmd": {"a": 2.0, "b": 8.0}, "higher": {"a": 1.0, "b": 1.0}, "other": {"a": 1.0}})
    rows = statistics.geometric_means(ratios, methods=["rmd", "higher"]).set_index("method")
    assert rows.at["rmd", "value"] == pytest.approx(4.0)


# -- what degenerates


EMPTY = costs({})
EMPTY_STUDENTS = pd.DataFrame(columns=["problem", "method", "seed", "student_seed", "test_accuracy", "difference"])


@pytest.mark.parametrize(
    ("compute", "columns"),
    [
        (
            lambda: statistics.paired_log_ratios(EMPTY, "seconds", "higher"),
            ["problem", "horizon", "method", "baseline", "seed", "round", "log_ratio"],
        ),
        (
            lambda: statistics.paired_log_ratios(costs({"rmd": [1.0]}), "seconds", "higher"),
            ["problem", "horizon", "method", "baseline", "seed", "round", "log_ratio"],
        ),
        (
            lambda: statistics.accuracy_differences(EMPTY_STUDENTS, "higher"),
            ["problem", "method", "baseline", "seed", "student_seed", "round", "difference"],
        ),
        (
            lambda: statistics.ratio_intervals(statistics.paired_log_ratios(EMPTY, "seconds", "higher"), ["method"]),
            ["method", *INTERVAL, "left_out"],
        ),
        (
            lambda: statistics.with_verdict(
                statistics.bootstrap_intervals(EMPTY_STUDENTS, "difference", ["method"]), "time"
            ),
            ["method", *INTERVAL, "left_out", "verdict"],
        ),
        (
            lambda: statistics.difference_intervals(EMPTY_STUDENTS, ["problem", "method"]),
            ["problem", "method", *INTERVAL, "left_out", "unit"],
        ),
        (
            lambda: statistics.equivalence(EMPTY_STUDENTS, 0.01, ["method"]),
            ["method", *INTERVAL, "left_out", "unit", "p_lower", "p_upper", "verdict"],
        ),
        (lambda: statistics.geometric_means(table({})), ["method", "value", "common", "total"]),
    ],
)
def test_nothing_in_gives_nothing_out_with_the_right_columns(
    compute: Callable[[], pd.DataFrame], columns: list[str]
) -> None:
    result = compute()
    assert list(result.columns) == columns
    assert result.empty


def test_only_unusable_values_give_a_row_without_a_value() -> None:
    rows = ratios_to(costs({"higher": [1.0, 1.0], "rmd": [math.nan, math.nan]}))
    assert rows.loc["rmd", ["n", "left_out"]].tolist() == [0, 2]
    assert math.isnan(rows.at["rmd", "value"])
    row = equivalence_of([math.nan] * 6, 0.01)
    assert (row["n"], row["left_out"], row["verdict"]) == (0, 6, TOO_SMALL)


@pytest.mark.parametrize(
    "compute",
    [
        lambda: statistics.paired_log_ratios(EMPTY.drop(columns="seed"), "seconds", "higher"),
        lambda: statistics.accuracy_differences(EMPTY_STUDENTS.drop(columns="seed"), "higher"),
        lambda: statistics.bootstrap_intervals(EMPTY.drop(columns="seed"), "seconds", ["method"]),
        lambda: statistics.equivalence(EMPTY_STUDENTS.drop(columns="seed"), 0.01, ["method"]),
        lambda: statistics.difference_intervals(EMPTY_STUDENTS.drop(columns="seed"), ["method"]),
        lambda: statistics.geometric_means(EMPTY.drop(columns="seed"), value="seed"),
    ],
)
def test_a_table_without_a_column_that_is_needed_names_it(compute: Callable[[], pd.DataFrame]) -> None:
    with pytest.raises(UserError, match="lacks the column 'seed'"):
        compute()


def test_what_was_handed_in_is_left_as_it_was() -> None:
    frame = costs({"higher": [1.0, 2.0], "rmd": [3.0, math.nan]})
    before = frame.copy(deep=True)
    statistics.with_verdict(ratios_to(frame), "time")
    statistics.geometric_means(frame, value="seconds")
    pd.testing.assert_frame_equal(frame, before)


# -- where a report uses them


def test_a_summary_counts_seeds_and_averages_their_rounds_first() -> None:
    frame = pd.concat(
        [
            costs({"higher": [1.0, 1.0, 1.0], "rmd": [2.0, 4.0, 11.0]}, round=0),
            costs({"higher": [1.0, 1.0, 1.0], "rmd": [4.0, 20.0, 11.0]}, round=1),
        ],
        ignore_index=True,
    )
    frame = frame.assign(cell_id=frame.index.astype(str), exactness="exact", peak_above_start_mib=1.0, variant="")
    row = gradient_derive.gradient_summary(gradient_derive.gradient_quality(frame, {})).set_index("method").loc["rmd"]
    assert (row["seeds"], row["time_ratio_n"], row["seconds"]) == (3, 3, 11.0)
    assert row["time_ratio"] == pytest.approx((8 * 80 * 121) ** (1 / 6))


def test_a_summary_of_teaching_has_a_row_for_each_round() -> None:
    students = pd.concat([taught({"rmd": [0.9, 0.8], "cross-entropy": [0.7, 0.7]}).assign(round=n) for n in range(2)])
    students = students.assign(cell_id=students["method"] + students["round"].astype(str), variant="")
    students["loss"] = students["method"].replace("rmd", "learned")
    teachings = students[["cell_id", "problem", "method", "seed"]].drop_duplicates()
    rows = teaching_derive.teaching_summary(students, teachings).set_index("cell_id")
    assert rows["students"].to_dict() == {"rmd0": 2, "rmd1": 2, "cross-entropy0": 2, "cross-entropy1": 2}
    assert rows.at["rmd1", "over_cross_entropy_n"] == 2
