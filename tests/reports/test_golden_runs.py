"""The page of every kind of run: whole, inert, asking nobody for anything, and true to its own data."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest
from golden_runs import GOLDEN, HOSTILE_NAMES, large, look_at_phi
from invented_runs import RunWriter
from parsed_page import Page, numbers, written_like
from safetensors.numpy import save_file

from l2t_bench.reports.derive import analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import render, write_report


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each golden run, made once."""
    made = {}
    for name, make in GOLDEN.items():
        folder = tmp_path_factory.mktemp("runs") / name.replace(" ", "-")
        folder.mkdir()
        made[name] = write_report(make(RunWriter(folder)))
    return made


@pytest.fixture(params=list(GOLDEN))
def page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Page:
    return Page(pages[request.param].read_text(encoding="utf-8"))


def test_every_element_that_is_opened_is_closed_and_every_id_is_one_s_own(page: Page) -> None:
    assert page.still_open == []
    named = [attrs["id"] or "" for _, attrs in page.elements if "id" in attrs]
    found = [name for name in named if not re.fullmatch("[a-z][0-9a-f]{10}", name)]  # a hash of what it names
    assert len(found) == len(set(found)) > 3
    links = [
        attrs["href"] or "" for tag, attrs in page.elements if tag == "a" and (attrs["href"] or "").startswith("#")
    ]
    assert links and {link[1:] for link in links} <= set(found)


def test_no_element_refers_to_a_host(page: Page) -> None:
    for tag, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster", "ping", "formaction"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, name)
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not re.search(r"url\(\s*['\"]?(?!#)", attrs.get("style") or "")


def test_nothing_that_a_run_s_files_say_can_act(page: Page) -> None:
    (executed,) = [source for attrs, source in page.scripts if "type" not in attrs]
    assert "alert(" not in executed
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
    for attrs, source in page.scripts:
        if attrs.get("type") == "application/json":
            assert "<" not in source and json.loads(source)


def test_hostile_words_stand_on_the_page_as_they_are(pages: dict[str, Path]) -> None:
    page = Page(pages["hostile"].read_text(encoding="utf-8"))
    shown = page.text + "".join(cell for table in page.tables for row in table for cell in row)
    for name in HOSTILE_NAMES[:-1]:
        assert name in shown, name


def test_an_unfinished_run_and_no_other_says_that_it_is_going_on(pages: dict[str, Path]) -> None:
    said = {name: "This run is not finished." in Page(path.read_text()).text for name, path in pages.items()}
    assert said == {name: name == "running" for name in GOLDEN}


def test_a_failure_has_the_end_of_its_log_and_the_commands_to_see_and_to_repeat_it(pages: dict[str, Path]) -> None:
    text = Page(pages["with failures"].read_text()).text
    for status in ("oom_host", "oom_device", "timeout", "diverged", "error", "crashed", "interrupted"):
        assert f"lines\nof {status}" in text
    assert "  the last line" in text and "l2t-bench show with-failures gradient-" in text


def test_methods_without_a_result_are_drawn_at_the_border_and_told_in_words(pages: dict[str, Path]) -> None:
    page = Page(pages["with failures"].read_text())
    plots = {attrs["data-figure"]: attrs["aria-label"] or "" for tag, attrs in page.elements if "data-figure" in attrs}
    cost = next(said for name, said in plots.items() if (name or "").startswith("figure-time-memory"))
    assert "without a result:" in cost and "higher[at=timeout] (timeout)" in cost and "torchopt (refused)" in cost
    data = json.loads(next(text for attrs, text in page.scripts if attrs.get("id") == "figure-time-memory-1"))
    crosses = [trace for trace in data["data"] if trace.get("marker", {}).get("symbol") == "x-thin"]
    assert len(crosses) == 9 and {trace["x"][0] for trace in crosses} == {10 ** data["layout"]["xaxis"]["range"][1]}


# -- numbers


