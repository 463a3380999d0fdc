"""Two runs against each other: what is paired, what is judged, what is only named, and what trips a condition."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from l2t_bench.cli.main import app
from l2t_bench.errors import UserError
from l2t_bench.reports.compare import Comparison, compare
from l2t_bench.reports.comparison_json import as_json
from l2t_bench.reports.comparison_tables import tables
from l2t_bench.reports.conditions import parse_condition, tripped
from l2t_bench.reports.load import Run
from l2t_bench.reports.table import markdown

MACHINE = {"cpu": "A", "gpu": None, "cores": 2, "threads": 1, "platform": "Linux"}
STEADY = [1.0, 1.1, 0.9, 1.0, 1.05]
MIB = 2**20


def gradient(method: str, seed: int, seconds: float, *, mib: float | None = 8.0, **changes: Any) -> dict[str, Any]:
    """A gradient cell of one horizon, 20 unless told; ``round``, dtype, device, status and horizon can be changed."""
    measured = {
        "horizon": changes.pop("horizon", 20),
        "seconds": [seconds],
        "host_start_bytes": 0,
        "host_peak_bytes": None if mib is None else round(mib * MIB),
        "value": 0.1,
    }
    exactness = "exact" if method in ("rmd", "higher") else "truncated"
    return cell("gradient", method, seed, {"exactness": exactness, "runs": [measured]}, **changes)


def teaching(method: str, accuracies: Sequence[float], seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A teaching cell with one student per accuracy."""
    students = [
        {"seed": 100 + index, "dev_accuracy": value, "test_accuracy": value} for index, value in enumerate(accuracies)
    ]
    measured = {"loss": "learned", "lr": 1.0, "horizon": 300, "outer_steps": 20, "students": students}
    return cell("teaching", method, seed, measured, **changes)


def cell(kind: str, method: str, seed: int, measurements: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    row = {"suite": "quick", "kind": kind, "problem": "digits/mlp", "method": method, "seed": seed, "round": 0}
    row |= {"dtype": "float32", "device": "cpu", "status": "ok", "message": "", "seconds": 1.0}
    row |= {"suite_version": 2, "profile": "quick", "settings": {}, "variant": "", "machine": {}, "environment": "here"}
    row |= changes
    ok = row["status"] == "ok"
    identity = f"{kind}-{method}-{seed}-{row['round']}-{row['problem']}-{row['profile']}-{row['settings']}"
    return {"cell_id": identity, **row, "measurements": measurements if ok else {}}


def gradients(seconds: Mapping[str, Sequence[float]], factor: float = 1.0, **changes: Any) -> list[dict[str, Any]]:
    """A cell for each method and seed, all times multiplied by ``factor``."""
    return [
        gradient(method, seed, factor * value, **changes)
        for method, values in seconds.items()
        for seed, value in enumerate(values)
    ]


def run(name: str, cells: Sequence[Mapping[str, Any]], **machine: Any) -> Run:
    """A run whose cells are of the machine that they name, else of ``MACHINE`` with what is changed."""
    columns = list(cell("gradient", "", 0, {}))
    placed = [{**one, "machine": one["machine"] or {**MACHINE, **machine}} for one in cells]
    return Run(Path(name), {"suite": "quick", "profile": "quick"}, pd.DataFrame(placed, columns=columns), {}, ())


def compared(base: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], **machine: Any) -> Comparison:
    return compare(run("main", base), run("mine", new, **machine))


def row_of(comparison: Comparison, method: str, quantity: str = "time") -> Any:
    rows = comparison.rows[(comparison.rows["method"] == method) & (comparison.rows["quantity"] == quantity)]
    assert len(rows) == 1
    return rows.iloc[0]


# -- quantities


