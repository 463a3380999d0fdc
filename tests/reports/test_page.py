"""The page: that it says what was derived, lets nothing hostile act, and asks nobody for anything."""

import base64
import gzip
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
from parsed_page import Page, numbers, written_like
from plotly.offline import get_plotlyjs

from l2t_bench.errors import UserError
from l2t_bench.reports import panels
from l2t_bench.reports.derive import analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import write_csv, write_report
from l2t_bench.reports.provenance import moment


@pytest.fixture(scope="module")
def page(kept_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of the run that no test changes."""
    return Page(write_report(kept_run, tmp_path_factory.mktemp("page") / "report.html").read_text(encoding="utf-8"))


def assert_shown(cell: str, *values: float) -> None:
    """Every number in the cell is the derived one, rounded; none is missing."""
    texts = numbers(cell)
    expected = [written_like(text, value) for text, value in zip(texts, values, strict=True)]
    assert texts == [re.sub(r"^[+-](0\.0+)$", r"\1", text) for text in expected]


def estimate(derived: Any, name: str) -> list[float]:
    return [derived[name], derived[f"{name}_low"], derived[f"{name}_high"]]


def test_every_number_of_the_gradient_tables_is_the_derived_one(kept_run: Path, page: Page) -> None:
    summary = analyse(load_run(kept_run)).summary
    rows = [row for row in page.rows("× time", "rel. error") if row["T"] != "–"]
    assert len(rows) == len(summary) == 2 * 2 * 6
    for row, (_, derived) in zip(rows, summary.iterrows(), strict=True):
        assert (row["T"], row["method"], row["exactness"]) == (
            str(derived["horizon"]),
            derived["method"],
            derived["exactness"],
        )
        assert_shown(row["seconds"], derived["seconds"])
        assert_shown(row["peak MiB"], derived["peak_above_start_mib"])
        if derived["method"] == "higher":
            assert row["× time"] == row["× memory"] == "baseline"
        else:
            assert_shown(row["× time"], *estimate(derived, "time_ratio"))
            assert_shown(row["× memory"], *estimate(derived, "memory_ratio"))
        if derived["method"] == "rmd":
            assert row["cosine"] == row["norm ratio"] == row["rel. error"] == "reference"
        else:
            assert_shown(row["cosine"], derived["cosine"])
            assert_shown(row["worst cosine"], derived["cosine_worst"])
            assert_shown(row["norm ratio"], derived["norm_ratio"])
            assert_shown(row["worst norm ratio"], derived["norm_ratio_worst"])
            assert_shown(row["rel. error"], derived["relative_error"])


def test_every_number_of_the_teaching_table_is_the_derived_one(kept_run: Path, page: Page) -> None:
    teaching = analyse(load_run(kept_run)).teaching
    rows = list(page.rows("test accuracy"))
    assert len(rows) == len(teaching) == 5
    for row, (_, derived) in zip(rows, teaching.iterrows(), strict=True):
        assert (row["loss"], row["students"]) == (derived["method"], "12")
        assert row["lr"].replace("*", "") == f"{derived['lr']:g} linear"
        assert_shown(row["test accuracy"], *estimate(derived, "test_accuracy"))
        for column, name in (("over cross-entropy", "over_cross_entropy"), ("over untrained", "over_untrained")):
            if pd.isna(derived[name]):
                assert row[column] == "–"
            else:
                assert_shown(row[column], *(100 * figure for figure in estimate(derived, name)))


def test_failures_are_shown_with_status_and_message(page: Page) -> None:
    rows = {row["status"]: row["message"] for row in page.rows("status", "message")}
    assert rows == {
        "refused": "no momentum: <script>alert(1)</script>",
        "crashed": "SIGKILL",
        "timeout": "over 600 s",
        "diverged": "adjoint at step 3",
    }
    for count in ("65 ok", "1 refused", "1 crashed", "1 timeout", "1 diverged"):
        assert count in page.text


def test_hostile_strings_are_text(page: Page) -> None:
    (executed,) = [source for attrs, source in page.scripts if "type" not in attrs]
    assert "alert(1)" not in executed
    assert "<script>alert(1)</script>" in "".join(row["method"] for row in page.rows("T", "method"))
    assert not [attrs for _, attrs in page.elements if any(name.startswith("on") for name in attrs)]


def test_hostile_names_in_a_plot_cannot_end_its_data_nor_become_markup(writer: Any) -> None:
    writer.teaching("digits/mlp", "</script><a href='x'>mine</a>", [0.9] * 10)
    source = write_report(writer.finish()).read_text(encoding="utf-8")
    data = [text for attrs, text in Page(source).scripts if attrs.get("type") == "application/json"]
    labels = json.loads(data[0])["layout"]["yaxis"]["ticktext"]
    assert labels == ["&lt;/script&gt;&lt;a href='x'&gt;mine&lt;/a&gt;"]


def unpacked(page: Page) -> str:
    """Plotly's own script, which stands in the page once."""
    (packed,) = [source for attrs, source in page.scripts if attrs.get("id") == "plotly"]
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_only_the_two_scripts_of_ours_may_run_and_nothing_may_be_fetched(page: Page) -> None:
    (policy,) = [
        attrs["content"] or "" for _, attrs in page.elements if attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    (own,) = [source for attrs, source in page.scripts if "type" not in attrs]
    executed = [unpacked(page), own]
    hashes = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in executed]
    assert re.search("script-src ([^;]*)", policy)[1] == " ".join(f"'sha256-{digest}'" for digest in hashes)  # type: ignore[index]


def test_the_page_refers_to_no_host(page: Page) -> None:
    for _, attrs in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            assert (attrs.get(name) or "#").startswith(("#", "data:"))
    assert "--paper" in page.style and "url(" not in page.style and "@import" not in page.style


def test_plotly_is_written_once_and_every_plot_has_its_data(page: Page) -> None:
    plots = [attrs["data-figure"] for tag, attrs in page.elements if attrs.get("class") == "plot" and tag == "div"]
    data = [attrs["id"] for attrs, text in page.scripts if attrs.get("type") == "application/json" and json.loads(text)]
    assert plots == data and len(plots) == 4 + 4 + 2 + 2 + 2 + 2 + 2 + 1 + 2
    assert unpacked(page) == get_plotlyjs()


def test_the_page_s_stand_in_colours_are_those_that_the_script_replaces(page: Page) -> None:
    own = page.scripts[-1][1]
    for colour in (panels.INK, panels.MUTED, panels.GRID, panels.PAPER):
        assert f'"{colour}"' in own


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02 03:04 UTC"),
        ("2026-01-02T03:04:05+00:00", "2026-01-02 03:04 UTC"),
        ("yesterday", "yesterday"),
        (None, ""),
    ],
)
def test_the_start_is_written_as_people_write_it(stamp: str | None, shown: str) -> None:
    assert moment(stamp) == shown


