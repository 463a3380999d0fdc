"""What is derived from a run, against cases worked out by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l2t_bench.reports import derive, gradient_derive, methods, teaching_derive
from l2t_bench.reports.gradient_derive import compare_gradients
from l2t_bench.reports.load import load_run


def costs(seconds: dict[str, list[float]], exactness: str = "exact") -> pd.DataFrame:
    """A frame of gradients: the seconds of each method by seed, memory ten times that."""
    return pd.DataFrame(
        [
            {
                "cell_id": f"{method}-{seed}",
                "problem": "p",
                "variant": "",
                "method": method,
                "seed": seed,
                "horizon": 10,
                "exactness": exactness if method not in ("rmd", "higher") else "exact",
                "seconds": value,
                "peak_above_start_mib": 10 * value,
            }
            for method, values in seconds.items()
            for seed, value in enumerate(values)
        ]
    )


def summary(frame: pd.DataFrame, d_theta: Any = None) -> pd.DataFrame:
    return gradient_derive.gradient_summary(gradient_derive.gradient_quality(frame, d_theta or {})).set_index("method")


def test_the_summary_takes_medians_over_seeds_and_ratios_seed_by_seed() -> None:
    rows = summary(costs({"higher": [1.0, 2.0, 4.0], "rmd": [0.5, 1.0, 8.0]}))
    assert rows.at["rmd", "seconds"] == 1.0
    assert rows.at["rmd", "time_ratio"] == pytest.approx((0.5 * 0.5 * 2.0) ** (1 / 3))
    assert rows.at["rmd", "memory_ratio"] == rows.at["rmd", "time_ratio"]
    assert rows.at["higher", "time_ratio"] == 1.0
    assert set(rows["baseline"]) == {"higher"}


def test_ratios_use_the_seeds_that_both_have() -> None:
    frame = costs({"higher": [1.0, 2.0, 4.0], "rmd": [3.0, 6.0]})
    assert summary(frame).at["rmd", "time_ratio_n"] == 2
    assert summary(frame).at["rmd", "time_ratio"] == pytest.approx(3.0)


def test_without_higher_the_first_exact_method_is_the_baseline() -> None:
    assert set(summary(costs({"truncated": [1.0], "rmd": [1.0]}, "truncated"))["baseline"]) == {"rmd"}
    assert set(summary(costs({"truncated": [1.0]}, "truncated"))["baseline"]) == {""}


def test_cosine_norm_ratio_and_relative_error_of_a_known_pair() -> None:
    exact = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    ours = {"b": np.array([[0.0]]), "a": np.array([6.0, 0.0])}
    cosine, norm_ratio, error = compare_gradients(ours, exact)
    assert (cosine, norm_ratio, error) == (pytest.approx(0.6), pytest.approx(1.2), pytest.approx(1.0))


@pytest.mark.parametrize("other", [{"a": np.ones((1, 2))}, {"b": np.ones(2)}, {}])
def test_gradients_of_different_shapes_are_not_compared(other: dict[str, np.ndarray]) -> None:
    assert all(math.isnan(figure) for figure in compare_gradients(other, {"a": np.ones(2)}))


def test_a_gradient_of_zeros_or_without_finite_numbers_has_no_direction() -> None:
    exact = {"a": np.ones(2)}
    cosine, norm_ratio, error = compare_gradients({"a": np.zeros(2)}, exact)
    assert math.isnan(cosine) and norm_ratio == 0 and error == 1
    assert math.isnan(compare_gradients({"a": np.array([np.nan, 1])}, exact)[1])


def test_the_reference_is_rmd_then_another_exact_method_then_none() -> None:
    assert methods.reference_method({"higher": "exact", "rmd": "exact", "truncated": "truncated"}) == "rmd"
    assert methods.reference_method({"torchopt": "exact", "higher": "exact"}) == "higher"
    assert methods.reference_method({"truncated": "truncated"}) is None


def test_quality_compares_within_problem_seed_and_horizon() -> None:
    frame = costs({"rmd": [1.0, 1.0], "truncated": [1.0, 1.0]}, "truncated")
    vectors = {("rmd-0", 10): [1.0, 0.0], ("rmd-1", 10): [0.0, 2.0]}
    vectors |= {("truncated-0", 10): [0.5, 0.0], ("truncated-1", 10): [3.0, 4.0]}
    d_theta = {key: {"a": np.array(value)} for key, value in vectors.items()}
    row = summary(frame, d_theta).loc["truncated"]
    assert row["cosine"] == pytest.approx(0.9) and row["cosine_worst"] == pytest.approx(0.8)
    assert row["norm_ratio"] == pytest.approx(1.5) and row["norm_ratio_worst"] == pytest.approx(2.5)
    assert row["reference"] == "rmd"


def test_without_an_exact_gradient_nothing_is_compared() -> None:
    frame = costs({"truncated": [1.0]}, "truncated")
    row = summary(frame, {("truncated-0", 10): {"a": np.ones(2)}}).loc["truncated"]
    assert math.isnan(row["cosine"]) and row["reference"] == ""


@pytest.mark.parametrize(("ratios", "worst"), [([0.5, 1.9], 0.5), ([0.6, 1.9], 1.9), ([0.0, 9.0], 0.0)])
def test_the_worst_norm_ratio_is_the_farthest_from_one_by_factor(ratios: list[float], worst: float) -> None:
    assert gradient_derive.farthest_from_one(np.array(ratios)) == worst


def test_ranking_puts_the_others_behind_only_when_the_data_decide() -> None:
    slow, near = [2.0, 2.1, 2.2, 2.0, 2.1], [1.03, 1.02, 1.04, 1.03, 1.02]
    ranked = gradient_derive.ranking(costs({"rmd": [1.0] * 5, "higher": slow, "torchopt": near}), "seconds").set_index(
        "method"
    )
    assert set(ranked["leader"]) == {"rmd"}
    assert ranked.at["higher", "behind"]
    assert not ranked.at["torchopt", "behind"]  # told apart by its interval, but by less than 5 %
    assert not ranked.at["rmd", "behind"]


def test_ranking_decides_nothing_on_three_seeds() -> None:
    ranked = gradient_derive.ranking(costs({"rmd": [1.0] * 3, "higher": [2.0] * 3}), "seconds")
    assert not ranked["behind"].any()


def test_ranking_leaves_out_what_is_not_exact() -> None:
    frame = costs({"rmd": [1.0] * 5, "implicit": [0.1] * 5}, "stationary")
    assert set(gradient_derive.ranking(frame, "seconds")["method"]) == {"rmd"}


def test_differences_of_students_are_paired_by_their_seed() -> None:
    students = pd.DataFrame(
        {
            "method": ["rmd"] * 3 + ["cross-entropy"] * 3,
            "seed": 0,
            "student_seed": [1, 2, 3, 3, 2, 4],
            "test_accuracy": [0.9, 0.8, 0.7, 0.6, 0.5, 0.1],
        }
    )
    estimate = teaching_derive.difference(students, "rmd", "cross-entropy")
    assert estimate.n == 2
    assert estimate.value == pytest.approx((0.3 + 0.1) / 2)
    assert teaching_derive.difference(students, "rmd", "untrained-teacher").n == 0
    assert teaching_derive.difference(students, "cross-entropy", "cross-entropy").n == 0


def test_teaching_summary_averages_the_students_of_each_loss(writer: Any) -> None:
    writer.teaching("digits/mlp", "rmd", [0.9, 0.92, 0.94, 0.96, 0.98])
    writer.teaching("digits/mlp", "cross-entropy", [0.89, 0.91, 0.93, 0.95, 0.97])
    rows = derive.analyse(load_run(writer.finish())).teaching.set_index("method")
    assert rows.at["rmd", "test_accuracy"] == pytest.approx(0.94)
    assert rows.at["rmd", "over_cross_entropy"] == pytest.approx(0.01)
    assert rows.at["rmd", "over_cross_entropy_low"] == pytest.approx(0.01)
    assert rows.at["rmd", "lr"] == 1.2
    assert math.isnan(rows.at["cross-entropy", "over_cross_entropy"])


def test_methods_have_one_order_whatever_order_they_ran_in() -> None:
    shuffled = [
        "cross-entropy",
        "truncated[window=100]",
        "mine",
        "higher",
        "truncated[window=10]",
        "rmd",
        "untrained-teacher",
    ]
    assert methods.in_order(shuffled) == [
        "rmd",
        "higher",
        "truncated[window=10]",
        "truncated[window=100]",
        "mine",
        "untrained-teacher",
        "cross-entropy",
    ]
