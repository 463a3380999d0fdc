"""``l2t-bench report`` on runs and on records of benchmarks, next to each other."""

import re
import shutil
from pathlib import Path

import pytest
from parsed_page import Page
from typer.testing import CliRunner, Result

from l2t_bench.cli.main import app
from l2t_bench.reports.page import write_report

BY_HAND = Path(__file__).parent / "benchmarks" / "by_hand.json"


def report(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return shutil.copy(BY_HAND, tmp_path / "record.json")


def test_a_record_and_a_run_are_reported_in_one_command(record: Path, kept_run: Path) -> None:
    folder = shutil.copytree(kept_run, record.parent / "quick")
    done = report(folder, record)
    assert done.exit_code == 0
    assert (folder / "report.html").is_file() and record.with_name("record-report.html").is_file()
    assert "Teacher gradients on digits/mlp" in done.stdout and "Ratios wanted, and reached" in done.stdout


def test_markdown_has_every_table_and_writes_nothing(record: Path) -> None:
    done = report(record, "--format", "md")
    for title in (
        "Ratios wanted, and reached",
        "Outer step on",
        "In a process of its own",
        "When compiling",
        "Left out",
    ):
        assert f"**{title}" in done.stdout
    assert "| 100 | rmd[engine=compiled] | 1000 | 500 | 500 | 3 | 0.50 [0.38, 0.50] | 0.50 | torchopt |" in done.stdout
    assert [path.name for path in record.parent.iterdir()] == ["record.json"]


def test_each_format_is_written_alone(kept_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(kept_run, tmp_path / "quick")
    for made in (*folder.glob("*.csv"), *folder.glob("*.html")):  # by other tests of the same run
        made.unlink()
    before = set(folder.iterdir())
    page = report(folder, "--format", "html")
    assert {path.name for path in set(folder.iterdir()) - before} == {"report.html"} and "page:" in page.stdout
    report(folder, "--format", "csv")
    assert {"gradients.csv", "students.csv"} <= {path.name for path in set(folder.iterdir()) - before}
    text = tmp_path / "tables.tex"
    done = report(folder, "--format", "latex", "-o", text)
    assert done.stdout == "" and r"\toprule" in text.read_text()


def test_markdown_says_all_that_the_page_says_the_verdict_first(kept_run: Path, tmp_path: Path) -> None:
    done = report(kept_run, "--format", "md")
    titles = re.findall(r"^\*\*(.+)\*\*$", done.stdout, re.MULTILINE)
    assert titles[:2] == ["Run quick", "Verdict"], "how its cells ended, as in the page's head, and then the verdict"
    page = Page(write_report(kept_run, tmp_path / "page.html").read_text())
    titles = [attrs["aria-label"] or "" for _, attrs in page.elements if attrs.get("role") == "region"]
    assert len(titles) > 12
    for title in titles:
        assert f"**{title}**" in done.stdout, title
    assert "| cpu | Example CPU @ 2.0 GHz |" in done.stdout


def test_csv_files_go_into_the_runs_folder_and_nowhere_else(kept_run: Path, tmp_path: Path) -> None:
    done = report(kept_run, "--format", "csv", "-o", tmp_path / "x.csv")
    assert done.exit_code == 1 and "leave -o out" in str(done.exception)


def test_what_was_left_out_of_account_goes_to_standard_error(record: Path) -> None:
    assert "1 entry is of other benchmarks" in report(record).stderr


def test_the_page_goes_where_it_is_told_for_one_path_only(record: Path) -> None:
    page = record.with_name("page.html")
    assert report(record, "-o", page).exit_code == 0 and page.is_file()
    done = report(record, record.parent, "-o", page)
    assert done.exit_code == 1 and "-o names the page of one run" in str(done.exception)


def test_a_damaged_entry_is_exit_code_2_and_the_others_are_shown(record: Path) -> None:
    record.write_text(record.read_text().replace('"schema": 1', '"schema": 7', 1))
    done = report(record)
    assert done.exit_code == 2 and "schema 7, this version reads 1" in done.stderr and "Outer step on" in done.stdout


def test_a_file_that_is_no_record_says_so(record: Path) -> None:
    record.write_text("{")
    done = report(record)
    assert done.exit_code == 1 and "cut short or not JSON" in str(done.exception)
