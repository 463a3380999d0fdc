"""How an outer step grows with T, what fits, and which method to take within a memory limit: cases worked by hand."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.growth import fitting_horizons, largest_horizon, line_of, rounded_down
from l2t_bench.reports.growth_figure import memory_growth, time_growth
from l2t_bench.reports.growth_tables import fitting_tables, growth_tables
from l2t_bench.reports.load import load_run
from l2t_bench.reports.verdict import findings

MIB = 2**20


def measured(writer: Any, method: str, costs: dict[int, tuple[float, float]], *, seeds: int = 5) -> None:
    """``costs``: seconds and MiB by horizon; seeds spread over two per cent."""
    for seed in range(seeds):
        runs = {
            horizon: {
                "d_theta": {"a": np.ones(3, "f4")},
                "seconds": [seconds * (1 + 0.005 * seed)],
                "start": 0,
                "peak": round(mib * MIB),
            }
            for horizon, (seconds, mib) in costs.items()
        }
        writer.gradient("digits/mlp", method, seed, runs, "exact", horizons=list(costs))


@pytest.fixture
def grown(writer: Any) -> Results:
    measured(writer, "rmd", {10: (0.3, 14.0), 100: (2.1, 104.0), 1000: (20.1, 1004.0)})  # 0.1 + 0.02 T, 4 + T
    measured(writer, "truncated[window=5]", {10: (0.2, 8.0), 100: (0.2, 8.0), 1000: (0.2, 8.0)})
    measured(writer, "higher", {10: (0.1, 40.0)})
    return analyse(load_run(writer.finish()))


def test_a_line_through_points_of_a_line_is_that_line() -> None:
    horizons = np.array([10.0, 100.0, 1000.0])
    assert line_of(horizons, 4 + 0.5 * horizons) == pytest.approx((4, 0.5, 0), abs=1e-9)


def test_neither_part_of_a_law_is_below_zero_and_what_it_misses_is_told() -> None:
    fixed, per_step, misfit = line_of(np.array([10.0, 100.0]), np.array([1.0, 100.0]))
    assert fixed == 0 and per_step > 0 and misfit > 0.5
    fixed, per_step, misfit = line_of(np.array([10.0, 100.0]), np.array([2.0, 1.0]))
    assert per_step == 0 and 1 <= fixed <= 2 and misfit > 0.2


@pytest.mark.parametrize(
    ("law", "limit", "most"),
    [((4, 0.5), 104, 200), ((4, 0.5), 104.4, 200), ((4, 0.5), 4, 0), ((5, 0.5), 4, 0), ((4, 0), 4, math.inf)],
)
def test_the_largest_horizon_stays_within_the_limit(law: tuple[float, float], limit: float, most: float) -> None:
    assert largest_horizon(*law, limit) == most


@pytest.mark.parametrize(("steps", "told"), [(12_999, 12_000), (99, 99), (100, 100), (0, 0), (math.inf, math.inf)])
def test_a_largest_horizon_is_rounded_down(steps: float, told: float) -> None:
    assert rounded_down(steps) == told


def test_the_law_of_each_method_is_found_from_its_medians(grown: Results) -> None:
    laws = grown.growth.set_index(["method", "quantity"])
    assert laws.loc[("rmd", "memory"), ["fixed", "per_step"]].tolist() == pytest.approx([4, 1], rel=1e-6)
    assert laws.loc[("rmd", "time"), ["fixed", "per_step"]].tolist() == pytest.approx([0.101, 0.0202], rel=1e-6)
    assert laws.at[("truncated[window=5]", "memory"), "per_step"] == pytest.approx(0, abs=1e-9)
    assert "higher" not in laws.index.get_level_values("method"), "one horizon is no law"


def test_the_largest_t_that_fits_is_told_for_each_memory(grown: Results) -> None:
    (table,) = fitting_tables(grown)
    assert table.columns == ("method", "in 1 GB", "in 8 GB", "in 24 GB", "in 80 GB")
    assert dict(zip(table.columns, table.rows[0], strict=True))["in 1 GB"] == "940"  # 953.67 MiB less 4
    assert table.rows[1][0] == "truncated[window=5]" and set(table.rows[1][1:]) == {"any"}


def test_a_law_that_misses_its_own_measurements_is_marked() -> None:
    laws = pd.DataFrame(
        [{"problem": "p", "variant": "", "method": "m", "exactness": "exact", "quantity": "memory"}
         | {"fixed": 0.0, "per_step": 1.0, "misfit": 0.2}]
    )  # fmt: skip
    assert fitting_horizons(laws, [1.0])["misfit"].tolist() == [0.2]


def test_growth_has_a_table_and_two_figures(grown: Results) -> None:
    (table,) = growth_tables(grown)
    assert table.rows[0][:4] == ("rmd", "10 to 1000, 3", "0.101", "20.2")
    for group in (time_growth(grown), memory_growth(grown)):
        (panel,) = group.panels
        lines = [trace for trace in panel.figure.data if trace.mode == "lines"]
        assert len(lines) == 2 and "rmd" in panel.alt
    memory = memory_growth(grown).panels[0].figure.data[0]
    assert (memory.x[0], memory.y[0]) == pytest.approx((10, 14)) and memory.y[-1] == pytest.approx(1004)


def test_within_a_memory_limit_the_verdict_names_the_fastest_that_fits(writer: Any) -> None:
    measured(writer, "rmd", {100: (2.0, 10.0)})
    measured(writer, "torchopt", {100: (1.5, 25.0)})
    measured(writer, "higher", {100: (1.0, 100.0)})
    measured(writer, "functorch", {100: (3.0, 120.0)})
    results = analyse(load_run(writer.finish()))
    assert results.leaders["method"].tolist() == ["rmd", "torchopt", "higher"]
    assert results.leaders["against"].tolist() == ["", "rmd", "torchopt"]
    (found,) = [one for one in findings(results) if one.question == "Fastest exact method within a memory limit"]
    assert found.decided
    assert found.answer == "rmd from 10.0 MiB on, torchopt from 25.0 MiB on, higher from 100 MiB on"
    assert "torchopt takes 0.75× the time of rmd" in found.detail


def test_leaders_that_the_data_do_not_tell_apart_leave_the_limit_undecided(writer: Any) -> None:
    measured(writer, "rmd", {100: (1.0, 10.0)})
    measured(writer, "higher", {100: (0.99, 100.0)})
    (found,) = [one for one in findings(analyse(load_run(writer.finish()))) if "memory limit" in one.question]
    assert not found.decided and found.answer == "undecided" and "By the medians: rmd from 10.0 MiB on" in found.detail


def test_where_one_method_is_both_smallest_and_fastest_no_limit_matters(writer: Any) -> None:
    measured(writer, "rmd", {100: (1.0, 10.0)})
    measured(writer, "higher", {100: (2.0, 100.0)})
    assert not [one for one in findings(analyse(load_run(writer.finish()))) if "memory limit" in one.question]


def test_a_decided_verdict_comes_with_a_backend_to_copy_and_an_open_one_with_none(writer: Any) -> None:
    measured(writer, "rmd", {100: (1.0, 10.0)})
    measured(writer, "higher", {100: (2.0, 10.05)})
    speed, memory, *_ = findings(analyse(load_run(writer.finish())))
    assert speed.choice is not None and memory.choice is None and not memory.decided
    assert (speed.choice.method, speed.choice.problem, speed.choice.horizon) == ("rmd", "digits/mlp", 100)
    assert speed.choice.machine == {
        "cpu": "Example CPU @ 2.0 GHz", "cores": 2, "threads": 1, "platform": "Linux-x86_64", "device": "cpu",
    }  # fmt: skip
    assert speed.choice.versions["torch"] == "2.15.0" and speed.choice.why.startswith(
        "Fastest exact method on digits/mlp, T = 100. Next: higher takes 2.00×"
    )