def test_a_run_does_not_differ_from_itself() -> None:
    cells = [*gradients({"rmd": STEADY, "higher": STEADY}), teaching("rmd", [0.9, 0.91, 0.92, 0.93, 0.94])]
    comparison = compared(cells, cells)
    assert set(comparison.rows["verdict"]) == {"~"}
    assert list(comparison.rows["quantity"]) == ["time", "memory", "time", "memory", "accuracy"]
    ratios = comparison.rows[comparison.rows["quantity"] != "accuracy"]
    assert (ratios[["value", "low", "high"]] == 1).all(axis=None)
    assert comparison.only_base.empty and comparison.only_new.empty and comparison.changed.empty
    assert comparison.not_comparable.empty and comparison.notes == ()
    assert tripped(comparison, parse_condition("time>1 or memory>1 or accuracy<0 or failures>0 or missing>0")) == []


def test_runs_of_one_name_are_told_apart() -> None:
    comparison = compare(run("old/quick", []), run("new/quick", []))
    assert (comparison.base, comparison.new) == ("quick (base)", "quick (new)")


def test_time_is_the_ratio_new_over_base_paired_by_seed() -> None:
    base = [gradient("rmd", seed, 10.0**seed) for seed in range(5)]
    new = [gradient("rmd", seed, 10.0**seed * factor) for seed, factor in enumerate([1.2, 1.3, 1.2, 1.3, 1.25])]
    row = row_of(compared(base, new[::-1]), "rmd")
    assert row["value"] == pytest.approx((1.2 * 1.3 * 1.2 * 1.3 * 1.25) ** 0.2)
    assert 1.2 <= row["low"] < row["value"] < row["high"] <= 1.3
    assert (row["n"], row["verdict"], row["horizon"]) == (5, "worse", 20)
    assert row["new"] / row["base"] == pytest.approx(row["value"])
    assert row["base"] == pytest.approx(100.0)


def test_less_memory_is_better_from_two_percent_on() -> None:
    base = gradients({"rmd": STEADY}, mib=100)
    assert row_of(compared(base, gradients({"rmd": STEADY}, mib=97)), "rmd", "memory")["verdict"] == "better"
    assert row_of(compared(base, gradients({"rmd": STEADY}, mib=99)), "rmd", "memory")["verdict"] == "~"


def test_a_change_of_four_percent_in_time_is_undecided_however_sure() -> None:
    row = row_of(compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, 1.04)), "rmd")
    assert row["low"] == pytest.approx(1.04) and row["verdict"] == "~"


def test_rounds_are_paired_with_rounds_and_do_not_inflate_n() -> None:
    base = [gradient("rmd", seed, 1.0 + number, round=number) for seed in range(4) for number in range(3)]
    new = [gradient("rmd", seed, 2.0 + 2 * number, round=number) for seed in range(4) for number in range(2)]
    comparison = compared(base, new)
    row = row_of(comparison, "rmd")
    assert (row["value"], row["n"], row["verdict"]) == (pytest.approx(2.0), 4, "n too small")
    assert row["low"] == pytest.approx(2.0)  # the interval stays
    assert set(comparison.only_base["round"]) == {2}


def test_accuracy_is_a_difference_in_points_over_students() -> None:
    base = [teaching("rmd", [0.90, 0.91, 0.92, 0.93, 0.94])]
    new = [teaching("rmd", [0.91, 0.92, 0.94, 0.94, 0.95])]
    row = row_of(compared(base, new), "rmd", "accuracy")
    assert row["value"] == pytest.approx(1.2)
    assert (row["base"], row["new"]) == (pytest.approx(0.92), pytest.approx(0.932))
    assert (row["n"], row["unit"], row["verdict"], row["horizon"]) == (5, "student", "better", 300)


def test_students_of_several_seeds_count_by_seed() -> None:
    base = [teaching("rmd", [0.90, 0.91, 0.92], seed) for seed in range(2)]
    new = [teaching("rmd", [0.80, 0.81, 0.82], seed) for seed in range(2)]
    row = row_of(compared(base, new), "rmd", "accuracy")
    assert (row["n"], row["unit"], row["verdict"]) == (2, "seed", "n too small")
    assert row["value"] == pytest.approx(-10)