def test_an_unfinished_run_says_so(writer: Any) -> None:
    writer.teaching("digits/mlp", "rmd", [0.9] * 10)
    writer.plan("teaching", "digits/mlp", "cross-entropy", 0)
    page = Page(write_report(writer.finish()).read_text(encoding="utf-8"))
    assert "This run is not finished." in page.text
    assert "1 of 2 cells have no result yet" in page.text


def test_a_finished_run_does_not(page: Page) -> None:
    assert "not finished" not in page.text


def test_a_run_that_has_nothing_yet_still_has_a_page(writer: Any) -> None:
    writer.plan("gradient", "digits/mlp", "rmd", 0)
    writer.plan("teaching", "digits/mlp", "rmd", 0)
    page = Page(write_report(writer.finish()).read_text(encoding="utf-8"))
    assert "2 of 2 cells have no result yet" in page.text
    assert [row["exactness"] for row in page.rows("T", "method")] == ["missing"]


def test_warnings_stand_in_the_banner(run_folder: Path) -> None:
    file = next((run_folder / "cells").rglob("cell.json"))
    file.write_text("{")
    page = Page(write_report(run_folder).read_text(encoding="utf-8"))
    assert f"cell {file.parent.name}: cell.json is cut short or not JSON" in page.text
    assert "1 damaged" in page.text


def test_hyper_gradients_stand_on_the_page(writer: Any) -> None:
    run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [1.0], "start": 0, "peak": 2**20}
    asked = {**run, "hyper_gradients": {"d_momentum": 0.25, "d_omega0_norm": 3.0}}
    writer.gradient("digits/mlp", "rmd[hyper=true]", 0, {20: asked}, "exact")
    shown = Page(write_report(writer.finish()).read_text(encoding="utf-8"))
    (row,) = shown.rows("method", "d_momentum")
    assert (row["method"], row["d_momentum"], row["d_omega0_norm"]) == ("rmd[hyper=true]", "0.250", "3.00")


def test_the_downloads_are_the_csv_files(page: Page, kept_run: Path) -> None:
    links = {attrs["download"]: attrs["href"] for tag, attrs in page.elements if tag == "a" and "download" in attrs}
    written = {path.name: path.read_bytes() for path in write_csv(load_run(kept_run))}
    assert {"gradients.csv", "students.csv", "curves.csv", "summary.csv", "teaching.csv", "failures.csv"} <= set(
        written
    )
    assert set(links) - {"backend.toml"} == {f"quick-{name}" for name in written}
    for name, content in written.items():
        assert unquote_to_bytes((links[f"quick-{name}"] or "").partition(",")[2]) == content


def test_pandas_reads_the_csv_files_back(run_folder: Path) -> None:
    path = next(path for path in write_csv(load_run(run_folder)) if path.name == "gradients.csv")
    read = pd.read_csv(io.BytesIO(path.read_bytes()))
    expected = analyse(load_run(run_folder)).gradients
    assert list(read.columns) == list(expected.columns)
    assert read["seconds"].tolist() == pytest.approx(expected["seconds"].tolist())
    assert read["cosine"].tolist() == pytest.approx(expected["cosine"].tolist())


def test_the_page_goes_where_it_is_told(run_folder: Path, tmp_path: Path) -> None:
    assert write_report(run_folder, tmp_path / "page.html") == tmp_path / "page.html"
    assert (tmp_path / "page.html").is_file() and not (run_folder / "report.html").exists()


def test_a_page_that_cannot_be_written_is_a_user_error(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run_folder, tmp_path / "file" / "page.html")


def test_a_page_is_written_whole_or_not_at_all(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = write_report(run_folder, tmp_path / "page.html")
    before, files = page.read_bytes(), sorted(tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("l2t_bench.engine.store.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_report(run_folder, page)
    assert page.read_bytes() == before and sorted(tmp_path.iterdir()) == files


def test_the_same_run_makes_the_same_page(run_folder: Path, tmp_path: Path) -> None:
    pages = [write_report(run_folder, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_a_note_that_the_next_table_repeats_stands_once(page: Page) -> None:
    note = "An outer step takes so much once and so much for each of its T steps"
    assert sum("How an outer step grows" in (attrs.get("aria-label") or "") for _, attrs in page.elements) == 2
    assert page.text.count(note) == 1
