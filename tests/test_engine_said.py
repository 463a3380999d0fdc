"""Which engine took a run's steps, and why: said by the result, by a record, by a training."""

from pathlib import Path
from typing import Any

import pytest
from command_line import here

import l2t_bench as l2t
from l2t_bench.backend import Backend
from l2t_bench.problem import TeachingProblem
from l2t_bench.steppers import catalogue, compiling
from l2t_bench.verification.samples import general_theta, random_problem


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is taken as it is traced: no compiler is waited for."""
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)


def engine_of(method: str, problem: TeachingProblem, horizon: int = 4) -> str:
    return str(l2t.load_backend(method).teacher_gradient(problem, general_theta(problem), horizon=horizon).engine)


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("rmd", "plain torch"),
        ("rmd[engine=compiled]", "compiled steps"),
        ("truncated[engine=compiled,every=2,window=2]", "compiled steps"),
        ("rmd[engine=graphed]", "compiled steps: CUDA graphs need a CUDA device, and the problem is on cpu"),
        ("rmd[engine=auto]", "plain torch: 4 steps so far, compiled steps pay from 5,000"),
        (
            "rmd[engine=auto,microbatches=2]",
            "plain torch: batches are taken by their parts, and compiled steps take them whole",
        ),
        ("evolution[population=4]", "None"),  # it has no engines
    ],
)
def test_a_result_says_what_took_its_steps(method: str, said: str) -> None:
    assert engine_of(method, random_problem()) == said


@pytest.mark.usefixtures("traced_only")
def test_a_run_of_one_step_has_nothing_to_compile() -> None:
    assert engine_of("rmd[engine=compiled]", random_problem(), horizon=1) == "plain torch: it is one step long"


@pytest.mark.usefixtures("traced_only")
def test_students_at_once_say_it_each() -> None:
    problem = random_problem()
    backend = l2t.load_backend("rmd[engine=compiled,students=2]")
    found = l2t.teacher_gradients(backend, problem, general_theta(problem), horizon=4, seeds=range(2))
    assert [str(each.engine) for each in found if isinstance(each, l2t.TeacherGradient)] == ["compiled steps"] * 2


@pytest.mark.usefixtures("traced_only")
def test_auto_says_what_it_weighed_before_and_after_it_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PAYS_FROM", 8)
    problem = random_problem()
    assert [engine_of("rmd[engine=auto]", problem) for _ in range(2)] == [
        "plain torch: 4 steps so far, compiled steps pay from 8",
        "compiled steps: 8 steps so far, compiled steps pay from 8",
    ]


def test_steps_that_cannot_be_compiled_are_plain_ones_in_the_place_of_compiled_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(traced: Any, random: bool) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiling, "_compiled", failing)
    problem = random_problem()
    found = l2t.load_backend("rmd[engine=compiled]").teacher_gradient(problem, general_theta(problem), horizon=4)
    assert found.engine is not None and (found.engine.engine, found.engine.instead_of) == ("eager", "compiled")
    assert str(found.engine) == "plain torch: its steps cannot be compiled: RuntimeError: no compiler here"


@pytest.mark.parametrize(
    ("steps", "most", "method", "why"),
    [
        (400, 60, "rmd", "400 steps in all, compiled steps pay from 5,000"),
        (6_000, 60, "rmd[engine=compiled]", "6,000 steps in all, compiled steps pay from 5,000"),
        (6_000, 1, "rmd", "operators, and auto compiles those of up to 1"),
    ],
)
def test_what_is_settled_beforehand_says_why(
    steps: int, most: int, method: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MOST_OPERATORS", most)
    backend, problem = l2t.load_backend("rmd[engine=auto]"), random_problem()
    assert isinstance(backend, Backend) and str(backend.settled(problem, steps)) == method
    assert why in backend.settled_engine(problem, steps).why  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "said"),
    [("rmd[engine=auto]", "steps: plain torch: 8 steps in all, compiled steps pay from 5,000\n"), ("rmd", "")],
)
def test_train_says_what_auto_has_chosen_for_the_whole_training(method: str, said: str, tmp_path: Path) -> None:
    problem, out = "digits/mlp[train=60,dev=40,hidden=4,keys=2]", tmp_path / "teacher.safetensors"
    asked = ("--outer-steps", "2", "--horizon", "4", "--select-every", "0", "-o", out)
    done = here("train", problem, "-b", method, *asked)
    assert done.returncode == 0 and done.stdout.startswith(f"{said}outer step 1/2"), done.stdout + done.stderr


def test_a_training_keeps_what_its_steps_were_settled_at() -> None:
    def engine(method: str) -> str:
        return l2t.TeacherTrainer(random_problem(), None, method, outer_steps=1, horizon=3).train().engine

    assert engine("rmd[engine=auto]") == "plain torch: 3 steps in all, compiled steps pay from 5,000"
    assert engine("rmd") == "plain torch" and engine("one-step") == ""
