"""What a dry run says of teachers and their students, before any is trained."""

import pytest

import l2t_bench as l2t
from l2t_bench.engine import forecast
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.gradient import Prediction
from l2t_bench.suites import teaching_forecast
from l2t_bench.suites.settings import JudgingSettings, TeachingSettings, TrainingSettings

SMALL = "digits/mlp[train=40,dev=40,hidden=8]"


def cell_of(kind: str, method: str, settings: object, needs: str = "") -> Cell:
    return Cell("s", 1, "p", kind, "digits/mlp", method, 0, "none:none", settings=vars(settings), needs=needs)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient takes 2 s and 1 MB at any horizon, a student's step 1 ms."""
    monkeypatch.setattr("l2t_bench.backend.Backend.predict", lambda *_: Prediction(1_000_000, 2.0))
    monkeypatch.setattr(teaching_forecast, "seconds_of_step", lambda problem: 0.001)


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
    monkeypatch.setattr(teaching_forecast, "seconds_of_step", lambda problem: 2.0)
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
    assert 0 < teaching_forecast.seconds_of_step(l2t.build_problem(SMALL)) < 1
