"""Table 3 as a suite: one warm start for all losses, teachers trained from it, students judged by BLEU."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, pstdev

import pytest
import torch
from safetensors.torch import load_file

from l2t_bench.adam import Adam
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING
from l2t_bench.engine.planning import cells_of
from l2t_bench.engine.recorder import Recorder
from l2t_bench.engine.records import DamagedError
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError
from l2t_bench.lessons import teach, with_start
from l2t_bench.modules import same_tensors
from l2t_bench.paper import assumed
from l2t_bench.paper.numbers import paper_tables
from l2t_bench.registry import build_problem, load_loss
from l2t_bench.reports.forms import check_measurements
from l2t_bench.suites import translation_cells, translation_cells_forecast
from l2t_bench.suites.learning import TEACHER_FILE, backend_of
from l2t_bench.suites.settings import TrainingSettings
from l2t_bench.suites.translation_judging import grid_of
from l2t_bench.suites.translation_losses import BASELINES, FIXED, is_learned
from l2t_bench.suites.translation_settings import TranslationJudging, WarmStartSettings
from l2t_bench.training import SeedRange
from l2t_bench.translating import translate

SMALL = (
    "numbers/lstm1[embedding=3,hidden=4,train=60,dev=5,test=6,largest=99,pieces=30,source_vocabulary=34,"
    "target_vocabulary=34,batch=3,count=2,dev_sentences=5,train_batches=1,dev_chunk=3]"
)
WARM = WarmStartSettings(SMALL, steps=4, lr=0.01)
TRAINING = TrainingSettings(problem=SMALL, horizon=3, outer_steps=2, select_every=0)
JUDGING = TranslationJudging(SMALL, 3, (0.1, 0.2), fresh_students=2)


def planned(profile: str, **asked: tuple[str, ...]) -> list[Cell]:
    return cells_of(Study(("table3",), profile=profile, **asked))  # type: ignore[arg-type]


def cell_of(kind: str, method: str, settings: object, needs: str = "") -> Cell:
    return Cell("s", 1, "p", kind, "numbers/lstm1", method, 0, "none:none", settings=vars(settings), needs=needs)


# -- plans


@pytest.mark.parametrize("profile", ["smoke", "quick", "sample", "paper"])
def test_every_cell_can_be_made(profile: str) -> None:
    cells = planned(profile)
    for problem in {cell.settings["problem"] for cell in cells}:
        build_problem(problem)
    for cell in cells:
        if cell.kind == "teacher":
            TrainingSettings(**cell.settings)
            backend_of(cell.method)
        elif cell.kind == "teaching":
            TranslationJudging(**cell.settings)
    for loss in FIXED.values():
        load_loss(loss)


@pytest.mark.parametrize("profile", ["smoke", "quick", "sample", "paper"])
def test_all_losses_of_a_student_and_seed_begin_at_one_warm_start(profile: str) -> None:
    cells = planned(profile, seeds=(0, 1))  # type: ignore[arg-type]
    by_id = {cell.cell_id: cell for cell in cells}
    for cell in cells:
        start = cell
        while start.needs:
            start = by_id[start.needs]
        assert start.kind == "warm-start" and (start.problem, start.seed) == (cell.problem, cell.seed)
    starts = [cell for cell in cells if cell.kind == "warm-start"]
    assert (
        len(starts) == len({(cell.problem, cell.seed) for cell in cells}) == 2 * len({cell.problem for cell in cells})
    )


def test_beside_every_learned_loss_stand_fixed_ones_and_the_untrained_teacher() -> None:
    cells = planned("quick", backends=("rmd",), problems=("numbers/lstm1",))
    assert [cell.method for cell in cells if cell.kind == "teacher"] == ["rmd"]
    assert {cell.method for cell in cells if cell.kind == "teaching"} == {"rmd", "untrained-teacher", *BASELINES}
    taught = [cell for cell in cells if cell.kind == "teaching"]
    assert all(cell.settings == taught[0].settings for cell in taught)  # others are not set beside each other
    grids = [grid_of(cell.method, TranslationJudging(**cell.settings)) for cell in taught]
    assert len({len(grid) for grid in grids}) == 1  # as many tries each


def test_each_students_lrs_lie_around_the_one_that_its_teachers_learn_at() -> None:
    settings = {cell.problem: cell.settings for cell in planned("quick", backends=("rmd",)) if cell.kind == "teaching"}
    teachers = {cell.problem: cell.settings for cell in planned("quick", backends=("rmd",)) if cell.kind == "teacher"}
    for problem, judging in settings.items():
        grid, lr = judging["grids"]["learned"], teachers[problem]["lr"]
        assert grid[len(grid) // 2] == lr and grid == sorted(grid)
        optimizer = build_problem(teachers[problem]["problem"]).optimizer
        assert [optimizer.lr_at(index, 4) for index in (0, 2)] == [lr, lr / 2] and judging["schedule"] == "linear"


def test_the_papers_table_3_has_the_appendix_values() -> None:
    cells = planned("paper", backends=("rmd",))
    teachers = [cell for cell in cells if cell.kind == "teacher"]
    epoch = assumed.TRANSLATION_PAIRS // 32
    for cell in (cell for cell in cells if cell.kind == "teaching"):
        assert cell.settings["schedule"] == "constant" and "recipe=153k" in cell.settings["problem"]
        assert cell.settings["critic"] == {"critic_steps": 15 * epoch}
    assert {cell.problem for cell in teachers} == set(paper_tables()["table3"].rows)
    for cell in teachers:
        assert (cell.settings["outer_steps"], cell.settings["lr"], cell.settings["teacher_lr"]) == (50, 0.1, 1e-4)
        optimizer = build_problem(cell.settings["problem"]).optimizer
        assert (optimizer.lr, optimizer.momentum) == (0.1, 0)  # type: ignore[attr-defined]


def test_the_losses_are_named_as_in_the_papers_table() -> None:
    papers = {loss for _, loss in paper_tables()["table3"].values}
    assert {*BASELINES, "learned"} == papers | {"minimum-risk"}


def test_a_problem_that_is_not_the_tables_is_a_mistake() -> None:
    with pytest.raises(UserError, match="has numbers/lstm1, numbers/lstm2, numbers/transformer, not digits/mlp"):
        planned("smoke", problems=("digits/mlp",))


# -- cells


def test_a_student_from_a_warm_start_is_there_before_its_first_step() -> None:
    problem = build_problem(SMALL)
    start = problem.init_student(7).params
    begun = with_start(problem, start)
    assert all(same_tensors(begun.init_student(seed).params, start) for seed in (0, 1))


def test_a_warm_start_is_cross_entropy_by_its_own_optimiser() -> None:
    problem = build_problem(SMALL)
    warming = translation_cells.warming(problem, WARM)
    assert isinstance(warming.optimizer, Adam) and warming.optimizer.clip == 1
    assert [warming.optimizer.lr_at(index, 4) for index in (0, 2)] == [0.01, 0.005]
    assert warming.loss == load_loss("word-cross-entropy")
    assert (assumed.WARM_START_LR, assumed.TRANSLATION[0].what) == (0.0005, "warm start")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A warm start and a teacher that was trained from it."""
    for name in ("warm", "teacher", "taught"):
        (tmp_path / name).mkdir()
    warm = cell_of("warm-start", "cross-entropy", WARM)
    translation_cells.warm_start(warm, Recorder(tmp_path / "warm"))
    teacher = cell_of("teacher", "rmd", TRAINING, warm.cell_id)
    trained = translation_cells.train(teacher, Recorder(tmp_path / "teacher", needed=tmp_path / "warm"))
    check_measurements("teacher", json.loads(json.dumps(trained)))
    return tmp_path


