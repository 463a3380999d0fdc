"""What a dry run says of teachers and their students, before any is trained."""

import dataclasses
from typing import Any

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.engine import forecast
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.gradient import Prediction
from l2t_bench.measure import Memory
from l2t_bench.problem import example_count
from l2t_bench.suites import step_cost, teaching_forecast
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings
from l2t_bench.suites.step_cost import StepCost, cost_of_step

SMALL = "digits/mlp[train=40,dev=40,hidden=8]"


def cell_of(kind: str, method: str, settings: object, needs: str = "") -> Cell:
    return Cell("s", 1, "p", kind, "digits/mlp", method, 0, "none:none", settings=vars(settings), needs=needs)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient takes 2 s and 1 MB at any horizon, a student's step 1 ms."""
    monkeypatch.setattr("l2t_bench.backend.Backend.predict", lambda *_: Prediction(1_000_000, 2.0))
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: StepCost(0.001))


@pytest.mark.usefixtures("known")
def test_a_teacher_takes_its_gradients_and_its_held_out_students() -> None:
    settings = TrainingSettings(
        problem=SMALL, horizon=100, outer_steps=6, students=2, select_every=3, select_students=4
    )
    found = teaching_forecast.train(cell_of("teacher", "rmd", settings), None)
    judged = 3 * 4 * 100 * 0.001  # before the first, the fourth and after the last outer step
    assert found.seconds == pytest.approx(STARTING + 6 * 2 * 2.0 + judged)
    assert found.source == "prediction" and found.peak_bytes is not None and found.peak_bytes > 1_000_000


@pytest.mark.usefixtures("known")
def test_what_will_not_fit_is_refused_with_the_prediction_and_what_is_left() -> None:
    settings = TrainingSettings(problem=SMALL)
    with pytest.raises(l2t.Refused, match=r"would take 1 MB, and 0 kB are left \(prediction\)"):
        teaching_forecast.train(cell_of("teacher", "rmd", settings), 1)


def test_what_a_backend_does_not_do_is_refused() -> None:
    settings = TrainingSettings(problem=f"{SMALL[:-1]},nesterov=true]", horizon=4)
    with pytest.raises(l2t.Refused):
        teaching_forecast.train(cell_of("teacher", "rmd[store=reversible]", settings), None)


@pytest.mark.usefixtures("known")
def test_students_are_counted_for_tuning_and_for_the_result() -> None:
    settings = JudgingSettings(
        problem=SMALL, horizon=100, cross_entropy_grid=(0.1, 0.2), tuning_students=3, fresh_students=5
    )
    fixed = teaching_forecast.measure(cell_of("teaching", "cross-entropy", settings), None)
    assert fixed.seconds == pytest.approx(STARTING + (2 * 2 * 3 + 5 + 1) * 100 * 0.001)  # two schedules of two rates
    alone = JudgingSettings(problem=SMALL, horizon=100, fixed_schedules=("own",), fresh_students=5)
    untuned = teaching_forecast.measure(cell_of("teaching", "cross-entropy", alone), None)
    assert untuned.seconds == pytest.approx(STARTING + (5 + 1) * 100 * 0.001)


@pytest.mark.usefixtures("known")
def test_a_teachers_students_are_counted_twice_by_its_loss_and_by_cross_entropy_in_steps_as_long() -> None:
    settings = JudgingSettings(problem=SMALL, horizon=100, untrained_grid=(0.1,), fresh_students=5)
    found = teaching_forecast.measure(cell_of("teaching", "untrained-teacher", settings, needs="teacher-x-0"), None)
    assert found.seconds == pytest.approx(STARTING + (2 * 5 + 1) * 100 * 0.001)


@pytest.mark.usefixtures("known")
def test_a_cell_that_trains_its_teacher_itself_takes_both() -> None:
    settings = TeachingSettings(problem=SMALL, outer_steps=6, learned_grid=(0.1,), fresh_students=5)
    both = teaching_forecast.measure(cell_of("teaching", "rmd", settings), None)
    judging = JudgingSettings(**settings.of_judging())
    students = teaching_forecast.measure(cell_of("teaching", "rmd", judging, needs="teacher-x-0123456789"), None)
    teacher = teaching_forecast.train(cell_of("teacher", "rmd", TrainingSettings(**settings.of_training())), None)
    assert both.seconds == pytest.approx((students.seconds or 0) + (teacher.seconds or 0))


