"""Reading pytest-benchmark's JSON: what is taken, what is counted, what is refused, and what is said about it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from l2t_bench.errors import UserError
from l2t_bench.reports.benchmark_load import holds_benchmarks, load_benchmarks
from l2t_bench.reports.benchmark_record import read_record

RECORDS = Path(__file__).parent / "benchmarks"
BY_HAND = RECORDS / "by_hand.json"


def edited(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The record made by hand, changed by a function of its content."""
    content = json.loads(BY_HAND.read_text())
    change(content)
    file = tmp_path / "record.json"
    file.write_text(json.dumps(content))
    return file


def test_every_entry_of_ours_is_a_row_in_seconds_and_mib() -> None:
    record = read_record(BY_HAND)
    assert len(record.timings) == 10 and record.damaged == 0
    row = record.timings.set_index(["phase", "alone", "method"]).loc[("outer step", True, "rmd[engine=compiled]")]
    assert (row["median_seconds"], row["min_seconds"], row["rounds"]) == (1.2, 1.0, 3)
    assert (row["peak_above_start_mib"], row["seconds_compile"]) == (3.0, 2.0)
    assert row["round_seconds"] == (1.2, 1.0, 1.4)


def test_a_real_record_is_read_whole() -> None:
    record = read_record(RECORDS / "real.json")
    assert not record.warnings and not record.damaged and not record.others
    assert set(record.timings["phase"]) == {"rollout", "reverse", "outer step"}
    assert (record.timings["min_seconds"] > 0).all() and record.timings["round_seconds"].map(len).eq(5).all()


def test_entries_of_other_benchmarks_are_counted_and_said() -> None:
    record = read_record(BY_HAND)
    assert record.others == 1
    assert record.warnings == ("1 entry is of other benchmarks, and left out",)


def test_what_was_left_out_is_kept_with_its_reason_once() -> None:
    left = read_record(BY_HAND).left_out
    assert left[["horizon", "method", "reason"]].values.tolist() == [
        [100, "functorch", "would take 12 GB, and 8 GB are left"]
    ]


def test_a_record_without_the_rounds_own_times_is_taken(tmp_path: Path) -> None:
    file = edited(tmp_path, lambda content: [entry["stats"].pop("data") for entry in content["benchmarks"]])
    record = read_record(file)
    assert len(record.timings) == 10 and not record.damaged
    assert set(record.timings["round_seconds"]) == {()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cut short or not JSON"),
        (BY_HAND.read_bytes()[:400], "cut short or not JSON"),
        (b"\xff\xfe", "cut short or not JSON"),
        (b"[" * 100_000, "cut short or not JSON"),
        (b"[]", "not a record of pytest-benchmark: it has 'benchmarks'"),
        (b'{"schema": 2, "suites": ["quick"]}', "not a record of pytest-benchmark: it has 'benchmarks'"),
        (b'{"benchmarks": [1]}', "'benchmarks' missing or of another form"),
        (b'{"benchmarks": []}', "'machine_info' missing or of another form"),
    ],
    ids=["empty", "cut short", "not text", "nested too deeply", "a list", "a plan", "entries of another form", "bare"],
)
def test_a_file_that_is_no_record_is_a_user_error(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_record(file)


@pytest.mark.parametrize("name", ["machine_info", "commit_info", "datetime", "version"])
def test_a_record_that_lacks_what_pytest_benchmark_writes_is_told_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"'{name}' missing"):
        read_record(edited(tmp_path, lambda content: content.pop(name)))


def test_a_record_of_other_benchmarks_only_is_a_user_error(tmp_path: Path) -> None:
    file = edited(tmp_path, lambda content: content.update(benchmarks=content["benchmarks"][-1:]))
    with pytest.raises(UserError, match="none of its 1 entry times an outer step; `make benchmark`"):
        read_record(file)