def test_a_teacher_cannot_have_another_split_than_its_warm_start(tmp_path: Path) -> None:
    teacher = cell_of("teacher", "rmd", replace(TRAINING, first_split=3), "warm-start-x-0")
    with pytest.raises(UserError, match="has the problem's own split: name one there"):
        translation_cells.train(teacher, Recorder(tmp_path))


def test_a_teacher_of_the_small_students_is_chosen_by_held_out_students_the_untrained_one_among_them() -> None:
    teachers = [cell for cell in planned("quick") if cell.kind == "teacher"]
    assert all(0 < cell.settings["select_every"] <= cell.settings["outer_steps"] for cell in teachers)
    assert all(cell.settings["select_students"] > 1 for cell in teachers)  # one has no deviation


def test_translating_students_judge_teachers_by_bleu(tmp_path: Path, run: Path) -> None:
    choosing = replace(TRAINING, select_every=1, select_students=2)
    teacher = cell_of("teacher", "rmd", choosing, "warm-start-x-0")
    found = translation_cells.train(teacher, Recorder(tmp_path, needed=run / "warm"))
    check_measurements("teacher", json.loads(json.dumps(found)))
    assert [judged["outer_step"] for judged in found["selection"]] == [0, 1, 2]
    problem = with_start(build_problem(SMALL), load_file(run / "warm" / "artifacts" / translation_cells.START_FILE))
    untrained = problem.init_teacher(0)
    students = [teach(problem, untrained, horizon=3, seed=seed) for seed in SeedRange.SELECTION.seeds(2)]
    scores = [translate(problem, student, "dev").bleu().score for student in students]
    assert found["selection"][0]["dev_bleu_mean"] == pytest.approx(fmean(scores))
    assert found["selection"][0]["dev_bleu_std"] == pytest.approx(pstdev(scores))


