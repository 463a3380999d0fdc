"""What a report and a comparison say over problems, and whether accuracies are the same within a margin."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2t_bench.reports import derive, text
from l2t_bench.reports.compare import compare
from l2t_bench.reports.comparison_tables import tables
from l2t_bench.reports.derive import analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import write_report
from l2t_bench.reports.statistics_tables import equivalence_tables
from l2t_bench.reports.verdict import findings


def gradients(writer: Any, problem: str, seconds: dict[str, float], horizon: int = 20) -> None:
    """Five seeds of each method; ``implicit`` is stationary, all others are exact."""
    for seed in range(5):
        for method, each in seconds.items():
            run = {"d_theta": {"a": np.ones(2, "f4")}, "seconds": [each], "start": 0, "peak": int(each * 2**20)}
            exactness = "stationary" if method == "implicit" else "exact"
            writer.gradient(problem, method, seed, {horizon: run}, exactness, horizons=[horizon])


# -- over problems


def test_the_mean_over_problems_is_geometric_and_says_of_how_many(writer: Any) -> None:
    for problem, factor in (("a/x", 2.0), ("b/x", 8.0), ("c/x", 1.0)):
        gradients(writer, problem, {"higher": 1.0, "rmd": factor})
    rows = analyse(load_run(writer.finish())).aggregates.set_index("method")
    assert rows.at["rmd", "time_ratio"] == pytest.approx(16 ** (1 / 3)) == rows.at["rmd", "memory_ratio"]
    assert (rows.at["rmd", "time_ratio_common"], rows.at["rmd", "time_ratio_total"]) == (3, 3)
    assert rows.at["higher", "time_ratio"] == 1.0


def test_a_problem_that_one_method_lacks_is_in_no_methods_mean(writer: Any) -> None:
    gradients(writer, "a/x", {"higher": 1.0, "rmd": 2.0, "torchopt": 3.0})
    gradients(writer, "b/x", {"higher": 1.0, "rmd": 8.0})
    (_, _, table) = text.summary_tables(load_run(writer.finish()))
    assert table.title == "Over all problems"
    assert [row[1:5] for row in table.rows] == [
        ("rmd", "exact", "2.00", "1/2"),
        ("higher", "exact", "1.00", "1/2"),
        ("torchopt", "exact", "3.00", "1/2"),
    ]


def test_each_horizon_has_its_own_mean_and_one_problem_has_none(writer: Any) -> None:
    for problem in ("a/x", "b/x"):
        gradients(writer, problem, {"higher": 1.0, "rmd": 2.0})
    gradients(writer, "a/x", {"higher": 1.0, "rmd": 5.0}, horizon=100)
    rows = analyse(load_run(writer.finish())).aggregates
    assert set(rows["horizon"]) == {20} and rows["time_ratio"].tolist() == pytest.approx([2.0, 1.0])


def test_ratios_to_different_baselines_are_not_averaged(writer: Any) -> None:
    gradients(writer, "a/x", {"higher": 1.0, "rmd": 2.0})
    gradients(writer, "b/x", {"higher": 1.0, "rmd": 2.0})
    gradients(writer, "c/x", {"rmd": 1.0, "torchopt": 9.0})
    rows = derive.analyse(load_run(writer.finish())).aggregates.set_index("method")
    assert rows.at["rmd", "baseline"] == "higher" and rows.at["rmd", "time_ratio_common"] == 0


def test_what_is_another_quantity_is_not_averaged_with_the_others(writer: Any) -> None:
    for problem in ("a/x", "b/x"):
        gradients(writer, problem, {"higher": 1.0, "implicit": 2.0})
    assert set(analyse(load_run(writer.finish())).aggregates["method"]) == {"higher"}


# -- equivalence


def teach(writer: Any, margin: float | None, **accuracies: list[float]) -> Any:
    writer.margin = margin
    for method, each in accuracies.items():
        writer.teaching("digits/mlp", method, each)
    return analyse(load_run(writer.finish()))


STEADY = [0.95, 0.96, 0.94, 0.95, 0.955, 0.945]


def shifted(*by: float) -> list[float]:
    return [accuracy + by[index % len(by)] for index, accuracy in enumerate(STEADY)]


@pytest.mark.parametrize(
    ("other", "verdict", "words"),
    [
        (shifted(0.001, -0.001), "~", "equivalent within 1 pp"),
        (shifted(0.002, 0.003), "better", "equivalent within 1 pp"),
        (shifted(-0.03, -0.02), "worse", "not shown to be equivalent within 1 pp"),
        (shifted(0.03, -0.03), "~", "not shown to be equivalent within 1 pp"),
        (shifted(0.0)[:3], "n too small", "n too small"),
    ],
)
def test_losses_are_equivalent_or_not_shown_to_be_beside_better_or_worse(
    writer: Any, other: list[float], verdict: str, words: str
) -> None:
    results = teach(writer, 0.01, rmd=STEADY, higher=other)
    (table,) = equivalence_tables(results)
    (row,) = table.rows
    assert (row[0], row[1], row[4], row[6]) == ("higher", "rmd", verdict, words)
    found = next(one for one in findings(results) if one.question == "Learned by higher, as good as learned by rmd?")
    assert (found.answer, found.decided) == (words, words == "equivalent within 1 pp")


def test_the_margin_is_the_suites(writer: Any) -> None:
    results = teach(writer, 0.05, rmd=STEADY, higher=shifted(-0.03, -0.02))
    assert equivalence_tables(results)[0].rows[0][6] == "equivalent within 5 pp"


def test_a_suite_that_states_no_margin_has_no_table_of_equivalence(writer: Any) -> None:
    assert equivalence_tables(teach(writer, None, rmd=STEADY, higher=STEADY)) == []


def test_the_controls_are_not_held_to_be_the_same(writer: Any) -> None:
    results = teach(writer, 0.01, rmd=STEADY, higher=STEADY, **{"cross-entropy": STEADY})
    assert results.equivalences["method"].tolist() == ["higher"]


def test_the_quick_suite_states_its_margin_in_every_teaching_cell() -> None:
    from l2t_bench.engine.suite import Request
    from l2t_bench.registry import load_suite

    cells = [cell for cell in load_suite("quick").cells(None, Request()) if cell.kind == "teaching"]
    assert cells and all(cell.identity["settings"]["equivalence_margin"] == 0.01 for cell in cells)


def test_the_page_has_both(run_folder: Path) -> None:
    page = write_report(run_folder).read_text(encoding="utf-8")
    assert "Over all problems" in page and "Do the learned losses teach alike on digits/mlp?" in page


# -- between two runs


def run_of(writer: Any, factor: float, gain: float) -> Any:
    for problem in ("a/x", "b/x"):
        gradients(writer, problem, {"higher": 1.0, "rmd": factor})
    teach(writer, 0.01, rmd=shifted(gain))
    return load_run(writer.path)


def test_a_comparison_has_the_mean_over_problems_and_the_equivalence_of_accuracies(tmp_path: Path, writer: Any) -> None:
    other = type(writer)(tmp_path / "new")
    found = compare(run_of(writer, 2.0, 0.0), run_of(other, 3.0, 0.001))
    means = found.aggregates.set_index(["quantity", "method"])["value"]
    assert means["time", "rmd"] == pytest.approx(1.5) and means["memory", "higher"] == pytest.approx(1.0)
    over, same = tables(found)[-2:]
    assert ("20", "rmd", "time", "1.50 ×", "2/2") in over.rows
    assert [(row[1], row[2], row[5]) for row in same.rows] == [("rmd", "+0.10 points", "equivalent within 1 pp")]


def test_accuracies_that_moved_are_not_shown_to_be_equivalent(tmp_path: Path, writer: Any) -> None:
    other = type(writer)(tmp_path / "new")
    (row,) = tables(compare(run_of(writer, 1.0, 0.0), run_of(other, 1.0, -0.05)))[-1].rows
    assert row[5] == "not shown to be equivalent within 1 pp"
