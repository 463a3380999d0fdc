"""The paper's numbers beside ours, the teachers' curves, Phi_t and effective learning rates, of runs made up."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from l2t_bench.paper.assumed import IMAGES, TRANSLATION
from l2t_bench.reports import load_teaching
from l2t_bench.reports.agreement import curve_agreements
from l2t_bench.reports.agreement_tables import agreement_tables
from l2t_bench.reports.coefficients_figure import coefficient_tables, coefficients
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.effective_lr_figure import effective_lr
from l2t_bench.reports.figures import draw
from l2t_bench.reports.frames import csv_frames
from l2t_bench.reports.load import load_run
from l2t_bench.reports.page import render
from l2t_bench.reports.paper_tables import paper_tables
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.teaching_tables import teaching_tables
from l2t_bench.reports.teaching_verdict import teaching_findings
from l2t_bench.reports.text import summary_tables
from l2t_bench.reports.training_tables import training_tables
from l2t_bench.reports.translation_tables import translation_tables
from l2t_bench.reports.verdict import findings

PROBLEM = "mnist/mlp"
SETTINGS = {"problem": "mnist/mlp[hidden=100]", "horizon": 300}
ERRORS = (1.5, 1.7, 1.6, 1.6, 1.6)


def curve(values: list[float], seconds: float = 0.5) -> list[dict[str, Any]]:
    return [
        {"outer_step": step, "value": value, "gradient_norm": 1.0, "seconds": seconds, "moved": 0.1, "diverged": 0}
        for step, value in enumerate(values)
    ]


def teacher(writer: Any, method: str, seed: int = 0, **measured: Any) -> str:
    """A teacher's cell; its id."""
    folder = writer.plan("teacher", PROBLEM, method, seed, **SETTINGS)
    given = {"loss": "learned", "exactness": "exact", "outer_steps": 60, "curve": curve([0.5, 0.6, 0.7]), **measured}
    writer.write(folder, "ok", given)
    return str(folder.name)


def taught(writer: Any, method: str, errors: tuple[float, ...], loss: str, seed: int = 0, needs: str = "", **more: Any) -> None:  # fmt: skip  # noqa: E501
    folder = writer.plan("teaching", PROBLEM, method, seed, needs=needs, **SETTINGS)
    students = [
        {"seed": index, "dev_accuracy": 0.9, "test_accuracy": 1 - error / 100} for index, error in enumerate(errors)
    ]
    writer.write(folder, "ok", {"loss": loss, "lr": 0.1, "horizon": 300, "students": students, **more})


@pytest.fixture
def table1(writer: Any) -> Any:
    writer.suite, writer.profile = "table1", "quick"
    return writer


def results(writer: Any) -> Results:
    return analyse(load_run(writer.finish()))


def row(found: Results, method: str) -> dict[str, Any]:
    (only,) = rows_of(found.papers[found.papers["method"] == method])
    return only


# -- the paper's tables


def test_ours_stands_beside_the_papers_with_its_difference_and_costs(table1: Any) -> None:
    needs = teacher(table1, "rmd", peak_bytes=100 << 20, largest_change={"W": 0.006, "V": 0.001})
    taught(table1, "rmd", ERRORS, "learned", needs=needs)
    taught(table1, "cross-entropy", tuple(error + 1 for error in ERRORS), "cross-entropy")
    found = results(table1)
    learned, plain = row(found, "rmd"), row(found, "cross-entropy")
    assert (learned["table"], learned["row"], learned["paper"]) == ("Table 1", "MLP", 1.69)
    assert learned["here"] == pytest.approx(1.6) and learned["difference"] == pytest.approx(1.6 - 1.69)
    assert learned["here_low"] < 1.6 < learned["here_high"] and learned["here_n"] == 5
    assert (learned["seconds_outer_step"], learned["peak_mib"], learned["largest_change"]) == (0.5, 100, 0.006)
    assert (plain["paper"], plain["here"]) == (1.94, pytest.approx(2.6))
    assert math.isnan(plain["seconds_outer_step"])


def test_of_several_teachers_the_teacher_is_the_unit(table1: Any) -> None:
    for seed, error in enumerate((1.0, 2.0)):
        taught(table1, "rmd", (error, error, error), "learned", seed, needs=teacher(table1, "rmd", seed))
    learned = row(results(table1), "rmd")
    assert (learned["here"], learned["here_n"], learned["unit"]) == (pytest.approx(1.5), 2, "teachers")
    assert (learned["teachers"], learned["students"]) == (2, 6)