def test_lower_accuracy_is_worse_and_one_that_only_scatters_is_undecided() -> None:
    base = [teaching("rmd", [0.9] * 6), teaching("higher", [0.9] * 6)]
    new = [teaching("rmd", [0.89, 0.88, 0.89, 0.88, 0.89, 0.89]), teaching("higher", [0.91, 0.89] * 3)]
    comparison = compared(base, new)
    assert row_of(comparison, "rmd", "accuracy")["verdict"] == "worse"
    assert row_of(comparison, "higher", "accuracy")["verdict"] == "~"


# -- cells that stand alone, and those that changed


def test_cells_of_one_run_alone_are_listed_and_not_judged() -> None:
    base = [*gradients({"rmd": STEADY}), gradient("higher", 0, 1.0)]
    new = [*gradients({"rmd": STEADY}), gradient("torchopt", 3, 1.0)]
    comparison = compared(base, new)
    assert comparison.only_base[["method", "seed"]].to_numpy().tolist() == [["higher", 0]]
    assert comparison.only_new[["method", "seed"]].to_numpy().tolist() == [["torchopt", 3]]
    assert set(comparison.rows["method"]) == {"rmd"}


def test_a_cell_that_has_not_run_is_missing_and_not_failing() -> None:
    base = gradients({"rmd": [1.0, 1.0]})
    new = [gradient("rmd", 0, 1.0), gradient("rmd", 1, 1.0, status="missing")]
    comparison = compared(base, new)
    assert len(comparison.only_base) == 1 and comparison.changed.empty
    assert comparison.notes == ("mine has no result yet for 1 of its 2 cells.",)


def test_changes_of_status_have_names() -> None:
    statuses = [("ok", "timeout"), ("crashed", "ok"), ("crashed", "timeout"), ("refused", "refused"), ("ok", "ok")]
    base = [gradient("rmd", seed, 1.0, status=old) for seed, (old, _) in enumerate(statuses)]
    new = [gradient("rmd", seed, 1.0, status=status) for seed, (_, status) in enumerate(statuses)]
    comparison = compared(base, new)
    changes = comparison.changed.set_index("seed")["change"].to_dict()
    assert changes == {0: "newly failing", 1: "fixed", 2: "failing otherwise"}
    assert list(comparison.newly_failing["new"]) == ["timeout"]
    assert row_of(comparison, "rmd")["n"] == 1


def test_a_horizon_of_one_run_alone_is_named() -> None:
    comparison = compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, horizon=50))
    assert comparison.rows.empty
    reasons = comparison.not_comparable.set_index(["horizon", "quantity"])["reason"]
    assert reasons[20, "time"] == "horizon only in main"
    assert reasons[50, "memory"] == "horizon only in mine"


@pytest.mark.parametrize(("column", "other"), [("dtype", "float64"), ("device", "cuda")])
def test_another_dtype_or_device_is_named_and_never_compared(column: str, other: str) -> None:
    base = gradients({"rmd": STEADY, "higher": STEADY})
    new = [*gradients({"rmd": STEADY}, 9.0, **{column: other}), *gradients({"higher": STEADY})]
    comparison = compared(base, new)
    assert set(comparison.rows["method"]) == {"higher"}
    left = comparison.not_comparable.iloc[0]
    assert (left["method"], left["seeds"]) == ("rmd", "0, 1, 2, 3, 4")
    assert left["reason"].startswith(column) and other in left["reason"]
    assert tripped(comparison, parse_condition("time>1.01")) == []
    assert any("time, memory of rmd on digits/mlp" in note for note in comparison.notes)


def test_cards_of_one_kind_are_one_device() -> None:
    base, new = gradients({"rmd": STEADY}, device="cuda:0"), gradients({"rmd": STEADY}, device="cuda:1")
    assert len(compared(base, new).rows) == 2


def test_memory_that_was_not_measured_is_named_and_time_compared() -> None:
    comparison = compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, mib=None))
    assert set(comparison.rows["quantity"]) == {"time"}
    assert comparison.not_comparable[["method", "quantity"]].to_numpy().tolist() == [["rmd", "memory"]]
    assert any("memory of rmd on digits/mlp, T = 20" in note for note in comparison.notes)


