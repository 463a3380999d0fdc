"""Gradient quality against T and K, the implicit family apart, and the matrix of methods and problems."""

from typing import Any

import numpy as np
import pytest

from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.matrix_tables import matrix_tables
from l2t_bench.reports.quality_curves import quality_by_horizon, quality_by_window, window_of
from l2t_bench.reports.stationary_tables import stationary_tables

EXACT = np.array([3.0, 4.0], "f4")


def gradient(
    writer: Any, method: str, exactness: str, scale: float, seed: int = 0, problem: str = "digits/mlp"
) -> None:
    """``scale`` times the exact gradient at T = 20, half of that at T = 100."""
    runs = {
        horizon: {"d_theta": {"a": (factor * EXACT).astype("f4")}, "seconds": [1.0], "start": 0, "peak": 2**20}
        for horizon, factor in ((20, scale), (100, scale / (1 if exactness == "exact" else 2)))
    }
    writer.gradient(problem, method, seed, runs, exactness, horizons=[20, 100])


@pytest.fixture
def results(writer: Any) -> Results:
    for seed in (0, 1):
        gradient(writer, "rmd", "exact", 1.0, seed)
        gradient(writer, "truncated[window=5]", "truncated", 0.2, seed)
        gradient(writer, "truncated[window=10]", "truncated", 0.5, seed)
        gradient(writer, "implicit", "stationary", -2.0, seed)
    writer.write(writer.plan("gradient", "digits/mlp", "higher", 0, horizons=[20, 100]), "timeout", {}, "over 60 s")
    return analyse(load_run(writer.finish()))


def test_cosine_and_norm_ratio_stand_against_the_horizon(results: Results) -> None:
    (panel,) = quality_by_horizon(results).panels
    assert len([each for each in panel.figure.data if each.mode == "lines+markers"]) == 6
    norms = [list(each.y) for each in panel.figure.data if each.mode == "lines+markers" and each.yaxis == "y2"]
    assert norms == [pytest.approx([0.2, 0.1]), pytest.approx([0.5, 0.25]), pytest.approx([2, 1])]


def test_cosine_and_norm_ratio_stand_against_the_window(results: Results) -> None:
    group = quality_by_window(results)
    (panel,) = group.panels
    short, long = [each for each in panel.figure.data if each.mode == "lines+markers" and each.yaxis == "y2"]
    assert list(short.x) == [5, 10] and list(short.y) == pytest.approx([0.2, 0.5])
    assert list(long.y) == pytest.approx([0.1, 0.25])
    told = [(entry.label, entry.colour) for entry in group.legend]
    assert told == [("T = 20", short.line.color), ("T = 100", long.line.color)] and len(set(told)) == 2


def test_one_window_is_no_curve(writer: Any) -> None:
    gradient(writer, "rmd", "exact", 1.0)
    gradient(writer, "truncated[window=5]", "truncated", 0.2)
    assert quality_by_window(analyse(load_run(writer.finish()))).panels == ()


@pytest.mark.parametrize(
    ("method", "window"),
    [("truncated[window=5]", 5), ("truncated", None), ("truncated[window=x]", None), ("a[b", None), ("<b>", None)],
)
def test_the_window_is_read_from_a_method_s_options(method: str, window: float | None) -> None:
    assert window_of(method) == window


def test_the_implicit_family_has_a_table_of_its_own_with_residual_and_curvature(results: Results) -> None:
    (table,) = stationary_tables(results)
    assert [row[:2] for row in table.rows] == [("20", "implicit"), ("100", "implicit")]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert (row["residual"], row["seeds"], row["norm ratio"]) == ("0.10", "2", "2.00")
    assert row["curvature"] == "–" and row["cosine"] == "−1.0000"


def test_the_matrix_has_every_method_and_says_how_those_failed_that_have_no_result(writer: Any) -> None:
    for problem in ("digits/lenet", "digits/mlp"):
        gradient(writer, "rmd", "exact", 1.0, problem=problem)
    gradient(writer, "truncated[window=10]", "truncated", 0.5)
    writer.write(writer.plan("gradient", "digits/mlp", "higher", 0, horizons=[20, 100]), "timeout", {}, "over 60 s")
    writer.plan("gradient", "digits/lenet", "higher", 0, horizons=[20, 100])
    seconds, memory, quality = matrix_tables(analyse(load_run(writer.finish())))
    assert seconds.columns == ("method", "digits/lenet, T = 100", "digits/mlp, T = 100")
    assert seconds.rows == (
        ("rmd", "1.00", "1.00"),
        ("higher", "… missing", "✕ timeout"),
        ("truncated[window=10]", "–", "1.00 (1.00 ×)"),
    )
    assert memory.rows[0] == ("rmd", "1.00", "1.00") and quality.rows[2][2] == "1.0000, 0.250"


def test_one_problem_needs_no_matrix(results: Results) -> None:
    assert matrix_tables(results) == []
