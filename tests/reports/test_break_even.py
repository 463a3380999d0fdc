"""From when on compiling has paid: by hand on small numbers, and the same in the page, the Markdown and the CSV."""

import math
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import pandas as pd
import pytest

from l2t_bench.reports.break_even import break_even, paid_from, plain_twin
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.derive import analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import write_csv, write_report
from l2t_bench.reports.table import markdown
from l2t_bench.reports.text import summary_tables

COMPILED = "rmd[engine=compiled]"


def costs(*rows: tuple[str, str, float, float], horizon: int = 100) -> pd.DataFrame:
    """Of one problem: method, unit, seconds, seconds_compile."""
    frame = pd.DataFrame(rows, columns=["method", "unit", "seconds", "seconds_compile"])
    return frame.assign(problem="digits/mlp", variant="", horizon=horizon)


def test_compiling_has_paid_once_it_has_saved_what_it_took() -> None:
    found = break_even(costs(("rmd", "a", 3.0, 0.0), (COMPILED, "a", 1.0, 9.0))).iloc[0]
    assert (found["seconds_saved"], found["outer_steps"], found["student_steps"]) == (2.0, 5.0, 500.0)
    assert (found["method"], found["against"]) == (COMPILED, "rmd")


@pytest.mark.parametrize(
    ("compiling", "saved", "outer_steps"),
    [(8.0, 2.0, 4.0), (8.1, 2.0, 5.0), (0.1, 2.0, 1.0), (8.0, 0.0, math.inf), (8.0, -1.0, math.inf)],
)
def test_the_first_outer_step_is_a_whole_one_or_none(compiling: float, saved: float, outer_steps: float) -> None:
    assert paid_from(compiling, saved) == outer_steps


def test_savings_are_paired_and_their_spread_is_kept() -> None:
    seeds = [("rmd", "a", 3.0, 0.0), ("rmd", "b", 5.0, 0.0), ("rmd", "c", 4.0, 0.0)]
    compiled = [(COMPILED, "a", 1.0, 30.0), (COMPILED, "b", 4.0, 4.0), (COMPILED, "c", 4.5, 4.0)]
    found = break_even(costs(*seeds, *compiled)).iloc[0]
    assert found["seconds_saved"] == 1.0  # of 2, 1 and -0.5
    assert (found["outer_steps"], found["outer_steps_least"], found["outer_steps_most"]) == (4.0, 2.0, math.inf)
    assert (found["seconds_compile"], found["seconds_compile_longest"], found["outer_steps_longest"]) == (4.0, 30.0, 30)


@pytest.mark.parametrize(
    "rows",
    [
        [("rmd", "a", 3.0, 0.0)],
        [(COMPILED, "a", 1.0, 9.0)],
        [("rmd", "a", 3.0, 0.0), (COMPILED, "b", 1.0, 9.0)],
        [("rmd", "a", 3.0, 0.0), (COMPILED, "a", 3.0, 0.0)],
        [("rmd", "a", 3.0, 0.0), (COMPILED, "a", 3.0, math.nan)],
        [("higher", "a", 3.0, 0.0), (COMPILED, "a", 3.0, 9.0)],
    ],
    ids=["no compiled one", "no plain one", "no pair", "fell back to plain torch", "compilation not known", "another"],
)
def test_without_a_pair_or_a_compilation_nothing_is_said(rows: list[tuple[str, str, float, float]]) -> None:
    assert break_even(costs(*rows)).empty
    assert break_even_tables(break_even(costs(*rows)), units="seeds") == []


def test_the_twin_has_the_same_options_and_plain_steps() -> None:
    assert plain_twin("rmd[store=graph,engine=compiled]") == "rmd[store=graph]"
    assert plain_twin("rmd[engine=graphed]") == "rmd"
    assert plain_twin("rmd[store=graph]") is plain_twin("rmd[engine=auto]") is plain_twin("a[b") is None
    found = break_even(costs(("rmd[engine=eager]", "a", 3.0, 0.0), (COMPILED, "a", 1.0, 9.0)))
    assert found.at[0, "against"] == "rmd[engine=eager]"


def a_run(writer: Any, *, saved: float) -> Any:
    for seed in range(2):
        for method, seconds, compiling in (("rmd", 2.0, 0.0), (COMPILED, 2.0 - saved, 3.0 + 20 * (seed == 0))):
            runs = {
                horizon: {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [seconds * horizon], "start": 0, "peak": 1}
                for horizon in (10, 100)
            }
            writer.gradient("digits/mlp", method, seed, runs, "exact", measured={"seconds_compile": compiling})
    return writer.finish()