def test_a_pair_that_is_left_out_is_counted() -> None:
    new = [gradient("rmd", seed, value, mib=None if seed == 2 else 8.0) for seed, value in enumerate(STEADY)]
    comparison = compared(gradients({"rmd": STEADY}), new)
    assert row_of(comparison, "rmd", "memory")["n"] == 4
    assert comparison.notes == ("1 pairs without two usable values are left out.",)


# -- machines


def test_between_machines_ratios_to_the_baseline_are_compared() -> None:
    base = gradients({"rmd": STEADY, "higher": [2 * value for value in STEADY]})
    new = gradients({"rmd": [6 * value for value in STEADY], "higher": [6 * value for value in STEADY]})
    comparison = compared(base, new, cpu="B", cores=64)
    row = row_of(comparison, "rmd")
    assert (row["base"], row["new"], row["value"]) == (pytest.approx(0.5), pytest.approx(1.0), pytest.approx(2.0))
    assert row["verdict"] == "worse"
    assert set(comparison.rows["method"]) == {"rmd"}
    assert not comparison.same_machine
    assert "machines differ (cpu: A, B; cores: 2, 64)" in comparison.notes[0]
    assert "ratios to the baseline method on the same machine" in comparison.notes[0]
    assert set(comparison.not_comparable["method"]) == {"higher"}


def test_a_slower_machine_alone_is_no_difference() -> None:
    cells = {"rmd": STEADY, "higher": [2 * value for value in STEADY]}
    comparison = compared(gradients(cells), gradients(cells, 7.0), gpu="H")
    assert row_of(comparison, "rmd")["verdict"] == "~"
    assert row_of(comparison, "rmd")["value"] == pytest.approx(1.0)


def test_between_machines_the_baseline_is_one_that_both_have() -> None:
    base = gradients({"rmd": STEADY, "higher": STEADY, "truncated": STEADY})
    new = gradients({"rmd": STEADY, "truncated": STEADY})
    comparison = compared(base, new, cpu="B")
    assert set(comparison.rows["method"]) == {"truncated"}
    assert set(comparison.not_comparable["method"]) == {"rmd"}


def test_between_machines_the_baseline_is_one_that_both_have_at_the_horizon() -> None:
    both = {"rmd": STEADY, "truncated": STEADY}
    base = [*gradients(both), *gradients({"higher": STEADY})]
    new = [*gradients(both), *gradients({"higher": STEADY}, horizon=50)]
    comparison = compared(base, new, cpu="B")
    assert set(comparison.rows["method"]) == {"truncated"}
    left = comparison.not_comparable[["method", "horizon"]].drop_duplicates().to_numpy().tolist()
    assert sorted(left) == [["higher", 20], ["higher", 50], ["rmd", 20]]


def test_between_machines_without_an_exact_method_nothing_is_compared_but_accuracy() -> None:
    cells = [*gradients({"truncated": STEADY}), teaching("rmd", [0.9] * 5)]
    comparison = compared(cells, cells, cpu="B")
    assert set(comparison.rows["quantity"]) == {"accuracy"}
    assert set(comparison.not_comparable["quantity"]) == {"time", "memory"}


def test_a_machine_that_is_not_recorded_is_taken_to_be_the_same_and_named() -> None:
    cells = gradients({"rmd": STEADY})
    nameless = run("old", cells)
    nameless.cells["machine"] = [{} for _ in cells]
    comparison = compare(nameless, run("mine", cells))
    assert comparison.same_machine and len(comparison.rows) == 2
    assert comparison.notes == (
        "Not recorded by both runs, and taken to be the same: cpu, gpu, cores, threads, platform.",
    )


def test_the_threads_of_every_timed_cell_are_looked_at() -> None:
    """A run has an environment for each number of threads: what is not timed has one, whatever was asked for."""
    four, one = {**MACHINE, "threads": 4}, MACHINE
    base = [*gradients({"rmd": STEADY, "higher": STEADY}), teaching("rmd", [0.9] * 5)]
    new = [*gradients({"rmd": STEADY, "higher": STEADY}, 0.5, machine=four), teaching("rmd", [0.9] * 5, machine=one)]
    comparison = compared(base, new)
    assert not comparison.same_machine and "machines differ (threads: 1, 4)" in comparison.notes[0]
    assert row_of(comparison, "rmd")["verdict"] == "~"
    others = compared([*base[:-1], teaching("rmd", [0.9] * 5, machine=four)], base)
    assert others.same_machine, "what is not timed decides nothing about times"


