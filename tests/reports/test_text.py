"""Tables and verdicts as strings."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_runs import GOLDEN
from invented_runs import RunWriter

from l2t_bench.reports import formats, text
from l2t_bench.reports.derive import analyse
from l2t_bench.reports.hyper_gradients import hyper_gradient_tables
from l2t_bench.reports.load import load_run
from l2t_bench.reports.selection_tables import selection_tables
from l2t_bench.reports.statistics import Estimate
from l2t_bench.reports.table import Table, markdown
from l2t_bench.reports.verdict import Finding, findings, headlines, rule
from l2t_bench.selection.elsewhere import read_choice

FIVE = Estimate(0.4123, 0.4012, 0.4267, 5)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0123456, "0.0123"),
        (12.345, "12.3"),
        (1234.5, "1234"),
        (0.9999, "1.00"),
        (-2.5, "−2.50"),
        (0, "0"),
        (1.2e-7, "1.20e-07"),
        (3e8, "3.00e+08"),
        (math.nan, "–"),
        (None, "–"),
        (math.inf, "∞"),
    ],
)
def test_numbers_have_three_significant_digits(value: float | None, shown: str) -> None:
    assert formats.number(value) == shown


def test_ratios_show_their_interval_or_say_that_n_is_too_small() -> None:
    assert formats.ratio(FIVE) == "0.41 [0.40,\u00a00.43]"
    assert formats.ratio(Estimate(0.0341, 0.0333, 0.0352, 5)) == "0.034 [0.033,\u00a00.035]"
    assert formats.ratio(Estimate(0.4123, 0.40, 0.43, 4)) == "0.41, n too small"
    assert formats.ratio(FIVE, interval=False) == "0.41"
    assert formats.ratio(Estimate(math.nan, math.nan, math.nan, 0)) == "–"


def test_differences_are_signed_percentage_points() -> None:
    assert formats.points(Estimate(0.0123, -0.0021, 0.0266, 10)) == "+1.2 [−0.2,\u00a0+2.7]"
    assert formats.points(Estimate(0.0001, -0.01, 0.01, 10)).startswith("0.0 ")
    assert formats.points(Estimate(0.0123, 0.01, 0.02, 4)) == "+1.2, n too small"


@pytest.mark.parametrize(("name", "told"), [("running", "have no result yet"), ("with failures", "is cut short")])
def test_a_document_says_first_what_the_head_of_the_page_says(tmp_path: Path, name: str, told: str) -> None:
    run = load_run(GOLDEN[name](RunWriter(tmp_path)))
    head, *others = text.document_tables(analyse(run))
    assert head.title == f"Run {tmp_path.name}" and head.rows[0][0] == "cells"
    assert f"{(run.cells['status'] == 'ok').sum()} ok" in head.rows[0][1]
    assert any(told in said for _, said in head.rows)
    assert others[0].title == "Verdict" and "95 % bootstrap interval" in others[0].note


def test_the_teacher_that_was_kept_stands_between_the_untrained_and_the_last_one(writer: Any) -> None:
    judged = [(0, 71.04, 2.0), (8, 74.26, 1.0), (16, 60.5, 9.96)]
    selection = [{"outer_step": at, "dev_bleu_mean": mean, "dev_bleu_std": std} for at, mean, std in judged]
    writer.teaching("digits/mlp", "rmd", [0.9] * 10, selection=selection, selected_outer_step=8)
    writer.teaching("digits/mlp", "untrained-teacher", [0.9] * 10)
    (table,) = selection_tables(analyse(load_run(writer.finish())))
    assert table.title == "The teacher that was kept on digits/mlp, dev BLEU"
    assert table.rows == (("rmd", "3", "71.0 ± 2.0", "before step 8: 74.3 ± 1.0", "before step 16: 60.5 ± 10.0"),)


def test_tables_fit_a_terminal_of_120_columns(kept_run: Path) -> None:
    for table in text.summary_tables(load_run(kept_run)):
        if table.title.startswith("Cells"):
            continue  # messages fold
        sound = [row for row in table.rows if "hostile" not in row[1]]
        widths = [max(len(cell) for cell in column) for column in zip(table.columns, *sound, strict=True)]
        assert sum(widths) + 3 * len(widths) + 1 <= 120, table.title


def test_every_planned_method_has_a_row_and_the_failed_ones_their_status(kept_run: Path) -> None:
    table = next(table for table in text.summary_tables(load_run(kept_run)) if "gradients on digits/mlp" in table.title)
    status = {row[1]: row[2] for row in table.rows}
    assert len(status) == 6 + 4
    assert status["hostile<script>alert(1)</script>[crashed]"] == "crashed"
    assert status["torchopt-implicit"] == "stationary"


def test_a_method_that_failed_on_some_seeds_says_on_how_many(writer: Any) -> None:
    run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [1.0], "start": 0, "peak": 2**20}
    writer.gradient("digits/mlp", "rmd", 0, {20: run}, "exact")
    writer.write(writer.plan("gradient", "digits/mlp", "rmd", 1), "timeout", {}, "over 60 s")
    tables = text.summary_tables(load_run(writer.finish()))
    assert tables[0].rows[0][2] == "exact, 1/2"
    assert tables[-1].rows == (("timeout", "gradient", "digits/mlp", "rmd", "1", "over 60 s"),)


def test_what_a_method_warned_of_has_a_table(writer: Any) -> None:
    run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [1.0], "start": 0, "peak": 2**20}
    writer.gradient("digits/mlp", "rmd", 0, {20: run}, "exact")
    for seed in (0, 1):
        bent = {**run, "warnings": [f"curvature of seed {seed}", "not solved"]}
        writer.gradient("digits/mlp", "implicit", seed, {20: bent}, "stationary")
    (table,) = [table for table in text.summary_tables(load_run(writer.finish())) if table.title == "Warnings"]
    assert table.rows == (("digits/mlp", "implicit", "20", "2", "curvature of seed 0; not solved"),)


def test_a_run_of_methods_that_warned_of_nothing_has_no_table_of_warnings(kept_run: Path) -> None:
    assert "Warnings" not in {table.title for table in text.summary_tables(load_run(kept_run))}


def test_hyper_gradients_have_a_table_with_their_mean_over_seeds(writer: Any) -> None:
    run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [1.0], "start": 0, "peak": 2**20}
    for seed in range(5):
        asked = {"d_lr_sum": -0.25, "d_momentum": seed / 10, "d_omega0_norm": 3.0}
        writer.gradient("digits/mlp", "rmd[hyper=true]", seed, {20: {**run, "hyper_gradients": asked}}, "exact")
        unasked = {"d_omega0_norm": 3.0}
        writer.gradient("digits/mlp", "higher", seed, {20: {**run, "hyper_gradients": unasked}}, "exact")
    (table,) = hyper_gradient_tables(analyse(load_run(writer.finish())))
    assert table.columns == ("problem", "T", "method", "seeds", "d_lr_sum", "d_momentum", "d_omega0_norm")
    ((*names, shift, momentum, first),) = table.rows
    assert names == ["digits/mlp", "20", "rmd[hyper=true]", "5"], "omega_0's norm alone is no reason for a row"
    assert shift.startswith("−0.250 [") and momentum.startswith("0.200 [") and first.startswith("3.00 [")


def test_a_run_without_hyper_gradients_has_no_table_of_them(kept_run: Path) -> None:
    assert hyper_gradient_tables(analyse(load_run(kept_run))) == []


def test_a_teaching_cell_that_failed_keeps_its_row(writer: Any) -> None:
    writer.teaching("digits/mlp", "rmd", [0.9] * 10)
    writer.write(writer.plan("teaching", "digits/mlp", "higher", 0), "diverged", {}, "adjoint")
    table = text.summary_tables(load_run(writer.finish()))[0]
    assert [row[0] for row in table.rows] == ["rmd", "higher: diverged"]


def test_markdown_escapes_what_would_be_markup() -> None:
    table = Table("a|b", ("x", "y"), (("<script>", "1|2"), ("`c`", "line\nbreak")), note="*: edge")
    lines = markdown([table]).splitlines()
    assert lines == [
        "**a\\|b**",
        "",
        "| x | y |",
        "| --- | ---: |",
        "| \\<script\\> | 1\\|2 |",
        "| \\`c\\` | line break |",
        "",
        "\\*: edge",
    ]


def test_the_verdict_names_the_fastest_exact_method_and_what_it_rests_on(kept_run: Path) -> None:
    results = analyse(load_run(kept_run))
    found = findings(results)
    speed = next(one for one in found if one.subject == "digits/mlp, T = 100" and one.question.startswith("Fastest"))
    row = results.summary[(results.summary["problem"] == "digits/mlp") & (results.summary["horizon"] == 100)]
    ratio = row.set_index("method").at["rmd", "time_ratio"]
    assert (speed.answer, speed.decided) == ("rmd", True)
    assert speed.detail.startswith(f"rmd takes {ratio:.2f}× the time of higher [")
    assert "Next: functorch takes" in speed.detail


def test_the_verdict_is_open_where_methods_are_level(writer: Any) -> None:
    found = findings(analyse(load_run(level_run(writer, seeds=5))))
    assert found[0].answer == "undecided between rmd and higher" and not found[0].decided


def test_the_verdict_is_open_where_n_is_too_small(writer: Any) -> None:
    found = findings(analyse(load_run(level_run(writer, seeds=1))))
    assert found[0].answer == "undecided" and found[0].detail.startswith("n too small")


def level_run(writer: Any, seeds: int) -> Path:
    """``rmd`` and ``higher`` within a hundredth of each other."""
    for seed in range(seeds):
        for method, seconds in (("rmd", 1.0), ("higher", 1.01)):
            run = {"d_theta": {"a": np.ones(3, "f4")}, "seconds": [seconds + 0.1 * seed], "start": 0, "peak": 2**20}
            writer.gradient("digits/mlp", method, seed, {20: run}, "exact")
    folder: Path = writer.finish()
    return folder


@pytest.mark.parametrize(
    ("learned", "answer"),
    [([0.95, 0.96] * 5, "+5.5"), ([0.85, 0.86] * 5, "−4.5"), ([0.80, 1.0] * 5, "undecided")],
)
def test_a_learned_loss_is_better_worse_or_undecided(writer: Any, learned: list[float], answer: str) -> None:
    writer.teaching("digits/mlp", "rmd", learned)
    writer.teaching("digits/mlp", "cross-entropy", [0.9] * 10)
    (found,) = findings(analyse(load_run(writer.finish())))
    assert found.answer.startswith(answer)
    assert found.decided == (answer != "undecided")


def test_the_rule_says_what_a_run_was_judged_by_and_no_more(writer: Any) -> None:
    writer.teaching("digits/mlp", "rmd", [0.95] * 10)
    writer.teaching("digits/mlp", "cross-entropy", [0.9] * 10)
    taught = rule(analyse(load_run(writer.finish())))
    assert "In what students reach any such difference counts" in taught and "Exact methods" not in taught


def test_the_rule_of_gradients_says_that_exactness_is_asked_for(writer: Any) -> None:
    measured = rule(analyse(load_run(level_run(writer, seeds=5))))
    assert "Exact methods alone are ranked" in measured and "students reach" not in measured


def test_headlines_count_the_answers_over_problems() -> None:
    question = "Fastest exact method"
    found = [Finding("a", question, "rmd", "", True), Finding("b", question, "undecided between", "", False)]
    assert headlines(found) == ["Fastest exact method: rmd in 1 of 2, undecided in 1 of 2 comparisons."]


def test_what_a_verdict_decides_can_be_copied_from_markdown(kept_run: Path, tmp_path: Path) -> None:
    results = analyse(load_run(kept_run))
    blocks = re.findall(r"^```\n(.+?)\n```$", markdown(text.document_tables(results)), re.MULTILINE | re.DOTALL)
    chosen = [found.choice for found in findings(results) if found.choice]
    assert chosen and len(blocks) == len(chosen)
    for block, choice in zip(blocks, chosen, strict=True):
        (tmp_path / "backend.toml").write_text(block, encoding="utf-8")
        assert read_choice(tmp_path / "backend.toml") == choice


def test_a_file_in_markdown_ends_where_it_ends_whatever_is_in_it() -> None:
    table = Table("t", ("a",), (("b",),), files=(("a *file*", "why = '```'\n````\n# not a heading"),))
    assert markdown([table]).endswith("a \\*file\\*:\n\n`````\nwhy = '```'\n````\n# not a heading\n`````\n")
