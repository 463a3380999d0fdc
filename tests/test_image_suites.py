"""The image experiments as suites: the paper's values where it gives them, every cell, and what small runs give."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from l2t_bench.data.catalogue import DATA_SETS
from l2t_bench.data.mnist_files import mnist_files
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.planning import cells_of
from l2t_bench.engine.recorder import Recorder
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError
from l2t_bench.paper import assumed
from l2t_bench.paper.numbers import paper_tables
from l2t_bench.registry import build_problem, list_backends, load_backend
from l2t_bench.suites import coefficients, judging, learning, teaching
from l2t_bench.suites.controls import NAMED, STATIC, fixed_of
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.trainer import outer_step

SUITES = ("table1", "table2", "figure3", "figure4", "generalise")
SMALL = "digits/mlp[train=40,dev=40,hidden=8]"


def planned(suite: str, profile: str, **asked: tuple[str, ...]) -> list[Cell]:
    return cells_of(Study((suite,), profile=profile, **asked))  # type: ignore[arg-type]


# -- plans


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_every_cell_can_be_made(suite: str, profile: str) -> None:
    """Its problem, its backend or loss, and its settings; no data is read."""
    for cell in planned(suite, profile):
        build_problem(cell.settings["problem"])
        if cell.kind == "teacher":
            TrainingSettings(**cell.settings)
            learning.backend_of(cell.method)
        elif cell.kind == "teaching":
            settings = JudgingSettings(**cell.settings)
            assert judging.candidates(cell.method, fixed_of(cell.method), settings)


def test_the_papers_table_1_has_the_appendix_values() -> None:
    cells = {cell.problem: cell.settings for cell in planned("table1", "paper") if cell.kind == "teacher"}
    assert set(cells) == {"mnist/mlp", "mnist/lenet"}
    for settings in cells.values():
        assert (settings["teacher_lr"], tuple(settings["teacher_betas"])) == (1e-4, (0.9, 0.999))
        assert (settings["teacher_schedule"], settings["clip"], settings["select_every"]) == ("constant", 0.0, 0)
        assert settings["outer_steps"] == 60
    assert cells["mnist/mlp"]["horizon"] == 50_000 // 20 * assumed.MLP_EPOCHS
    assert cells["mnist/lenet"]["horizon"] == 50_000 // 500 * assumed.LENET_EPOCHS


def test_the_papers_table_2_has_every_student_of_the_paper() -> None:
    cells = [cell for cell in planned("table2", "paper") if cell.kind == "teacher"]
    assert {cell.problem for cell in cells} == {student for student, _ in paper_tables()["table2"].values}
    assert {cell.settings["outer_steps"] for cell in cells} == {100}
    assert {cell.settings["horizon"] for cell in cells} == {45_000 // 128 * assumed.CIFAR_EPOCHS}


@pytest.mark.parametrize("suite", ["noisy-labels", "generalise"])
@pytest.mark.parametrize("profile", ["smoke", "quick"])
def test_beyond_the_paper_too_every_learned_loss_has_the_usual_controls(suite: str, profile: str) -> None:
    cells = planned(suite, profile)
    for problem in {cell.problem for cell in cells if cell.kind == "teaching"}:
        methods = {cell.method for cell in cells if cell.problem == problem and cell.kind == "teaching"}
        assert {"untrained-teacher", "static-teacher", "cross-entropy", "label-smoothing"} <= methods
        assert {f"cross-entropy-{how}" for how in ("constant", "decayed", "dev-too")} <= methods


@pytest.mark.parametrize("table", ["table1", "table2"])
@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_beside_every_learned_loss_stand_its_controls(table: str, profile: str) -> None:
    cells = planned(table, profile)
    for problem in {cell.problem for cell in cells}:
        methods = {cell.method for cell in cells if cell.problem == problem and cell.kind == "teaching"}
        assert {"cross-entropy", "smooth01", "large-margin", "untrained-teacher"} <= methods
        assert {*NAMED, "static-teacher", "label-smoothing", "focal"} <= methods


def test_at_profile_paper_every_loss_has_the_papers_lr_and_none_is_tuned() -> None:
    for cell in planned("table1", "paper") + planned("table2", "paper"):
        if cell.kind != "teaching":
            continue
        tried = judging.candidates(cell.method, fixed_of(cell.method), JudgingSettings(**cell.settings))
        assert {each.lr for each in tried} == {0.1 if cell.suite == "table2" else 0.01}
        assert len(tried) == (4 if cell.method == "smooth01-tuned" else 1)  # the K that it is tuned over


def test_the_smallest_table_1_is_of_digits_where_mnist_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("L2T_BENCH_DATA", str(tmp_path))
    assert {cell.problem for cell in planned("table1", "smoke")} == {"digits/mlp", "digits/lenet"}
    for file in mnist_files():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert {cell.problem for cell in planned("table1", "smoke")} == {"mnist/mlp", "mnist/lenet"}


def test_a_teacher_and_its_students_are_cells_of_their_own() -> None:
    cells = planned("table1", "quick", backends=("rmd",), problems=("mnist/mlp",))
    teachers = {cell.cell_id: cell for cell in cells if cell.kind == "teacher"}
    learned = [cell for cell in cells if cell.needs]
    assert {teachers[cell.needs].method for cell in learned} == {"rmd", "static-teacher"}
    assert all(cell.method == teachers[cell.needs].method for cell in learned)


def test_more_students_need_no_other_teacher() -> None:
    changed = Study(("table1",), profile="smoke", overrides={"teaching": {"fresh_students": 7}})
    ours, theirs = (
        {cell.cell_id for cell in cells if cell.kind == "teacher"}
        for cells in (planned("table1", "smoke"), cells_of(changed))
    )
    assert ours == theirs


def test_a_problem_that_is_not_the_tables_is_a_mistake() -> None:
    with pytest.raises(UserError, match="has mnist/mlp, mnist/lenet, not digits/mlp"):
        planned("table1", "quick", problems=("digits/mlp",))


def test_a_teacher_from_elsewhere_stands_beside_the_one_that_learned_here() -> None:
    cells = planned("generalise", "quick")
    teachers = {cell.cell_id: cell for cell in cells if cell.kind == "teacher"}
    carried = [cell for cell in cells if cell.needs and "from=" in cell.method]
    assert carried and all(teachers[cell.needs].settings["problem"] != "" for cell in carried)
    for cell in carried:
        source = teachers[cell.needs]
        assert source.problem != cell.problem
        own = [each for each in cells if each.problem == cell.problem and each.needs and each.method == "rmd"]
        assert [teachers[each.needs].problem for each in own] == [cell.problem]


# -- the paper's numbers


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    tables = paper_tables()
    assert {name: len(table.values) for name, table in tables.items()} == {"table1": 8, "table2": 32, "table3": 15}
    assert tables["table1"].values["mnist/lenet", "learned"] == 0.77
    assert tables["table2"].values["cifar100/resnet8", "cross-entropy"] == 39.79
    assert tables["table2"].values["cifar10/densenet-bc-190-40", "learned"] == 3.08
    assert tables["table3"].values["iwslt14/transformer", "learned"] == 34.80
    for table in tables.values():  # in all of them the paper's loss is the best
        better = min if table.unit == "%" else max
        for student in table.rows:
            found = {loss: value for (who, loss), value in table.values.items() if who == student}
            assert better(found, key=lambda loss: found[loss]) == "learned"


def test_what_is_assumed_is_what_the_problems_take() -> None:
    mlp, resnet = build_problem("mnist/mlp"), build_problem("cifar10/resnet8")
    for problem in (mlp, resnet):
        assert problem.features.every == assumed.REFRESH  # type: ignore[union-attr]
        teacher = problem.init_teacher(0)["W"]
        assert torch.equal(teacher, torch.eye(10)[:, :, None].expand_as(teacher))
        assert problem.optimizer.weight_decay == 0  # type: ignore[attr-defined]


# -- cells


def cell_of(kind: str, method: str, settings: object, needs: str = "") -> Cell:
    return Cell("s", 1, "p", kind, "digits/mlp", method, 0, "none:none", settings=vars(settings), needs=needs)


def test_a_teacher_is_kept_and_taught_by_another_cell_as_if_it_were_one(tmp_path: Path) -> None:
    settings = TeachingSettings(
        problem=SMALL, horizon=8, outer_steps=3, select_every=2, select_students=1, learned_grid=(0.1, 0.2),
        tuning_students=1, fresh_students=2,
    )  # fmt: skip
    for name in ("teacher", "student", "alone"):
        (tmp_path / name).mkdir()
    teacher = cell_of("teacher", "rmd", TrainingSettings(**settings.of_training()))
    trained = teaching.train(teacher, Recorder(tmp_path / "teacher"))
    student = cell_of("teaching", "rmd", JudgingSettings(**settings.of_judging()), needs=teacher.cell_id)
    taught = teaching.measure(student, Recorder(tmp_path / "student", needed=tmp_path / "teacher"))
    alone = teaching.measure(cell_of("teaching", "rmd", settings), Recorder(tmp_path / "alone"))
    assert taught["students"] == alone["students"] and taught["lr"] == alone["lr"]
    assert [step["value"] for step in trained["curve"]] == [step["value"] for step in alone["curve"]]
    assert trained["exactness"] == "exact" and 0 < trained["largest_change"]["W"] < 0.02
    assert json.loads(json.dumps(trained)) and trained["peak_bytes"] > 0


def test_a_teachers_students_are_taught_by_cross_entropy_in_steps_as_long_too(tmp_path: Path) -> None:
    settings = JudgingSettings(
        problem=SMALL, horizon=8, untrained_grid=(0.1,), cross_entropy_grid=(0.1,), fixed_schedules=("linear",),
        tuning_students=1, fresh_students=2,
    )  # fmt: skip
    untrained, fixed = (
        teaching.teaching_cell(method, TeachingSettings(**vars(settings)), "cpu", 0, Recorder(tmp_path))
        for method in ("untrained-teacher", "cross-entropy")
    )
    as_long = untrained["cross_entropy_as_long"]
    assert [student["seed"] for student in as_long] == [student["seed"] for student in untrained["students"]]
    assert all(0 <= student["test_accuracy"] <= 1 for student in as_long)
    assert fixed["cross_entropy_as_long"] == []


def test_a_teacher_that_was_cut_on_its_way_is_gone_on_with_and_is_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "_CHECKPOINTS_EVERY", 1)
    teacher = cell_of("teacher", "rmd", TrainingSettings(problem=SMALL, horizon=4, outer_steps=4, select_every=0))

    def attempt(name: str, recorder: type[Recorder] = Recorder) -> None:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        made = recorder(place, begun=tmp_path / "begun")
        teaching.train(teacher, made)
        made.close()

    class Cut(Recorder):
        def curve(self, **point: Any) -> None:
            if point["outer_step"] == 2:
                raise KeyboardInterrupt
            super().curve(**point)

    def curve(name: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (tmp_path / name / "curves.jsonl").read_text().splitlines())
        return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]

    attempt("alone")
    with pytest.raises(KeyboardInterrupt):
        attempt("cut", Cut)
    assert len(curve("cut")) == 2 and list((tmp_path / "begun").glob("*/checkpoint-*"))
    drawn: list[range] = []
    taken = outer_step.teacher_gradients

    def counted(*given: Any, seeds: range, **more: Any) -> Any:
        drawn.append(seeds)
        return taken(*given, seeds=seeds, **more)

    monkeypatch.setattr(outer_step, "teacher_gradients", counted)
    attempt("resumed")
    assert len(drawn) == 2, "the first two outer steps are not taken again"
    assert curve("resumed") == curve("alone") and len(curve("alone")) == 4
    kept = [(tmp_path / name / "artifacts" / learning.TEACHER_FILE).read_bytes() for name in ("alone", "resumed")]
    assert kept[0] == kept[1] and not (tmp_path / "begun").exists()


def test_without_selection_the_last_teacher_is_kept(tmp_path: Path) -> None:
    settings = TrainingSettings(problem=SMALL, horizon=4, outer_steps=2, select_every=0)
    trained = teaching.train(cell_of("teacher", "rmd", settings), Recorder(tmp_path))
    assert (trained["selection"], trained["selected_outer_step"]) == ([], 2)


def test_the_best_of_several_losses_is_chosen_on_dev(tmp_path: Path) -> None:
    settings = TeachingSettings(problem=SMALL, horizon=6, fixed_grid=(0.01, 0.1), tuning_students=1, fresh_students=1)
    judged = teaching.teaching_cell("smooth01-tuned", settings, "cpu", 0, Recorder(tmp_path))
    tried = {(each["loss"], each["schedule"], each["lr"]): each["dev_accuracy"] for each in judged["lr_grid"]}
    assert len(tried) == len(NAMED["smooth01-tuned"].losses) * 2 * 2
    assert tried[judged["chosen"], judged["schedule"], judged["lr"]] == max(tried.values())


def test_an_lr_of_the_problems_own_is_not_tuned(tmp_path: Path) -> None:
    settings = TeachingSettings(problem=SMALL, lr=0.01, horizon=6, fixed_schedules=("own",), fresh_students=1)
    judged = teaching.teaching_cell("cross-entropy", settings, "cpu", 0, Recorder(tmp_path))
    assert (judged["schedule"], judged["lr"], judged["lr_grid"]) == ("own", 0.01, [])


def test_dev_too_is_more_data_to_train_on_and_the_same_dev(tmp_path: Path) -> None:
    settings = TeachingSettings(
        problem=SMALL, horizon=6, cross_entropy_grid=(0.1,), tuning_students=1, fresh_students=1
    )
    judged = teaching.teaching_cell("cross-entropy-dev-too", settings, "cpu", 0, Recorder(tmp_path))
    assert (judged["train"], judged["dev"]) == (80, 40)


# -- Figure 4


def test_phi_is_looked_at_where_it_was_asked_for(tmp_path: Path) -> None:
    problem = build_problem(SMALL)
    theta = problem.init_teacher(0)
    matrices, _ = coefficients.coefficients_at(problem, theta, 30, 0, [0, 25])
    assert list(matrices) == [0, 25]
    assert all(matrix.shape == (10, 10) for matrix in matrices.values())
    steps = load_backend("rmd").teacher_gradient(problem, theta, horizon=30, seed=0).steps
    expected = problem.phi(theta, steps[25].features).detach()
    torch.testing.assert_close(matrices[25], expected)


def test_pairs_are_the_most_and_the_least_confused() -> None:
    confusion = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.3, 0.4, 0.2, 0.1], [0.0, 0.0, 1.0, 0.0], [0.0, 0.2, 0.1, 0.7]])
    first, second = coefficients.pairs_by_confusion(confusion, anchors=2, similar=1, dissimilar=1)
    assert (first.anchor, first.similar, first.dissimilar) == (1, (0,), (3,))
    assert (second.anchor, second.similar, second.dissimilar) == (3, (1,), (0,))


def test_the_papers_classes_are_those_that_it_names() -> None:
    names = assumed.CIFAR100_NAMES
    assert len(names) == 100 and list(names) == sorted(names)
    (otter, near_otter, _), (baby, near_baby, _) = assumed.FIGURE4_PAIRS
    assert (names[otter], names[baby]) == ("otter", "baby")
    assert "dolphin" in [names[index] for index in near_otter] and "boy" in [names[index] for index in near_baby]


def test_a_look_at_phi_reads_the_teacher_of_the_cell_that_it_needs(tmp_path: Path) -> None:
    problem = build_problem(SMALL)
    (tmp_path / "teacher" / "artifacts").mkdir(parents=True)
    (tmp_path / "look").mkdir()
    theta = {name: tensor + 0.5 for name, tensor in problem.init_teacher(0).items()}
    save_file(theta, tmp_path / "teacher" / "artifacts" / learning.TEACHER_FILE)
    settings = coefficients.CoefficientSettings(problem=SMALL, horizon=8)
    found = coefficients.measure(
        cell_of("phi", "rmd", settings, needs="teacher-x-0"), Recorder(tmp_path / "look", needed=tmp_path / "teacher")
    )
    assert found["steps"] == [2, 4, 5] and len(found["pairs"]) == 2
    assert set(load_file(tmp_path / "look" / "artifacts" / found["matrix_file"])) == {
        f"step_{step}" for step in range(8)
    }
    assert found["largest"] == pytest.approx(1.5, abs=1e-6)  # the identity, moved by a half; W softmax(V s) keeps it
    assert json.loads(json.dumps(found))


def test_every_backend_that_repeats_a_table_is_one_of_ours() -> None:
    methods = {cell.method.partition("[")[0] for cell in planned("table1", "paper") if cell.kind == "teacher"}
    assert methods - {STATIC} <= set(list_backends()) and len(methods - {STATIC}) == 6


def test_the_data_of_the_suites_are_known_by_name() -> None:
    names = {cell.problem.partition("/")[0] for suite in SUITES for cell in planned(suite, "quick")}
    assert names <= set(DATA_SETS)