def test_a_ratio_to_the_baseline_is_formed_on_one_machine() -> None:
    elsewhere = {**MACHINE, "cpu": "B"}
    base = gradients({"rmd": STEADY, "higher": STEADY, "torchopt": STEADY}, exactness="exact")
    new = [
        *gradients({"rmd": STEADY, "higher": STEADY}, 3.0),
        *gradients({"torchopt": STEADY}, 9.0, machine=elsewhere),
    ]
    comparison = compared(base, new)
    assert row_of(comparison, "rmd")["value"] == pytest.approx(1.0)
    assert "torchopt" not in set(comparison.rows["method"])
    left = comparison.not_comparable.set_index(["method", "quantity"])["reason"]
    assert left["torchopt", "time"] == "machines differ, and higher was not measured on the same one"


def test_pairs_of_one_machine_are_compared_as_they_are_also_where_a_run_has_several() -> None:
    elsewhere = {**MACHINE, "cpu": "B"}
    cells = [*gradients({"rmd": STEADY}), *gradients({"higher": STEADY}, machine=elsewhere)]
    comparison = compared(cells, cells)
    assert comparison.same_machine and set(comparison.rows["method"]) == {"rmd", "higher"}


def test_another_torch_is_said_and_compared() -> None:
    base = gradients({"rmd": STEADY}, machine={**MACHINE, "torch": "2.14"})
    new = gradients({"rmd": STEADY}, 2.0, machine={**MACHINE, "torch": "2.15"})
    comparison = compared(base, new)
    assert comparison.notes == ("The runs' versions of torch differ: 2.14 and 2.15.",)
    assert row_of(comparison, "rmd")["value"] == pytest.approx(2.0)


# -- settings


def test_another_setting_is_named_and_never_taken_for_an_effect_of_the_code() -> None:
    base = [teaching("rmd", [0.9] * 6, settings={"outer_steps": 25}), teaching("higher", [0.9] * 6)]
    new = [teaching("rmd", [0.95] * 6, settings={"outer_steps": 50}), teaching("higher", [0.9] * 6)]
    comparison = compared(base, new)
    assert set(comparison.rows["method"]) == {"higher"}
    assert comparison.not_comparable[["method", "reason"]].to_numpy().tolist() == [["rmd", "outer_steps 25 and 50"]]
    assert tripped(comparison, parse_condition("accuracy>1")) == []


def test_more_horizons_or_repeats_are_no_other_experiment() -> None:
    base = gradients({"rmd": STEADY}, settings={"horizons": [20, 100], "repeats": [3, 1]})
    new = gradients({"rmd": STEADY}, settings={"horizons": [20], "repeats": [3]})
    assert len(compared(base, new).rows) == 2


def test_runs_that_have_one_cell_under_several_settings_are_compared_setting_by_setting() -> None:
    settings = [{"outer_steps": 25}, {"outer_steps": 50}]
    base = [teaching("rmd", [0.9] * 6, settings=own) for own in settings]
    new = [teaching("rmd", [accuracy] * 6, settings=own) for own, accuracy in zip(settings, (0.9, 0.8), strict=True)]
    comparison = compared(base, new[::-1])
    values = comparison.rows.set_index("variant")["value"]
    assert values.to_dict() == {"outer_steps 25": pytest.approx(0.0), "outer_steps 50": pytest.approx(-10.0)}
    (sentence,) = tripped(comparison, parse_condition("accuracy<-1"))
    assert sentence.startswith("accuracy of rmd on digits/mlp (outer_steps 50), T = 300: −10.00")
    assert compared(base, new[:1]).only_base["variant"].tolist() == ["outer_steps 50"]
    assert [table.title for table in tables(comparison)] == [
        "mine against main on digits/mlp (outer_steps 25)",
        "mine against main on digits/mlp (outer_steps 50)",
    ]