@pytest.mark.parametrize("other", [{"dev_accuracy_mean": 0.5, "dev_accuracy_std": 0.1}, {"dev_bleu_mean": 50.0}, {}])
def test_judgements_by_two_measures_or_by_none_are_damage(other: dict[str, float]) -> None:
    by_bleu = {"outer_step": 0, "dev_bleu_mean": 50.0, "dev_bleu_std": 1.0}
    check_measurements("teacher", {"loss": "learned", "selection": [by_bleu]})
    with pytest.raises(DamagedError, match="selection"):
        check_measurements("teacher", {"loss": "learned", "selection": [by_bleu, {"outer_step": 1, **other}]})


def test_a_teacher_keeps_its_warm_start_for_its_students(run: Path) -> None:
    kept = [load_file(run / name / "artifacts" / translation_cells.START_FILE) for name in ("warm", "teacher")]
    assert same_tensors(*kept)
    theta = load_file(run / "teacher" / "artifacts" / TEACHER_FILE)
    first = build_problem(SMALL).init_teacher(0)
    assert all(not torch.equal(theta[name], first[name]) for name in first)


@pytest.mark.parametrize(
    "method",
    ["rmd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("untrained-teacher", *BASELINES))],
)
def test_students_of_every_loss_are_judged_by_bleu_with_its_signature(run: Path, method: str) -> None:
    needed = run / ("teacher" if is_learned(method) else "warm")
    cell = cell_of("teaching", method, JUDGING, f"{needed.name}-x-0123456789")
    found = translation_cells.measure(cell, Recorder(run / "taught", needed=needed))
    check_measurements("teaching", json.loads(json.dumps(found)))
    assert "tok:none" in found["signature"] and "tok:13a" in found["detokenised_signature"]
    assert len(found["students"]) == 2 and found["test"] == 6
    assert [tried["lr"] for tried in found["lr_grid"]] == [0.1, 0.2]
    again = translation_cells.measure(cell, Recorder(run / "taught", needed=needed))
    assert again["students"] == found["students"]


def test_a_learned_loss_teaches_from_the_warm_start_under_the_teacher(run: Path) -> None:
    kept = run / "teacher" / "artifacts"
    start, theta = load_file(kept / translation_cells.START_FILE), load_file(kept / TEACHER_FILE)
    problem = with_start(build_problem(SMALL), start)
    ends = [teach(problem, each, horizon=3, seed=0).params for each in (theta, problem.init_teacher(0))]
    assert not same_tensors(*ends) and not same_tensors(ends[0], start)


# -- forecasts


def test_a_dry_run_says_what_every_kind_of_cell_takes() -> None:
    kinds = (
        (translation_cells_forecast.warm_start, cell_of("warm-start", "cross-entropy", WARM)),
        (translation_cells_forecast.train, cell_of("teacher", "rmd", TRAINING, "warm-start-x-0")),
        (translation_cells_forecast.measure, cell_of("teaching", "cross-entropy", JUDGING, "warm-start-x-0")),
        (translation_cells_forecast.measure, cell_of("teaching", "actor-critic", JUDGING, "warm-start-x-0")),
    )
    for forecast, cell in kinds:
        expected = forecast(cell, None)
        assert expected.seconds is not None and expected.seconds > 0 and expected.source


def test_a_critic_is_counted_once_for_all_the_rates_of_its_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translation_cells_forecast, "seconds_of_steps", lambda train: 1.0)
    judging = TranslationJudging(
        SMALL, 10, (0.1, 0.2, 0.4), tuning_students=2, fresh_students=5, critic={"critic_steps": 100}
    )
    students, critics = 3 * 2 + 5, 2 + 5
    for method, steps in (("actor-critic", students * 10 + critics * 100), ("reinforce", students * 10)):
        expected = translation_cells_forecast.measure(cell_of("teaching", method, judging, "warm-start-x-0"), None)
        assert expected.seconds == STARTING + steps


def test_translations_that_are_no_bleu_are_damage() -> None:
    row = {"seed": 0, "dev_bleu": 1.0, "test_greedy_bleu": 1.0, "test_bleu": 101.0, "test_detokenised_bleu": 1.0}
    measured = {"loss": "learned", "lr": 0.1, "lr_grid": [], "beam": 5, "students": [row]}
    with pytest.raises(Exception, match="students"):
        check_measurements("teaching", {**measured, "signature": "s", "detokenised_signature": "d"})
    assert set(asdict(JUDGING)) >= {"beam"}
