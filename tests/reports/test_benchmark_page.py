"""The page of benchmarks: that it says what was derived, lets nothing hostile act, and gives its data away."""

import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pandas as pd
import pytest

from l2t_bench.errors import UserError
from l2t_bench.reports.benchmark_derive import BenchmarkResults, analyse_benchmarks
from l2t_bench.reports.benchmark_load import load_benchmarks
from l2t_bench.reports.benchmark_page import (
    benchmark_frames,
    record_provenance,
    write_benchmark_csv,
    write_benchmark_report,
)
from l2t_bench.reports.benchmark_tables import benchmark_tables

BY_HAND = Path(__file__).parent / "benchmarks" / "by_hand.json"
HOSTILE = "</script><script>alert(1)</script>"


def results_of(path: Path) -> BenchmarkResults:
    return analyse_benchmarks(load_benchmarks(path))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The record made by hand, where a report may write beside it."""
    return shutil.copy(BY_HAND, tmp_path / "record.json")


def test_every_table_stands_in_the_page(record: Path) -> None:
    results = results_of(record)
    source = write_benchmark_report(results).read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<wbr>|</?(?:td|th)[^>]*>", "\n", source).replace("\n[", "["))
    for table in benchmark_tables(results):
        assert table.title in shown
        for row in table.rows:
            assert all(cell in shown for cell in row)
    assert "Ratios wanted: 2 of 4 reached, 1 not measured." in shown
    assert "10 timed" in shown and "1 of other benchmarks" in shown


def test_the_files_go_beside_the_record_or_into_its_folder(record: Path) -> None:
    beside = [write_benchmark_report(results_of(record)), *write_benchmark_csv(results_of(record))]
    assert {path.name for path in beside} == {
        "record-report.html",
        *(f"record-{name}.csv" for name in ("timings", "rounds", "alone", "stated", "break-even", "left-out")),
    }
    inside = write_benchmark_report(results_of(record.parent))
    assert inside == record.parent / "report.html"


def test_pandas_reads_every_round_back(record: Path) -> None:
    write_benchmark_csv(results_of(record))
    rounds = pd.read_csv(record.with_name("record-rounds.csv"))
    whole = rounds[(rounds["phase"] == "outer step") & (rounds["method"] == "torchopt")]
    assert whole["round"].tolist() == [0, 1, 2] and whole["seconds"].tolist() == [2.0, 4.0, 1.0]
    timings = pd.read_csv(record.with_name("record-timings.csv"))
    assert timings["ratio"].round(9).tolist() == [0.75, 0.25, 1.0, 1.5, 0.5, 1.25, 1.0]


def test_the_downloads_are_the_csv_files(record: Path) -> None:
    results = results_of(record)
    source = write_benchmark_report(results).read_text(encoding="utf-8")
    links = dict(re.findall(r'download="record-([^"]*)" href="data:[^,]*,([^"]*)"', source))
    assert set(links) == set(benchmark_frames(results))
    for path in write_benchmark_csv(results):
        assert unquote_to_bytes(links[path.name.removeprefix("record-")]) == path.read_bytes()


def test_hostile_strings_are_text(tmp_path: Path) -> None:
    content = json.loads(BY_HAND.read_text())
    content["machine_info"]["cpu"]["brand_raw"] = content["commit_info"]["branch"] = HOSTILE
    content["datetime"] = content["version"] = HOSTILE
    content["machine_info"]["l2t_bench"] = {"threads": HOSTILE, "libraries": {HOSTILE: HOSTILE}}
    for entry in content["benchmarks"][:-1]:
        extra = entry["extra_info"]
        extra |= {"problem": HOSTILE, "turns": HOSTILE, "left_out": {HOSTILE: HOSTILE}}
        extra["backend"] = extra["backend"] + HOSTILE
        extra["phase"] = extra["phase"] if extra["alone"] else f"{HOSTILE}{extra['phase']}"
    content["benchmarks"][0]["extra_info"]["phase"] = "outer step"
    content["benchmarks"][0]["name"], content["benchmarks"][1]["extra_info"]["schema"] = HOSTILE, HOSTILE
    (tmp_path / "record.json").write_text(json.dumps(content))
    results = results_of(tmp_path / "record.json")
    source = write_benchmark_report(results).read_text(encoding="utf-8")
    assert HOSTILE in " ".join(results.methods) and html.escape(HOSTILE) in source
    assert "<script>alert" not in source
    assert len(re.findall(r"<script>", source)) == 1  # plots, and what is packed, are data


def test_the_page_refers_to_no_host(record: Path) -> None:
    source = write_benchmark_report(results_of(record)).read_text(encoding="utf-8")
    assert "default-src 'none'" in html.unescape(source)
    assert all(
        link.startswith(("#", "data:"))
        for link in re.findall(r'(?:href|src)="([^"]*)"', source.partition("<script>")[0])
    )


def test_provenance_tells_machine_commit_and_versions_and_no_host_name() -> None:
    told = dict(record_provenance(load_benchmarks(BY_HAND).records[0]))
    assert told["commit"] == "abcdef012345 on work, 2026-01-02 03:00 UTC, with changes that are not committed"
    assert told["cpu"] == "Example CPU @ 2.0 GHz" and told["cores"] == "2" and told["torch"] == "2.15.0"
    assert told["libraries"] == "higher 0.2.1, torchopt 0.7.3" and told["pytest-benchmark"] == "5.3.1"
    assert "example" not in told.values()


def test_a_record_that_says_little_of_its_machine_still_has_a_page(tmp_path: Path) -> None:
    content = json.loads(BY_HAND.read_text()) | {"machine_info": {"cpu": 3, "l2t_bench": []}, "commit_info": {}}
    (tmp_path / "record.json").write_text(json.dumps(content))
    assert write_benchmark_report(results_of(tmp_path / "record.json")).is_file()


def test_a_place_that_cannot_be_written_is_a_user_error(record: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_benchmark_report(results_of(record), record / "page.html")


def test_the_same_record_makes_the_same_page(record: Path, tmp_path: Path) -> None:
    pages = [write_benchmark_report(results_of(record), tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]
