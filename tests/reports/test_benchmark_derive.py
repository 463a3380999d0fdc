"""What follows from benchmarks: ratios to the fastest peer, ratios that are wanted, and the break-even; by hand."""

import math
from pathlib import Path

import pandas as pd
import pytest

from l2t_bench.reports.benchmark_derive import BenchmarkResults, against_peers, analyse_benchmarks, round_ratio
from l2t_bench.reports.benchmark_load import load_benchmarks
from l2t_bench.reports.benchmark_tables import benchmark_tables, headlines

RECORDS = Path(__file__).parent / "benchmarks"
COMPILED = "rmd[engine=compiled]"


@pytest.fixture(scope="module")
def results() -> BenchmarkResults:
    return analyse_benchmarks(load_benchmarks(RECORDS / "by_hand.json"))


def of(frame: pd.DataFrame, **wanted: object) -> pd.Series:
    """The one row with these values."""
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def row(rounds: tuple[float, ...], turns: str = "a") -> dict[str, object]:
    return {
        "round_seconds": rounds,
        "turns": turns,
        "median_seconds": sorted(rounds)[len(rounds) // 2],
        "min_seconds": min(rounds),
    }


def test_the_fastest_peer_has_the_smallest_median_of_the_other_libraries(results: BenchmarkResults) -> None:
    assert set(results.timings.loc[results.timings["phase"] == "outer step", "fastest_peer"]) == {"torchopt"}
    assert set(results.timings.loc[results.timings["phase"] == "rollout", "fastest_peer"]) == {"higher"}


def test_a_ratio_is_the_median_of_the_ratios_of_rounds_in_turn(results: BenchmarkResults) -> None:
    own = of(results.timings, phase="outer step", method="rmd")  # 3, 4, 2 s against 2, 4, 1 s
    assert (own["ratio"], own["ratio_low"], own["ratio_high"], own["ratio_pairs"]) == (1.5, 1.0, 2.0, 3)
    assert (own["ratio_of_medians"], own["ratio_of_least"]) == (1.5, 2.0)


def test_what_slows_a_round_down_falls_on_both() -> None:
    ratio = round_ratio(row((1.0, 10.0, 1.0, 10.0, 10.0)), row((2.0, 20.0, 2.0, 20.0, 2.0)))
    assert ratio.value == 0.5 and ratio.of_medians == 5.0


@pytest.mark.parametrize(
    "other",
    [
        row((2.0, 2.0, 2.0), turns="b"),
        row((2.0, 2.0)),
        row((2.0, 2.0, 2.0), turns=""),
        row((2.0,)) | {"round_seconds": ()},
    ],
    ids=["other turns", "other rounds", "no turns", "rounds not kept"],
)
def test_rounds_that_are_no_pairs_give_the_ratio_of_medians(other: dict[str, object]) -> None:
    ratio = round_ratio(row((1.0, 1.0, 4.0)), other)
    assert (ratio.value, ratio.pairs) == (0.5, 0) and math.isnan(ratio.low)


def test_a_peer_that_took_no_time_gives_no_ratio() -> None:
    assert math.isnan(round_ratio(row((1.0,)), row((0.0,))).value)


def test_the_outer_step_is_set_against_student_training_by_the_same_engine(results: BenchmarkResults) -> None:
    own = of(results.alone, method=COMPILED)  # 1.2, 1, 1.4 s against 0.4, 0.25, 0.4 s
    assert own["ratio"] == pytest.approx(3.5) and own["training_seconds"] == 0.4
    assert (own["peak_above_start_mib"], own["memory_ratio"]) == (3.0, pytest.approx(0.3))
    assert math.isnan(of(results.alone, method="higher")["ratio"])


def test_every_wanted_ratio_is_reached_missed_or_not_measured(results: BenchmarkResults) -> None:
    found = results.stated[["of", "against", "by", "at_most", "verdict"]].values.tolist()
    assert found == [
        ["time", "fastest peer", "torchopt", 0.45, "missed"],
        ["time", "higher", "higher", 0.1, "missed"],
        ["memory", "higher", "higher", 0.1, "not measured"],
        ["time", "student training", COMPILED, 3.5, "reached"],
        ["memory", "higher", "higher", 0.4, "reached"],
    ]
    assert results.stated["ratio"].round(9).tolist()[:2] == [0.5, 0.4]
    assert headlines(results) == ["Ratios wanted: 2 of 4 reached, 1 not measured."]


def test_the_break_even_comes_of_outer_steps_in_turn(results: BenchmarkResults) -> None:
    own = of(results.break_even, method=COMPILED)  # 2, 2.5, 1.5 s saved of 8 s
    assert (own["seconds_saved"], own["outer_steps"], own["student_steps"]) == (2.0, 4, 400)
    assert (own["outer_steps_least"], own["outer_steps_most"]) == (4, 6)


def test_two_records_are_never_set_against_each_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_bytes((RECORDS / "by_hand.json").read_bytes())
    both = analyse_benchmarks(load_benchmarks(tmp_path))
    assert len(both.break_even) == 2 and both.break_even["pairs"].tolist() == [3, 3]
    titles = [table.title for table in benchmark_tables(both)]
    assert "Outer step on digits/mlp[batch=20] (one)" in titles and "Outer step on digits/mlp[batch=20] (two)" in titles
    assert len(headlines(both)) == 2


def test_a_record_without_peers_has_no_ratios() -> None:
    timings = load_benchmarks(RECORDS / "by_hand.json").timings
    found = against_peers(timings[~timings["peer"].astype(bool)])
    assert len(found) and set(found["fastest_peer"]) == {""} and found["ratio"].isna().all()


def test_tables_fit_a_terminal_of_132_columns(results: BenchmarkResults) -> None:
    for table in benchmark_tables(results):
        widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
        if table.title.startswith("Ratios"):
            continue  # its names fold
        assert sum(widths) + 3 * len(widths) + 1 <= 132, table.title


def test_a_real_record_has_a_ratio_for_every_backend() -> None:
    found = analyse_benchmarks(load_benchmarks(RECORDS / "real.json"))
    assert found.timings["ratio"].gt(0).all() and found.timings["ratio_pairs"].eq(5).all()
    assert set(found.break_even["method"]) == {COMPILED}