# -- what degenerates


def test_empty_runs_compare_to_nothing_with_all_columns() -> None:
    comparison = compared([], [])
    assert comparison.rows.empty and {"value", "low", "high", "n", "verdict"} <= set(comparison.rows.columns)
    assert tables(comparison) == []
    assert tripped(comparison, parse_condition("time>1 or failures>0 or missing>0")) == []


def test_runs_without_a_cell_in_common_compare_to_lists() -> None:
    comparison = compared(gradients({"rmd": [1.0]}), [teaching("rmd", [0.9])])
    assert comparison.rows.empty
    assert (len(comparison.only_base), len(comparison.only_new)) == (1, 1)


def test_a_run_that_names_no_rounds_has_one() -> None:
    comparison = compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, 2.0, round=""))
    assert row_of(comparison, "rmd")["n"] == 5


# -- conditions


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("time>1.10", "time>1.1"),
        (" memory >= 1.02 ", "memory>=1.02"),
        ("accuracy<-0.5", "accuracy<-0.5"),
        ("time>1.1 or failures>0 OR missing>=1", "time>1.1 or failures>0 or missing>=1"),
        ("time<=1e-1", "time<=0.1"),
    ],
)
def test_conditions_are_read(text: str, read: str) -> None:
    assert str(parse_condition(text)) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tme>1.1", "did you mean 'time'"),
        ("Time>1.1", "did you mean 'time'"),
        ("zzz>1", "quantities: time, memory, accuracy, failures, missing"),
        (">1", "quantities: time, memory"),
        ("time>>1", "no comparison '>>'"),
        ("time==1", "there are >, >=, <, <="),
        ("time>fast", "the bound in 'time>fast' must be a finite number, not 'fast'"),
        ("time>", "must be a finite number"),
        ("time>10%", "must be a finite number"),
        ("time>nan", "must be a finite number"),
        ("time>inf", "must be a finite number"),
        ("time>1 and memory>1", "joined by ' or '"),
        ("time", "compares nothing"),
        ("time>1 or", "must be a finite number"),
        ("time>1 or or memory>1", "no quantity"),
        ("", "the condition is empty"),
        ("  ", "such as time>1.10"),
    ],
)
def test_a_mistaken_condition_is_told_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_condition(text)
    assert said in str(caught.value)
    assert "expected QUANTITY OP NUMBER" in str(caught.value)


def test_a_sure_change_beyond_the_bound_trips_with_a_sentence() -> None:
    comparison = compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, 1.5))
    assert tripped(comparison, parse_condition("time>1.10")) == [
        "time of rmd on digits/mlp, T = 20: 1.50 [1.50,\u00a01.50] times that of main (5 seeds), which trips time>1.1"
    ]
    assert tripped(comparison, parse_condition("time>1.6")) == []
    assert tripped(comparison, parse_condition("memory>1.10")) == []
    assert len(tripped(comparison, parse_condition("memory>1.1 or time>1.2"))) == 1


def test_a_change_whose_interval_holds_no_difference_does_not_trip() -> None:
    base = gradients({"rmd": [1.0] * 5})
    new = gradients({"rmd": [0.5, 3.0, 0.6, 2.9, 1.5]})
    comparison = compared(base, new)
    assert row_of(comparison, "rmd")["value"] > 1.1
    assert tripped(comparison, parse_condition("time>1.10")) == []


def test_below_five_seeds_the_estimate_decides_and_the_sentence_says_so() -> None:
    comparison = compared(gradients({"rmd": [1.0, 1.0]}), gradients({"rmd": [0.9, 2.0]}))
    (sentence,) = tripped(comparison, parse_condition("time>1.10"))
    assert "n too small: 2 seeds" in sentence
    (sentence,) = tripped(compared(gradients({"rmd": [1.0]}), gradients({"rmd": [2.0]})), parse_condition("time>1.10"))
    assert "2.00 times" in sentence and "n too small: 1 seed)" in sentence
    assert tripped(comparison, parse_condition("time>3")) == []