@pytest.mark.parametrize("method", ["rmd", "higher"])
def test_of_a_slow_student_no_short_runs_are_made_and_the_figures_are_bounds(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: StepCost(2.0))
    monkeypatch.setattr("l2t_bench.backend.Backend.predict", lambda *_: pytest.fail("it was predicted"))
    settings = TrainingSettings(problem=SMALL, horizon=1000, outer_steps=2, students=1, select_every=0)
    found = teaching_forecast.train(cell_of("teacher", method, settings), None)
    assert found.source == "at least: a student's step takes 2 s"
    assert found.seconds == pytest.approx(STARTING + 2 * 3 * 1000 * 2.0)
    held = sum(param.numel() for param in l2t.build_problem(SMALL).student.parameters()) * 4 * 1000
    assert found.peak_bytes is not None and found.peak_bytes > held, "a thousand states at the least"


def test_a_task_without_a_forecast_is_of_unknown_length() -> None:
    cell = Cell("s", 1, "p", "other", "none", "m", 0, "json:loads")
    answered = forecast.answer({"cell": vars(cell), "memory_limit": None})
    assert Expected(**answered) == Expected(None, None, "nothing")


def test_a_real_students_step_takes_some_time() -> None:
    cost = cost_of_step(SMALL, "cpu", "float32")
    assert 0 < cost.seconds < 1 and cost.peak_bytes is None


# -- students whose steps are too long to be timed ---------------------------------------------------------------------

LARGE = "digits/lenet[batch=200]"


def test_a_long_step_is_carried_on_from_steps_of_a_few_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, taught = [0.0], []

    def teach(problem: l2t.TeachingProblem, theta: object, *, horizon: int, seed: int) -> None:
        for index in range(horizon):
            taught.append(example_count(problem.train(index, seed)))
            clock[0] += (10.0 if index == 0 else 0.1) + 0.01 * taught[-1]
        assert example_count(problem.dev_batches[0]) == taught[-1], "features look at dev"

    class Meter:
        def __init__(self, device: object) -> None: ...
        def host(self) -> Memory:
            return Memory(100, 1100 + 10 * taught[-1])

    monkeypatch.setattr(step_cost, "teach", teach)
    monkeypatch.setattr(step_cost, "Meter", Meter)
    monkeypatch.setattr(step_cost, "_now", lambda device: clock[0])
    monkeypatch.setattr(step_cost, "_LONG", 2.0)
    cost = cost_of_step.__wrapped__(LARGE, "cpu", "float32")
    assert set(taught) == {2, 6} and cost.source == "steps of 2 and 6 examples, carried on to 200"
    assert cost.seconds == pytest.approx(0.1 + 0.01 * 200) and cost.peak_bytes == 1000 + 10 * 200