def _extra(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["extra_info"].update(changes)


def _stats(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry["stats"].update(changes)


DAMAGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "another schema": (_extra(schema=2), "schema 2, this version reads 1"),
    "no schema": (lambda entry: entry["extra_info"].pop("schema"), "schema None"),
    "no phase": (lambda entry: entry["extra_info"].pop("phase"), "'phase'"),
    "text for a horizon": (_extra(horizon="100"), "'horizon'"),
    "no horizon to speak of": (_extra(horizon=0), "'horizon'"),
    "a nameless backend": (_extra(backend=""), "'backend'"),
    "a number for peer": (_extra(peer=1), "'peer'"),
    "a negative compilation": (_extra(seconds_compile=-1), "'seconds_compile'"),
    "a peak that is no list": (_extra(peak_above_start_bytes=5), "'peak_above_start_bytes'"),
    "a wish for nothing": (_extra(at_most=[{"of": "time", "against": "higher", "ratio": 0}]), "'at_most'"),
    "a wish of something else": (_extra(at_most=[{"of": "luck", "against": "higher", "ratio": 1}]), "'at_most'"),
    "no stats": (lambda entry: entry.pop("stats"), "no stats"),
    "a median of text": (_stats(median="1"), "'median'"),
    "a time that is not a number": (_stats(min=float("nan")), "'min'"),
    "a negative time": (_stats(min=-1.0), "'min'"),
    "no rounds": (_stats(rounds=0), "'rounds'"),
    "an infinite round": (_stats(data=[1.0, float("inf"), 1.0]), "'data'"),
    "a round too few": (_stats(data=[1.0, 2.0]), "more or fewer data than rounds"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_a_warning_and_never_a_result(tmp_path: Path, damage: str) -> None:
    change, said = DAMAGES[damage]
    record = read_record(edited(tmp_path, lambda content: change(content["benchmarks"][0])))
    assert (len(record.timings), record.damaged) == (9, 1)
    assert record.warnings[0].startswith("test_outer_step[digits/mlp") and said in record.warnings[0]


def test_an_entry_that_stands_twice_counts_once(tmp_path: Path) -> None:
    record = read_record(edited(tmp_path, lambda content: content["benchmarks"].insert(1, content["benchmarks"][0])))
    assert (len(record.timings), record.damaged) == (10, 1)
    assert "twice" in record.warnings[0]


def test_many_entries_with_one_fault_make_one_warning(tmp_path: Path) -> None:
    file = edited(
        tmp_path, lambda content: [entry["extra_info"].update(schema=0) for entry in content["benchmarks"][:4]]
    )
    record = read_record(file)
    assert record.damaged == 4 and len(record.warnings) == 2
    assert "and 3 more: its extra_info has schema 0" in record.warnings[0]


# -- folders


def test_a_folder_s_records_are_read_newest_first_with_those_of_pytest_benchmark_s_folders(tmp_path: Path) -> None:
    (tmp_path / "Linux-CPython").mkdir()
    shutil.copy(BY_HAND, tmp_path / "Linux-CPython" / "0001_old.json")
    newer = edited(tmp_path, lambda content: content.update(datetime="2026-02-02T03:04:05+00:00"))
    assert holds_benchmarks(tmp_path)
    found = load_benchmarks(tmp_path)
    assert [record.name for record in found.records] == [newer.stem, "0001_old"]
    assert len(found.timings) == 20


def test_a_file_that_is_no_record_costs_a_folder_only_itself(tmp_path: Path) -> None:
    shutil.copy(BY_HAND, tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{")
    found = load_benchmarks(tmp_path)
    assert len(found.records) == 1 and found.damaged == 1
    assert any("b.json is cut short" in warning for warning in found.warnings)


def test_a_folder_with_no_record_says_why(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match=r"b\.json is cut short"):
        load_benchmarks(tmp_path)


def test_a_run_s_folder_is_not_taken_for_benchmarks(kept_run: Path, tmp_path: Path) -> None:
    assert not holds_benchmarks(kept_run) and not holds_benchmarks(kept_run.parent)
    assert not holds_benchmarks(tmp_path) and not holds_benchmarks(tmp_path / "nowhere")