def test_a_loss_of_accuracy_trips_in_points() -> None:
    comparison = compared([teaching("rmd", [0.9] * 6)], [teaching("rmd", [0.89, 0.88] * 3)])
    (sentence,) = tripped(comparison, parse_condition("accuracy<-1"))
    assert sentence.startswith("accuracy of rmd on digits/mlp, T = 300: −1.50 [−1.83,\u00a0−1.17] points against main")
    assert sentence.endswith("(6 students), which trips accuracy<-1")
    assert tripped(comparison, parse_condition("accuracy<-2")) == []


def test_failures_and_missing_cells_are_counted_and_named() -> None:
    base = gradients({"rmd": STEADY, "higher": [1.0, 1.0]})
    new = [*gradients({"rmd": STEADY[:3]}), *gradients({"higher": [1.0, 1.0]}, status="oom_host")]
    comparison = compared(base, new)
    assert tripped(comparison, parse_condition("failures>1")) == [
        "2 cells newly failing in mine: higher on digits/mlp, seed 0, 1 (oom_host), which trips failures>1"
    ]
    assert tripped(comparison, parse_condition("missing>=2")) == [
        "2 cells of main not in mine: rmd on digits/mlp, seed 3, 4 (ok), which trips missing>=2"
    ]
    assert tripped(comparison, parse_condition("failures>2 or missing>2")) == []


def test_what_failed_before_is_no_new_failure() -> None:
    cells = gradients({"rmd": [1.0]}, status="timeout")
    assert tripped(compared(cells, cells), parse_condition("failures>0")) == []


# -- tables


def test_tables_show_every_row_and_every_cell_that_stands_alone_or_changed() -> None:
    base = [*gradients({"rmd": STEADY, "higher": STEADY}), gradient("torchopt", 0, 1.0), teaching("rmd", [0.9] * 5)]
    new = [
        *gradients({"rmd": STEADY}, 1.5),
        *gradients({"higher": STEADY}, status="timeout"),
        gradient("functorch", 0, 1.0),
        teaching("rmd", [0.91] * 5, dtype="float64"),
    ]
    main, changed, only_base, only_new, uncompared = tables(compared(base, new))
    assert main.title == "mine against main on digits/mlp"
    assert main.rows[0] == ("20", "rmd", "time, s", "worse", "1.01", "1.51", "1.50 [1.50,\u00a01.50] ×", "5")
    assert main.rows[1][:4] == ("20", "rmd", "memory, MiB", "~")
    assert changed.rows == (("newly failing", "gradient", "digits/mlp", "higher", "ok", "timeout", "0, 1, 2, 3, 4"),)
    assert only_base.title == "Cells only in main" and only_base.rows[0][2] == "torchopt"
    assert only_new.title == "Cells only in mine" and only_new.rows[0][2] == "functorch"
    assert uncompared.rows == (("digits/mlp", "rmd", "all", "accuracy", "0", "dtype float32 and float64"),)
    for table in (main, changed, only_base, only_new, uncompared):
        assert all(len(row) == len(table.columns) for row in table.rows)
        assert table.title in markdown([table])


def test_tables_keep_the_interval_of_few_seeds_and_say_between_machines_what_is_divided() -> None:
    few = compared(gradients({"rmd": [1.0, 1.0]}), gradients({"rmd": [1.5, 3.0]}))
    assert tables(few)[0].rows[0][3] == "n too small"
    assert tables(few)[0].rows[0][6] == "2.12 [1.50,\u00a03.00] ×"
    cells = gradients({"rmd": STEADY, "higher": STEADY})
    apart = tables(compared(cells, cells, cpu="B"))[0]
    assert apart.rows[0][2] == "time / baseline"
    assert "machines differ" in apart.note


def test_small_ratios_keep_two_digits() -> None:
    row = tables(compared(gradients({"rmd": STEADY}), gradients({"rmd": STEADY}, 0.0123)))[0].rows[0]
    assert row[6] == "0.012 [0.012,\u00a00.012] ×"