def test_losses_that_are_not_the_papers_have_no_number_of_its(table1: Any) -> None:
    taught(table1, "static-teacher", ERRORS, "learned", needs=teacher(table1, "static-teacher"))
    taught(table1, "cross-entropy-decayed", ERRORS, "cross-entropy-decayed")
    found = results(table1)
    assert math.isnan(row(found, "static-teacher")["paper"]) and math.isnan(
        row(found, "cross-entropy-decayed")["paper"]
    )


def test_what_was_refused_keeps_its_row_and_the_papers_number(table1: Any) -> None:
    folder = table1.plan("teaching", PROBLEM, "higher", 0, needs="teacher-x-0123456789", **SETTINGS)
    table1.write(folder, "refused", {}, "the teacher cell that it needs is refused: too large")
    found = results(table1)
    refused = row(found, "higher")
    assert (refused["status"], refused["paper"]) == ("refused", 1.69) and "too large" in refused["message"]
    (table, _) = paper_tables(found)
    assert table.rows[0][:4] == ("learned by higher", "1.69", "refused", "–")


def test_every_row_says_profile_and_data_and_a_small_profile_what_it_is(table1: Any) -> None:
    taught(table1, "cross-entropy", ERRORS, "cross-entropy")
    (table, assumed) = paper_tables(results(table1), detail=True)
    assert table.columns[-2:] == ("profile", "data") and table.rows[0][-2] == "quick"
    assert "Not the paper's experiment: mnist/mlp[hidden=100], T=300." in table.note
    assert [cells[0] for cells in assumed.rows] == [each.what for each in IMAGES]


def test_a_run_of_another_suite_has_no_table_of_the_papers(kept_run: Path) -> None:
    found = analyse(load_run(kept_run))
    assert paper_tables(found) == [] and "paper's tables" not in render(found)


def test_the_page_and_the_terminal_show_the_papers_tables(table1: Any) -> None:
    taught(table1, "rmd", ERRORS, "learned", needs=teacher(table1, "rmd"))
    found = results(table1)
    page = render(found)
    assert "Table 1, MLP on mnist: profile quick" in page and "Assumed, not in the paper" in page
    assert any(table.title.startswith("Table 1, MLP") for table in summary_tables(found.run))


# -- translation


def translated(writer: Any, method: str, scores: tuple[float, ...], loss: str, needs: str) -> None:
    folder = writer.plan("teaching", "iwslt14/lstm1", method, 0, needs=needs, problem="iwslt14/lstm1[lr=0.1]", beam=5)
    students = [
        {"seed": seed, "dev_bleu": score, "test_greedy_bleu": score - 1, "test_bleu": score}
        | {"test_detokenised_bleu": score + 1}
        for seed, score in enumerate(scores)
    ]
    signatures = {"signature": "tok:none", "detokenised_signature": "tok:13a"}
    own = {"loss": loss, "lr": 0.1, "lr_grid": [], "horizon": 300, "beam": 5, "students": students, **signatures}
    writer.write(folder, "ok", own)


@pytest.fixture
def table3(writer: Any) -> Any:
    writer.suite, writer.profile = "table3", "paper"
    return writer


def test_bleu_stands_beside_the_papers_in_its_own_unit(table3: Any) -> None:
    translated(table3, "rmd", (29.0, 30.0, 31.0, 30.0, 30.0), "learned", teacher(table3, "rmd"))
    translated(table3, "cross-entropy", (28.0, 28.0, 28.0, 28.0, 28.0), "cross-entropy", "warm-start-x-0123456789")
    found = results(table3)
    learned, plain = row(found, "rmd"), row(found, "cross-entropy")
    assert (learned["row"], learned["measure"], learned["measured_in"]) == ("LSTM-1", "test BLEU", "BLEU")
    assert (learned["paper"], learned["here"]) == (29.52, pytest.approx(30.0))
    assert (plain["paper"], plain["difference"]) == (27.28, pytest.approx(28 - 27.28))
    (table, assumed) = paper_tables(found)
    assert table.columns[1:3] == ("paper, BLEU", "here, BLEU") and table.note.startswith(
        "Measured: test BLEU, in BLEU."
    )
    assert [cells[0] for cells in assumed.rows] == [each.what for each in TRANSLATION]