def test_a_run_says_in_page_markdown_and_csv_when_compiling_has_paid(writer: Any) -> None:
    folder = a_run(writer, saved=0.5)
    (table,) = [table for table in summary_tables(load_run(folder)) if table.title.startswith("When compiling")]
    assert table.columns[-3:] == ("student steps", "longest, s", "outer steps then")
    assert [row[5:] for row in table.rows] == [("3", "30", "23.0", "5"), ("1", "100", "23.0", "1")]
    page = write_report(folder).read_text(encoding="utf-8")
    assert "When compiling has paid on digits/mlp" in page and "When compiling has paid on digits/mlp" in markdown(
        [table]
    )
    (path,) = [path for path in write_csv(load_run(folder)) if path.name == "break-even.csv"]
    read = pd.read_csv(path)
    assert read["outer_steps"].tolist() == [3, 1] and read["seconds_compile"].tolist() == [13.0, 13.0]
    link = re.search(r'download="quick-break-even.csv" href="data:[^,]*,([^"]*)"', page)
    assert link is not None and unquote_to_bytes(link[1]) == path.read_bytes()


def test_a_compiled_engine_that_is_no_faster_never_pays(writer: Any) -> None:
    (table,) = break_even_tables(analyse(load_run(a_run(writer, saved=-0.1))).break_even, units="seeds")
    assert {(row[5], row[6], row[8]) for row in table.rows} == {("never", "never", "never")}


def test_a_run_without_compiled_steps_has_no_such_table(kept_run: Any) -> None:
    assert not [table for table in summary_tables(load_run(kept_run)) if table.title.startswith("When compiling")]


AUTO = "rmd[engine=auto]"


def test_auto_that_has_stayed_in_plain_torch_pays_when_its_compiled_twin_does() -> None:
    found = break_even(costs(("rmd", "a", 3.0, 0.0), (COMPILED, "a", 1.0, 9.0), (AUTO, "a", 2.9, 0.0)))
    assert found[["method", "against", "timed_as", "outer_steps"]].to_numpy().tolist() == [
        [COMPILED, "rmd", COMPILED, 5.0],
        [AUTO, "rmd", COMPILED, 5.0],
    ]
    (table,) = break_even_tables(found, units="seeds")
    assert f"{AUTO}: has stayed in plain torch; the times are those of {COMPILED}." in table.note


def test_auto_that_has_compiled_pays_by_its_own_times() -> None:
    found = break_even(costs(("rmd", "a", 3.0, 0.0), (AUTO, "a", 2.0, 9.0), (COMPILED, "a", 1.0, 9.0)))
    assert dict(zip(found["method"], found["outer_steps"], strict=True)) == {AUTO: 9.0, COMPILED: 5.0}
    assert found["timed_as"].tolist() == found["method"].tolist()


@pytest.mark.parametrize("there", [(), (("rmd", "a", 3.0, 0.0),), ((COMPILED, "a", 1.0, 9.0),)])
def test_auto_without_both_its_twins_has_no_break_even(there: tuple[tuple[str, str, float, float], ...]) -> None:
    assert AUTO not in set(break_even(costs((AUTO, "a", 2.9, 0.0), *there))["method"])


def test_a_run_says_what_took_the_steps_where_it_was_not_asked_for_by_its_name(writer: Any) -> None:
    """Without its twins auto has no break-even: there it stands from how many steps on it compiles."""
    why = "plain torch: 300 steps in all, compiled steps pay from 5,000"
    for method, engine in (("rmd", "plain torch"), (AUTO, why), ("higher", None)):
        run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [2.0], "start": 0, "peak": 1}
        writer.gradient("digits/mlp", method, 0, {100: run if engine is None else {**run, "engine": engine}}, "exact")
    folder = writer.finish()
    (table,) = [table for table in summary_tables(load_run(folder)) if table.title == "What took the steps"]
    assert table.rows == (("digits/mlp", AUTO, "100", why),)
    assert why in write_report(folder).read_text(encoding="utf-8")
    (path,) = [path for path in write_csv(load_run(folder)) if path.name == "gradients.csv"]
    assert pd.read_csv(path, keep_default_na=False).set_index("method")["engine"].to_dict() == {
        "rmd": "plain torch",
        AUTO: why,
        "higher": "",
    }


def test_a_run_of_an_earlier_version_has_no_such_table(kept_run: Any) -> None:
    assert not [table for table in summary_tables(load_run(kept_run)) if table.title == "What took the steps"]