def test_tables_fit_a_terminal_of_120_columns() -> None:
    cells = [*gradients({"truncated[window=100]": STEADY}), teaching("truncated[window=100]", [0.9, 0.95] * 6)]
    worse = [*gradients({"truncated[window=100]": STEADY}, 123.4), teaching("truncated[window=100]", [0.7, 0.95] * 6)]
    table = tables(compared(cells, worse))[0]
    widths = [max(map(len, column)) for column in zip(table.columns, *table.rows, strict=True)]
    assert sum(widths) + 3 * len(widths) + 1 <= 120
    assert not any(math.isnan(value) for value in compared(cells, worse).rows["low"])


# -- the command


@pytest.fixture
def two_runs(kept_run: Path, tmp_path: Path) -> list[str]:
    """The kept run and a copy of it under another name."""
    shutil.copytree(kept_run, tmp_path / "mine")
    return [str(kept_run), str(tmp_path / "mine")]


def test_a_comparison_as_json_holds_what_its_tables_show(two_runs: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", *two_runs, "--format", "json", "--fail-on", "time>1.1"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and (found["base"], found["new"]) == ("quick", "mine")
    row = next(row for row in found["rows"] if row["quantity"] == "time" and row["method"] == "rmd")
    assert (row["value"], row["verdict"], row["horizon"]) == (1.0, "~", 20)
    accuracy = next(row for row in found["rows"] if row["quantity"] == "accuracy")
    assert accuracy["horizon"] in (300, None) and accuracy["value"] == 0.0
    assert found["condition"] == "time>1.1" and found["tripped"] == [] and found["only_base"] == []


def test_json_has_null_where_there_is_no_value() -> None:
    base, new = (
        gradients({"rmd": STEADY}),
        [*gradients({"rmd": [1.0]}), cell("gradient", "mine", 0, {}, status="error")],
    )
    found = json.loads(as_json(compared(base, new)))
    assert found["rows"][0]["low"] is None and found["only_new"][0]["method"] == "mine"


@pytest.mark.parametrize(
    ("form", "begins"),
    [("md", "**mine against quick on digits/lenet**"), ("text", "mine against quick on digits/lenet")],
)
def test_a_comparison_is_printed_as_text_or_markdown(two_runs: list[str], form: str, begins: str) -> None:
    done = CliRunner().invoke(app, ["compare", *two_runs, "--format", form])
    assert done.exit_code == 0 and done.stdout.lstrip().startswith(begins)


def test_a_condition_that_trips_is_exit_code_1_and_said_on_standard_error(two_runs: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", *two_runs, "--fail-on", "time>=1 or missing>=0", "--format", "json"])
    assert done.exit_code == 1 and json.loads(done.stdout)["tripped"] == [
        "0 cells of quick not in mine, which trips missing>=0"
    ]
    assert "which trips missing>=0" in done.stderr


def test_markdown_for_a_pull_request_says_what_tripped_or_that_nothing_did(two_runs: list[str]) -> None:
    tripped, calm = (
        CliRunner().invoke(app, ["compare", *two_runs, "--fail-on", condition, "--format", "md"]).stdout
        for condition in ("missing>=0", "time>1.1")
    )
    assert "**Condition: missing\\>=0**\n\n- 0 cells of quick not in mine, which trips missing\\>=0\n" in tripped
    assert "**Condition: time\\>1.1**\n\n- nothing trips it\n" in calm


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("", "the condition is empty"),
        ("time", "'time' compares nothing"),
        ("tme>1", "no quantity 'tme' in 'tme>1': did you mean 'time'?"),
        ("time=>1", "no comparison '=>'"),
        ("time>fast", "the bound in 'time>fast' must be a finite number, not 'fast'"),
        ("time>1 and memory>1", "several are joined by ' or '"),
    ],
)
def test_a_condition_that_is_none_is_said_before_a_run_is_read(condition: str, told: str) -> None:
    done = CliRunner().invoke(app, ["compare", "nowhere", "nowhere", "--fail-on", condition])
    assert isinstance(done.exception, UserError) and told in str(done.exception)