def test_translations_have_a_table_of_searches_and_none_of_accuracies(table3: Any) -> None:
    translated(table3, "cross-entropy", (28.0, 28.0, 28.0, 28.0, 28.0), "cross-entropy", "warm-start-x-0123456789")
    found = results(table3)
    assert found.students.empty and teaching_tables(found) == []
    (table,) = translation_tables(found, detail=True)
    assert table.columns[2:3] + table.columns[5:] == ("beam 5", "greedy", "detokenised, beam 5", "students")
    told = [cell.split()[0] for cell in table.rows[0]]
    assert told[2:3] + told[5:] == ["28.00", "27.00", "29.00", "5"]
    assert "tok:none" in table.note and "Translations of iwslt14/lstm1" in render(found)


def test_a_loss_of_translations_is_set_against_cross_entropy_by_pairs_of_students(table3: Any) -> None:
    of_cross_entropy = (20.0, 30.0, 40.0, 25.0, 35.0)
    gained = tuple(score + gain for score, gain in zip(of_cross_entropy, (0.9, 1.1, 1.0, 1.0, 1.0), strict=True))
    translated(table3, "rmd", gained, "learned", teacher(table3, "rmd"))
    translated(table3, "cross-entropy", of_cross_entropy, "cross-entropy", "warm-start-x-0123456789")
    found = results(table3)
    (verdict,) = findings(found)
    assert (verdict.subject, verdict.question) == ("iwslt14/lstm1, teaching", "Learned by rmd, against cross-entropy")
    assert verdict.decided and verdict.answer.startswith("+1.00 [+0.9") and verdict.answer.endswith("] BLEU")
    assert "Test BLEU 31.00 [" in verdict.detail and "over 5 students" in verdict.detail
    (table,) = translation_tables(found)
    assert table.rows[0][:2] == ("rmd", "0.1") and table.rows[0][3].startswith("+1.00 [+0.9")
    (gain,) = csv_frames(found)["translating.csv"]["over_cross_entropy"].dropna()
    assert gain == pytest.approx(1.0) and 'id="verdict"' in render(found)


def test_a_learned_loss_of_translations_that_does_not_help_is_undecided(table3: Any) -> None:
    translated(table3, "rmd", (29.0, 27.0, 28.0, 29.0, 27.0), "learned", teacher(table3, "rmd"))
    translated(table3, "cross-entropy", (28.0, 28.0, 28.0, 28.0, 28.0), "cross-entropy", "warm-start-x-0123456789")
    (verdict,) = findings(results(table3))
    assert (verdict.answer, verdict.decided) == ("undecided", False) and "Over cross-entropy: 0.00 [" in verdict.detail


def test_a_control_that_needs_a_warm_start_is_no_learned_loss_without_its_result(table3: Any) -> None:
    folder = table3.plan("teaching", "iwslt14/lstm1", "cross-entropy", 0, needs="warm-start-x-0123456789", beam=5)
    table3.write(folder, "refused", {}, "no room")
    assert (row(results(table3), "cross-entropy")["paper"]) == 27.28


# -- teachers of their own cells


def test_a_teachers_curve_and_costs_are_its_students_too(table1: Any) -> None:
    taught(table1, "rmd", ERRORS, "learned", needs=teacher(table1, "rmd", seconds_training=12.0))
    run = load_run(table1.finish())
    (told,) = rows_of(load_teaching.teachings(run))
    assert (told["seconds_training"], told["outer_steps"], told["seconds_outer_step"]) == (12.0, 60, 0.5)
    assert load_teaching.curves(run)["value"].tolist() == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(("kept", "told"), [(0, "0 of 60"), (20, "20 of 60"), (60, "60")])
def test_the_outer_steps_say_which_teacher_was_kept(table1: Any, kept: int, told: str) -> None:
    taught(table1, "rmd", ERRORS, "learned", needs=teacher(table1, "rmd", selected_outer_step=kept))
    taught(table1, "cross-entropy", ERRORS, "cross-entropy")
    found = results(table1)
    table = paper_tables(found, detail=True)[0]
    assert {line[0]: line[7] for line in table.rows} == {"learned by rmd": told, "cross-entropy": "–"}
    verdict = next(each for each in teaching_findings(found) if "against cross-entropy" in each.question)
    assert ("The untrained teacher was kept" in verdict.detail) == (kept == 0), "else its gain is taken for learning's"