def test_the_step_that_is_timed_has_one_pass_as_those_in_the_middle_of_a_run_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some places of a run are looked at once, with second derivatives: the last step of a first run is one of them."""
    events: list[str] = []
    loss, now = l2t.TeachingProblem.train_loss, step_cost._now
    monkeypatch.setattr(l2t.TeachingProblem, "train_loss", lambda *given: events.append("pass") or loss(*given))
    monkeypatch.setattr(step_cost, "_now", lambda device: events.append("clock") or now(device))
    step_cost._small_cost(step_cost.of_examples(l2t.build_problem(LARGE), 2))
    assert events[-3:] == ["clock", "pass", "clock"]


def test_so_have_the_steps_that_are_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    loss, run = l2t.TeachingProblem.train_loss, step_cost._seconds_of_run
    counted: dict[int, int] = {}

    def timed(train: Any, horizon: int) -> float:
        before = len(passes)
        seconds = run(train, horizon)
        counted[horizon] = len(passes) - before
        return seconds

    monkeypatch.setattr(l2t.TeachingProblem, "train_loss", lambda *given: passes.append(1) or loss(*given))
    monkeypatch.setattr(step_cost, "_seconds_of_run", timed)
    step_cost.seconds_of_step(l2t.build_problem(SMALL))
    assert counted[1 + step_cost._STEPS] - counted[1] == step_cost._STEPS


@pytest.mark.parametrize("method", ["rmd", "rmd[store=reversible]", "truncated[window=20]", "higher"])
def test_a_teacher_takes_a_students_step_whatever_its_law(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: StepCost(100.0, 3 * 10**9, "a few examples"))
    settings = TrainingSettings(problem=SMALL, horizon=50, outer_steps=1, students=1, select_every=0)
    found = teaching_forecast.train(cell_of("teacher", method, settings), None)
    assert found.peak_bytes is not None and found.peak_bytes > 3 * 10**9


def test_a_dev_batch_that_cannot_be_cut_has_its_students_step_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = l2t.build_problem(LARGE)
    inputs, targets = problem.dev_batches[0]
    assert step_cost.can_be_cut(problem)
    assert not step_cost.can_be_cut(dataclasses.replace(problem, dev=((inputs, torch.tensor(3.0)), targets)))


def test_a_step_that_is_not_long_is_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "seconds_of_step", lambda problem: 0.03)
    assert cost_of_step.__wrapped__(LARGE, "cpu", "float32") == StepCost(0.03)


def test_a_step_is_looked_at_once_for_all_cells_of_its_student(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    monkeypatch.setattr(step_cost, "built", lambda spec, *where: built.append(spec) or l2t.build_problem(spec))
    own = f"{SMALL[:-1]},lr=0.017]"
    assert cost_of_step(own, "cpu", "float32") is cost_of_step(own, "cpu", "float32")
    assert built == [own]


@pytest.mark.parametrize("kind", ["teacher", "teaching"])
def test_a_student_whose_step_alone_does_not_fit_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    giant = StepCost(100.0, 10**12, "steps of 2 and 6 examples, carried on to 128")
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: giant)
    task, method, settings = (
        (teaching_forecast.train, "higher", TrainingSettings(problem=SMALL))
        if kind == "teacher"
        else (teaching_forecast.measure, "cross-entropy", JudgingSettings(problem=SMALL, horizon=9))
    )
    with pytest.raises(l2t.Refused, match=r"a step of the student alone would take 1 TB, and .* carried on to 128"):
        task(cell_of(kind, method, settings), 10**9)  # type: ignore[operator]


@pytest.mark.parametrize(("method", "kept"), [("higher", 1000), ("torchopt-implicit[batches=5]", 5)])
def test_of_a_slow_step_a_graph_of_a_few_examples_is_carried_on_to_the_batch_for_the_steps_that_are_kept(
    method: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(backend: object, problem: l2t.TeachingProblem, horizons: tuple[int, int]) -> list[int]:
        examples = example_count(problem.train(0, 0))
        assert examples == example_count(problem.dev_batches[0]) in (2, 6)
        return [5000 + steps * (300 + 10 * examples) for steps in horizons]

    monkeypatch.setattr(teaching_forecast, "short_sizes", sizes)
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: StepCost(2.0))
    monkeypatch.setattr(teaching_forecast, "resident_bytes", lambda: 0)
    settings = TrainingSettings(problem=LARGE, horizon=1000, outer_steps=1, students=1, select_every=0)
    found = teaching_forecast.train(cell_of("teacher", method, settings), None)
    assert found.peak_bytes == kept * (300 + 10 * 200)


@pytest.mark.parametrize(("method", "kept"), [("higher", 1000), ("torchopt-implicit[batches=5]", 5)])
def test_of_a_step_that_is_not_taken_the_parameters_that_are_kept_are_the_bound(
    method: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching_forecast, "cost_of_step", lambda *_: StepCost(100.0, 1, "a few examples"))
    monkeypatch.setattr(teaching_forecast, "resident_bytes", lambda: 0)
    settings = TrainingSettings(problem=SMALL, horizon=1000, outer_steps=1, students=1, select_every=0)
    found = teaching_forecast.train(cell_of("teacher", method, settings), None)
    held = sum(param.numel() for param in l2t.build_problem(SMALL).student.parameters()) * 4 * kept
    assert found.peak_bytes == held + 1