def frames_in(page: Page) -> dict[str, pd.DataFrame]:
    """The CSV files that the page holds, by their names."""
    links = {attrs["download"]: attrs["href"] for tag, attrs in page.elements if tag == "a" and "download" in attrs}
    return {
        str(name): pd.read_csv(io.BytesIO(unquote_to_bytes((link or "").partition(",")[2])))
        for name, link in links.items()
        if str(name).endswith(".csv")
    }


def shown_values(frames: dict[str, pd.DataFrame]) -> np.ndarray:
    """Every number of the CSV files, as itself, as percent and as thousandths."""
    values = [frame.select_dtypes("number").to_numpy(float).ravel() for frame in frames.values()]
    known = np.concatenate([*values, np.arange(101)])  # counts of seeds and students are whole
    known = known[np.isfinite(known)]
    return np.unique(np.concatenate([known, 100 * known, 1000 * known]))


def figures_in(page: Page) -> Iterator[tuple[str, str]]:
    """Column and text of every cell of figures in the sortable tables."""
    for head, *body in page.sortable:
        for row in body:
            yield from zip(head, row, strict=True)


NAMES = {
    "method",
    "loss",
    "problem",
    "message",
    "warning",
    "warnings",
    "what",
    "taken",
    "why",
    "kind",
    "status",
    "settings",
}


def test_every_number_in_the_page_s_tables_is_one_of_its_csv_files_rounded(page: Page) -> None:
    known = shown_values(frames_in(page))
    looked_at = 0
    for column, cell in figures_in(page):
        if column in NAMES:
            continue
        for text in numbers(
            re.sub(r"\[[a-z]+=[^\]]*\]", "", cell.replace(",", "") if re.match(r"~?\d", cell) else cell)
        ):
            near = known[
                np.searchsorted(known, float(text) - _step(text)) : np.searchsorted(known, float(text) + _step(text))
                + 1
            ]
            assert any(written_like(text, value).lstrip("+") == text.lstrip("+") for value in near), (
                column,
                cell,
                text,
            )
            looked_at += 1
    assert looked_at > 20 or "not finished" in page.text


def _step(text: str) -> float:
    """One of the last digit that is shown."""
    mantissa, exponent, power = text.partition("e")
    return 10.0 ** (-len(mantissa.partition(".")[2]) + int(power or 0 if exponent else 0))


# -- size


@pytest.mark.slow
def test_the_page_of_500_cells_is_below_8_mb(writer: RunWriter) -> None:
    results = analyse(load_run(large(writer)))
    assert len(results.run.cells) == 500
    assert len(render(results).encode()) < 8_000_000


# -- Phi_t


def test_the_whole_of_phi_has_a_frame_for_every_step_that_was_kept(writer: RunWriter) -> None:
    look_at_phi(writer, ["cat", "dog", "car"], (0, 10, 299))
    page = Page(render(analyse(load_run(writer.finish()))))
    figure = json.loads(next(text for attrs, text in page.scripts if attrs.get("id") == "figure-whole-matrix-1"))
    assert [frame["name"] for frame in figure["frames"]] == ["step 0", "step 10", "step 299"]
    assert figure["data"][0]["x"] == ["cat", "dog", "car"]
    (slider,) = [attrs for tag, attrs in page.elements if tag == "input"]
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "2", "2")


@pytest.mark.parametrize("wrong", ["shape", "nan", "name", "missing"])
def test_a_phi_that_is_damaged_is_a_warning_and_not_shown(writer: RunWriter, wrong: str) -> None:
    kept = look_at_phi(writer, ["cat", "dog", "car"]) / "artifacts" / "phi.safetensors"
    broken = {
        "shape": {"step_0": np.zeros((2, 3), "f4")},
        "nan": {"step_0": np.full((3, 3), np.nan, "f4")},
        "name": {"first": np.zeros((3, 3), "f4")},
    }
    kept.unlink()
    if wrong != "missing":
        save_file(broken[wrong], kept)
    run = load_run(writer.finish())
    assert run.matrices == {} and "phi.safetensors is missing or damaged" in run.warnings[0]
    assert "whole-matrix" not in render(analyse(run))