@pytest.mark.parametrize("kept", [(0, 20), (0, 0), (20, 20)])
def test_over_several_seeds_the_verdict_says_of_how_many_the_untrained_teacher_was_kept(
    table1: Any, kept: tuple[int, int]
) -> None:
    for seed, step in enumerate(kept):
        needs = teacher(table1, "rmd", seed=seed, selected_outer_step=step)
        taught(table1, "rmd", ERRORS, "learned", seed=seed, needs=needs)
        taught(table1, "cross-entropy", ERRORS, "cross-entropy", seed=seed)
    verdict = next(each for each in teaching_findings(results(table1)) if "against cross-entropy" in each.question)
    count = kept.count(0)
    assert ("untrained teacher was kept" in verdict.detail) == (count > 0)
    assert not count or f"Of {count} of 2 seeds the untrained teacher was kept" in verdict.detail


# -- curves


def agreements(table1: Any, **curves: tuple[str, list[float]]) -> dict[str, dict[str, Any]]:
    for method, (exactness, values) in curves.items():
        teacher(table1, method, curve=curve(values), exactness=exactness)
    return {each["method"]: each for each in rows_of(results(table1).agreements)}


def test_curves_are_held_to_the_exact_one_early_and_in_all(table1: Any) -> None:
    found = agreements(
        table1,
        rmd=("exact", [0.1 * step for step in range(10)]),
        higher=("exact", [0.1 * step + (0.5 if step > 6 else 0.0) for step in range(10)]),
    )
    assert (found["higher"]["first_apart"], found["higher"]["apart"]) == (0.0, pytest.approx(0.5))
    assert found["higher"]["against"] == "rmd" and math.isnan(found["rmd"]["apart"])


def test_a_rise_is_of_means_over_the_first_and_the_last_outer_steps(table1: Any) -> None:
    found = agreements(table1, rmd=("exact", [0.0] * 5 + [0.4] * 15 + [1.0] * 5))
    assert (found["rmd"]["begun"], found["rmd"]["ended"], found["rmd"]["rise"]) == (0.0, 1.0, 1.0)


def test_without_an_exact_method_curves_are_held_to_none(table1: Any) -> None:
    found = agreements(table1, truncated=("truncated", [0.0, 1.0]), implicit=("stationary", [0.0, 0.5]))
    assert all(math.isnan(each["apart"]) for each in found.values())


def test_the_table_of_curves_is_for_more_than_one(table1: Any) -> None:
    teacher(table1, "rmd")
    assert agreement_tables(results(table1)) == []
    teacher(table1, "higher")
    (table,) = agreement_tables(results(table1))
    assert [cells[0] for cells in table.rows] == ["rmd", "higher"]


def test_no_curves_make_no_rows() -> None:
    assert curve_agreements(
        pd.DataFrame(columns=["problem", "variant", "seed", "method", "outer_step", "value"]), {}
    ).empty


# -- how teachers were trained

TRAINED = {
    **{"outer_steps": 40, "students": 1, "lr": 0.6, "teacher_lr": 0.003, "teacher_betas": [0.9, 0.99]},
    **{"teacher_schedule": "linear", "clip": 1.0, "select_every": 10, "select_students": 8},
}


def test_a_table_says_how_teachers_were_trained_once_for_all_backends_that_were(table1: Any) -> None:
    for method, changes in (("rmd", {}), ("higher", {}), ("functorch", {"clip": 0.0, "select_every": 0})):
        folder = table1.plan("teacher", PROBLEM, method, 0, **SETTINGS, **{**TRAINED, **changes})
        table1.write(folder, "ok", {"loss": "learned", "exactness": "exact", "outer_steps": 40, "curve": curve([0.5])})
    (table,) = training_tables(results(table1))
    alike = (PROBLEM, "40", "1", "300", "0.6", "0.003 (0.9, 0.99) linear")
    assert table.rows == ((*alike, "1", "of every 10, by 8 students on dev"), (*alike, "–", "the last"))


def test_a_run_whose_settings_do_not_say_how_has_no_such_table(table1: Any) -> None:
    teacher(table1, "rmd")
    taught(table1, "cross-entropy", ERRORS, "cross-entropy")
    assert not training_tables(results(table1))


# -- effective lr, Phi_t


def as_long(errors: tuple[float, ...]) -> list[dict[str, float]]:
    """The same students by cross entropy in steps as long."""
    return [{"seed": index, "test_accuracy": 1 - error / 100} for index, error in enumerate(errors)]


