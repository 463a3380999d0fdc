"""A run of several seeds: what one teacher's students say is no evidence for the next teacher."""

from typing import Any

import pytest

from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import write_report
from l2t_bench.reports.seed_tables import seed_tables
from l2t_bench.reports.teaching_verdict import teaching_findings
from l2t_bench.reports.text import summary_tables

GAINS = (0.03, -0.01, 0.02, -0.02, 0.03)  # of each seed's teacher over cross entropy: every one of them clear by itself
STUDENTS = [0.90, 0.91, 0.92, 0.91, 0.90, 0.92]


def over_seeds(writer: Any, gains: tuple[float, ...] = GAINS) -> Results:
    for teacher, gain in enumerate(gains):
        split = teacher / 50  # what a split of the data makes harder for every loss
        writer.teaching("digits/mlp", "rmd", [each - split + gain for each in STUDENTS], teacher=teacher)
        writer.teaching("digits/mlp", "cross-entropy", [each - split for each in STUDENTS], teacher=teacher)
    return analyse(load_run(writer.finish()))


def test_teachers_that_disagree_decide_nothing_however_sure_each_ones_students_are(writer: Any) -> None:
    results = over_seeds(writer)
    by_seed = results.teaching[results.teaching["method"] == "rmd"].set_index("seed")
    assert ((by_seed["over_cross_entropy_low"] > 0) == [gain > 0 for gain in GAINS]).all(), "each is sure of itself"
    (learned,) = results.teaching_over_teachers.query("method == 'rmd'").to_dict("records")
    assert learned["over_cross_entropy"] == pytest.approx(sum(GAINS) / len(GAINS))
    assert learned["over_cross_entropy_low"] < 0 < learned["over_cross_entropy_high"]
    assert (learned["over_cross_entropy_n"], learned["teachers"], learned["students"]) == (5, 5, 30)
    (finding,) = teaching_findings(results)
    assert finding.answer == "undecided" and "over 30 students of 5 seeds" in finding.detail


def test_teachers_that_agree_decide_though_splits_differ_by_more_than_the_gain(writer: Any) -> None:
    results = over_seeds(writer, (0.01, 0.012, 0.008, 0.011, 0.009))
    (table,) = seed_tables(results)
    assert table.title == "Over several seeds: digits/mlp"
    assert table.columns == ("loss", "seeds", "students", "test accuracy", "over cross-entropy", "over best fixed")
    assert [row[:3] for row in table.rows] == [("rmd", "5", "30"), ("cross-entropy", "5", "30")]
    assert table.rows[0][4].startswith("+1.0") and table.rows[1][4] == "–"
    (finding,) = teaching_findings(results)
    assert finding.decided and finding.answer.startswith("+1.0")


def test_one_seed_has_no_such_table_and_speaks_of_its_one_teacher(writer: Any) -> None:
    results = over_seeds(writer, (0.01,))
    assert results.teaching_over_teachers.empty and not seed_tables(results)
    (finding,) = teaching_findings(results)
    assert finding.decided and "over 6 students." in finding.detail


def test_three_seeds_are_too_few_to_decide(writer: Any) -> None:
    (finding,) = teaching_findings(over_seeds(writer, (0.01, 0.01, 0.01)))
    assert not finding.decided


def test_a_page_and_a_terminal_show_it_before_the_tables_of_each_seed(writer: Any) -> None:
    results = over_seeds(writer)
    titles = [table.title for table in summary_tables(results.run)]
    assert titles.index("Over several seeds: digits/mlp") < min(
        place for place, title in enumerate(titles) if title.startswith("Students taught on digits/mlp")
    )
    assert "Over several seeds: digits/mlp" in write_report(results.run.path).read_text()


def test_of_a_run_that_goes_on_those_seeds_count_that_every_loss_has(writer: Any) -> None:
    """Else a control's one finished seed, an easy split, would be the best fixed loss, and its students the unit."""
    for teacher in range(5):
        writer.teaching("digits/mlp", "rmd", [each + 0.01 for each in STUDENTS], teacher=teacher)
        writer.teaching("digits/mlp", "cross-entropy", STUDENTS, teacher=teacher)
    writer.teaching("digits/mlp", "untrained-teacher", [each - 0.05 for each in STUDENTS], teacher=2)
    results = analyse(load_run(writer.finish()))
    assert results.teaching_over_teachers.empty and not seed_tables(results)
    writer.teaching("digits/mlp", "untrained-teacher", [each - 0.03 for each in STUDENTS], teacher=4)
    pooled = analyse(load_run(writer.finish())).teaching_over_teachers
    assert set(pooled["teachers"]) == {2} and set(pooled["students"]) == {12}
    (learned,) = pooled.query("method == 'rmd'").to_dict("records")
    assert (learned["over_untrained"], learned["over_untrained_n"]) == (pytest.approx(0.05), 2)
