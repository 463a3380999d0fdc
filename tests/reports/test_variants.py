"""Results of several machines, profiles or settings in one run: told apart, never set against each other unseen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from l2t_bench.reports import derive, load, load_teaching, provenance, text, variants
from l2t_bench.reports.load import load_run
from l2t_bench.reports.verdict import findings

OTHER = {"cpu": "Another CPU"}


def measured(seconds: float, horizons: tuple[int, ...] = (20,), direction: float = 1.0) -> dict[int, dict[str, Any]]:
    d_theta = {"a": np.array([direction, 1.0], "f4")}
    return {
        horizon: {"d_theta": d_theta, "seconds": [seconds], "start": 0, "peak": 2**20 * horizon} for horizon in horizons
    }


def gradients(writer: Any, method: str, seconds: float, seeds: int = 5, **settings: Any) -> None:
    for seed in range(seeds):
        writer.gradient("digits/mlp", method, seed, measured(seconds + 0.01 * seed), "exact", **settings)


def summary(folder: Path) -> Any:
    return derive.analyse(load_run(folder)).summary.set_index(["variant", "method"])


# -- machines


@pytest.fixture
def two_machines(writer: Any) -> Path:
    """``rmd`` measured on one machine, ``higher`` on another."""
    gradients(writer, "rmd", 1.0)
    writer.ran_on("other", **OTHER)
    gradients(writer, "higher", 2.0)
    folder: Path = writer.finish()
    return folder


def test_no_ratio_is_formed_across_machines(two_machines: Path) -> None:
    rows = summary(two_machines)
    assert rows.index.tolist() == [("cpu Another CPU", "higher"), ("cpu Example CPU @ 2.0 GHz", "rmd")]
    assert rows["baseline"].tolist() == ["higher", "rmd"] and rows["time_ratio"].tolist() == [1.0, 1.0]


def test_a_report_of_two_machines_says_so_in_its_warnings_tables_and_verdict(two_machines: Path) -> None:
    run = load_run(two_machines)
    assert run.warnings == (
        "measured on several machines (cpu: Example CPU @ 2.0 GHz, Another CPU): ratios and differences are formed "
        "on one machine only",
    )
    first, second = text.summary_tables(run)
    assert first.title == "Teacher gradients on digits/mlp (cpu Another CPU), 5 seeds"
    assert [row[1] for row in second.rows] == ["rmd"]
    assert "no ratio or difference is formed with it" in first.note and "cpu Another CPU" in first.note
    assert not [found for found in findings(derive.analyse(run)) if "× the" in found.detail]


def test_the_page_names_every_machine_that_results_come_from(two_machines: Path) -> None:
    run = load_run(two_machines)
    assert provenance.machines(run) == [
        "Example CPU @ 2.0 GHz, 2 cores, device cpu, 1 thread per cell",
        "Another CPU, 2 cores, device cpu, 1 thread per cell",
    ]
    assert dict(provenance.provenance(run))["cpu"] == "Example CPU @ 2.0 GHz; Another CPU"


@pytest.mark.parametrize("change", [{"threads": 4}, {"torch": "2.14.0"}, {"gpu": "NVIDIA H200"}, {"platform": "x"}])
def test_results_of_other_threads_libraries_or_cards_are_not_paired(writer: Any, change: dict[str, Any]) -> None:
    gradients(writer, "higher", 2.0)
    writer.ran_on("other", **change)
    gradients(writer, "rmd", 1.0)
    rows = summary(writer.finish())
    assert len(set(rows.index.get_level_values("variant"))) == 2 and set(rows["time_ratio"]) == {1.0}


@pytest.mark.parametrize("change", [{"commit": "fff0000"}, {"python": "3.12.0"}, {"flags": {"A": "1"}}])
def test_another_commit_is_no_other_machine(writer: Any, change: dict[str, Any]) -> None:
    gradients(writer, "higher", 2.0)
    writer.ran_on("other", **change)
    gradients(writer, "rmd", 1.0)
    rows = summary(writer.finish())
    assert rows.loc[("", "rmd"), "time_ratio"] == pytest.approx(0.5, rel=0.01)


def test_each_machines_seeds_are_paired_with_its_own(writer: Any) -> None:
    for name, changes, seeds, factor in (("abc", {}, range(5), 1.0), ("other", OTHER, range(5, 10), 3.0)):
        writer.ran_on(name, **changes)
        for seed in seeds:
            for method, seconds in (("rmd", 1.0), ("higher", 2.0 * factor)):
                writer.gradient("digits/mlp", method, seed, measured(seconds), "exact")
    rows = summary(writer.finish())["time_ratio"]
    assert rows["cpu Example CPU @ 2.0 GHz", "rmd"] == pytest.approx(1 / 2)
    assert rows["cpu Another CPU", "rmd"] == pytest.approx(1 / 6)


def test_gradients_of_another_machine_are_no_reference(writer: Any) -> None:
    gradients(writer, "rmd", 1.0, seeds=1)
    writer.ran_on("other", **OTHER)
    writer.gradient("digits/mlp", "truncated", 0, measured(1.0, direction=-1.0), "truncated")
    assert summary(writer.finish()).loc[("cpu Another CPU", "truncated"), "reference"] == ""


def test_students_of_two_machines_are_not_paired(writer: Any) -> None:
    writer.teaching("digits/mlp", "rmd", [0.95] * 10)
    writer.ran_on("other", **OTHER)
    writer.teaching("digits/mlp", "cross-entropy", [0.9] * 10)
    teaching = derive.analyse(load_run(writer.finish())).teaching
    assert teaching["over_cross_entropy"].isna().all()


def test_a_result_whose_environment_is_lost_is_paired_with_none_that_is_known(writer: Any) -> None:
    gradients(writer, "higher", 2.0)
    writer.ran_on("lost")
    gradients(writer, "rmd", 1.0)
    (writer.finish() / "environments" / "lost.json").unlink()
    run = load_run(writer.path)
    assert run.warnings == ("environments/lost.json is missing or damaged: where 5 cells ran is not known",)
    assert dict(zip(run.cells["method"], run.cells["variant"], strict=True)) == {
        "higher": "",
        "rmd": "machine not known",
    }


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", ".."])
def test_an_environments_name_never_leads_out_of_the_run(writer: Any, name: str) -> None:
    writer.environment = name
    gradients(writer, "rmd", 1.0, seeds=1)
    run = load_run(writer.finish())
    assert not run.environments and run.damaged == (1 if "/" in name or name == ".." else 0)


def test_cells_that_are_still_to_be_run_stand_beside_those_that_were(writer: Any) -> None:
    gradients(writer, "rmd", 1.0, seeds=2)
    writer.plan("gradient", "digits/mlp", "rmd", 2)
    assert set(load_run(writer.finish()).cells["variant"]) == {""}


# -- settings and profiles


def test_two_profiles_stand_side_by_side_and_neither_is_lost(writer: Any) -> None:
    settings = {"horizons": [20], "repeats": [3]}
    gradients(writer, "rmd", 1.0, **settings)
    writer.profile = "smoke"
    gradients(writer, "rmd", 7.0, **settings)
    run = load_run(writer.finish())
    assert not run.warnings and len(load.gradients(run)) == 10
    assert [table.title for table in text.summary_tables(run)] == [
        "Teacher gradients on digits/mlp (profile quick), 5 seeds",
        "Teacher gradients on digits/mlp (profile smoke), 5 seeds",
    ]


def test_horizons_of_several_cells_are_rows_of_one_table(writer: Any) -> None:
    for horizon in (5, 20):
        settings = {"horizons": [horizon], "repeats": [3]}
        writer.gradient("digits/mlp", "rmd", 0, measured(1.0, (horizon,)), "exact", **settings)
    (table,) = text.summary_tables(load_run(writer.finish()))
    assert [row[0] for row in table.rows] == ["5", "20"]


def test_one_horizon_measured_by_two_settings_is_told_apart(writer: Any) -> None:
    for repeats in (3, 9):
        gradients(writer, "rmd", float(repeats), horizons=[20], repeats=[repeats])
    rows = summary(writer.finish())["seconds"]
    assert rows.to_dict() == {("repeats [3]", "rmd"): pytest.approx(3.02), ("repeats [9]", "rmd"): pytest.approx(9.02)}


def test_teachers_of_other_settings_are_neither_averaged_nor_compared(writer: Any) -> None:
    for outer_steps, accuracy in ((25, 0.95), (50, 0.97)):
        settings = {"outer_steps": outer_steps, "lr": 1.2}
        for method, gain in (("rmd", 0.0), ("cross-entropy", -0.01)):
            folder = writer.plan("teaching", "digits/mlp", method, 0, **settings)
            students = [
                {"seed": seed, "dev_accuracy": 0.9, "test_accuracy": accuracy + gain + 0.001 * seed}
                for seed in range(6)
            ]
            writer.write(folder, "ok", {"loss": "learned", "lr": 1.2, "schedule": "linear", "students": students})
    results = derive.analyse(load_run(writer.finish()))
    assert set(results.teaching["variant"]) == {"outer_steps 25", "outer_steps 50"}
    gains = results.teaching.set_index(["variant", "method"])["over_cross_entropy"]
    assert gains["outer_steps 25", "rmd"] == pytest.approx(0.01) == gains["outer_steps 50", "rmd"]


def test_a_setting_that_is_called_like_a_fact_of_the_machine_still_tells_cells_apart(writer: Any) -> None:
    for threads in (1, 2):
        gradients(writer, "rmd", 1.0, threads=threads)
    assert set(load_run(writer.finish()).cells["variant"]) == {"threads 1", "threads 2"}


def test_the_tables_of_a_run_carry_the_suite_profile_and_variant_of_every_row(run_folder: Path) -> None:
    run = load_run(run_folder)
    for frame in (load.gradients(run), load_teaching.students(run), load_teaching.curves(run)):
        assert {"suite", "profile", "variant"} <= set(frame.columns)
    assert set(load_teaching.students(run)["environment"]) == {"abc"}


def test_a_place_has_its_variant_in_brackets() -> None:
    assert variants.case_name("digits/mlp", "") == "digits/mlp"
    assert variants.case_name("digits/mlp", "threads 4") == "digits/mlp (threads 4)"


def test_what_differs_is_named_in_order() -> None:
    assert variants.differing([{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": None}, {"a": 1, "b": 2}]) == ["b"]
    assert variants.differing([{"a": 1}, {"a": 1, "c": 0}]) == ["c"]
    assert json.loads(json.dumps(variants.machine_of({"cpu": "A", "user": "me"}))) == {"cpu": "A"}