@pytest.mark.parametrize(("gap", "verdict"), [(1.0, "+1.0"), (-1.0, "−1.0"), (0.0, "undecided")])
def test_what_a_loss_is_better_by_than_cross_entropy_in_steps_as_long_is_owed_to_its_shape(
    table1: Any, gap: float, verdict: str
) -> None:
    mixed = tuple(error + gap + (-0.1 if index % 2 else 0.1) for index, error in enumerate(ERRORS))
    needs = teacher(table1, "rmd")
    taught(table1, "rmd", ERRORS, "learned", needs=needs, cross_entropy_as_long=as_long(mixed))
    taught(table1, "cross-entropy", ERRORS, "cross-entropy")
    found = results(table1)
    (learned,) = (each for each in rows_of(found.teaching) if each["method"] == "rmd")
    assert learned["over_as_long"] == pytest.approx(gap / 100, abs=3e-4)
    (finding,) = (each for each in teaching_findings(found) if "shape" in each.question)
    assert finding.answer.startswith(verdict)


def test_nothing_is_said_of_the_shape_of_a_loss_that_was_not_held_to_its_size(table1: Any) -> None:
    taught(table1, "rmd", ERRORS, "learned", needs=teacher(table1, "rmd"))
    found = results(table1)
    assert found.teaching["over_as_long"].isna().all()
    assert not [each for each in teaching_findings(found) if "shape" in each.question]


def test_effective_lrs_are_drawn_by_loss_and_a_step_without_gradient_leaves_a_gap(table1: Any) -> None:
    points = [
        {"step": 0, "lr": 0.1, "gradient_norm": 1.0, "effective": 0.05},
        {"step": 10, "lr": 0.1, "gradient_norm": 0.0, "effective": None},
    ]
    taught(table1, "cross-entropy", ERRORS, "cross-entropy", effective_lr=points)
    group = effective_lr(results(table1))
    (panel,) = group.panels
    assert next(iter(panel.figure.data[0].y)) == 0.05 and "cross-entropy" in panel.alt


def phi(writer: Any, **changes: Any) -> Results:
    folder = writer.plan("phi", PROBLEM, "rmd", 0, **SETTINGS)
    pair = {"anchor": 0, "similar": [1], "dissimilar": [2], "rule": "by hand", "rows": [[1, 0.5, -0.5], [1, -0.25, 0]]}
    writer.write(folder, "ok", {"names": ["cat", "dog", "car"], "parts": [0.25, 0.75], "pairs": [pair | changes]})
    return results(writer)


def test_entries_of_phi_stand_by_part_of_the_run_and_class(table1: Any) -> None:
    found = phi(table1)
    (table,) = coefficient_tables(found)
    assert table.columns == ("when", "dog (alike)", "car (not alike)")
    assert table.rows == (("25% of the run", "0.500", "−0.500"), ("75% of the run", "−0.250", "0"))
    (panel,) = coefficients(found).panels
    assert [list(line) for line in panel.figure.data[0].z] == [[0.5, -0.5], [-0.25, 0]]
    assert any(group.anchor == "coefficients" for group in draw(found))


@pytest.mark.parametrize("wrong", [{"anchor": 3}, {"rows": [[1, 0, 0]]}, {"rows": [[1, 0], [0, 1]]}, {"similar": [-1]}])
def test_a_look_at_phi_that_does_not_fit_its_names_is_damaged(table1: Any, wrong: dict[str, Any]) -> None:
    found = phi(table1, **wrong)
    assert found.run.cells["status"].tolist() == ["damaged"] and found.coefficients.empty


# -- the best fixed loss


def test_a_learned_loss_is_held_to_the_best_fixed_one_that_is_told_no_more(table1: Any) -> None:
    taught(table1, "rmd", ERRORS, "learned", needs=teacher(table1, "rmd"))
    for method, gap in (("cross-entropy", 1.0), ("label-smoothing", 0.5), ("cross-entropy-dev-too", -1.0)):
        taught(table1, method, tuple(error + gap for error in ERRORS), method)
    found = results(table1)
    learned = next(each for each in rows_of(found.teaching) if each["method"] == "rmd")
    assert learned["best_fixed"] == "label-smoothing" and learned["over_best_fixed"] == pytest.approx(0.005)
    page = render(found)
    assert "Learned by rmd, against the best fixed loss" in page and "+0.5 [+0.5" in page.replace("\u00a0", " ")
