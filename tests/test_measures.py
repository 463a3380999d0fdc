"""Students are measured by what their problem is about: accuracy, BLEU, or its own objective."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.errors import UserError
from l2t_bench.lessons import accuracy_on, teach
from l2t_bench.measures import default_measure, measured_on
from l2t_bench.problem import TeachingProblem
from l2t_bench.training import Selection, TeacherTrainer
from l2t_bench.translating import translate
from l2t_bench.verification.samples import random_problem

TRANSLATING = "numbers/lstm1[source_vocabulary=40,target_vocabulary=40,embedding=4,hidden=4,features=none]"


def batch(seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(seed))
    return inputs, inputs.sum(1, keepdim=True)


def regression() -> TeachingProblem:
    return l2t.TeachingProblem(
        student=nn.Linear(3, 1),
        teacher=nn.Linear(1, 1),
        loss=lambda output, target, phi: (nn.functional.softplus(phi) * (output - target) ** 2).mean(),
        objective=lambda output, target: -((output - target) ** 2).mean(),
        optimizer=l2t.SGD(lr=0.05),
        train=lambda index, seed: batch(1000 * seed + index),
        dev=[batch(2**31), batch(2**31 + 1)],
        name="regression",
    )


def test_the_measure_is_that_of_the_kind_of_problem() -> None:
    assert default_measure(random_problem()) == "accuracy"
    assert default_measure(regression()) == "objective"
    assert default_measure(l2t.build_problem(TRANSLATING)) == "bleu"


def test_a_regression_has_an_objective_and_no_accuracy() -> None:
    problem = regression()
    state = teach(problem, problem.init_teacher(0), horizon=5, seed=0)
    errors = [
        ((problem.predict(state, inputs) - targets) ** 2).mean().item() for inputs, targets in problem.dev_batches
    ]
    found = measured_on(problem, state, "dev", "objective", horizon=5, seed=0)
    assert found == pytest.approx(-sum(errors) / 2, rel=1e-6)
    with pytest.raises(UserError, match=r"regression has no accuracy.*take measure=objective"):
        measured_on(problem, state, "dev", "accuracy", horizon=5, seed=0)


def test_a_regressions_teacher_is_chosen_by_its_objective() -> None:
    problem = regression()
    trained = TeacherTrainer(
        problem, None, "rmd", outer_steps=6, horizon=5, selection=Selection(every=3, students=2)
    ).train()
    assert all(judged.dev_mean < 0 for judged in trained.selection)
    best = max(trained.selection, key=lambda judged: judged.score)
    assert trained.selected_outer_step == best.outer_step


def test_a_student_that_diverges_is_no_good_one_although_its_objective_would_be_zero() -> None:
    calm = regression()

    def wild(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = calm.train(index, seed)
        return (inputs * torch.inf if seed >= 1_000_000 and index == 0 else inputs), targets

    problem = dataclasses.replace(calm, train=wild)
    trained = TeacherTrainer(problem, None, "rmd", outer_steps=1, horizon=3, selection=Selection(1, 2)).train()
    assert [judged.lost for judged in trained.selection] == [2, 2]
    assert all(judged.score == -torch.inf for judged in trained.selection)


def test_a_translator_is_measured_by_the_bleu_of_its_greedy_translations() -> None:
    problem = l2t.build_problem(TRANSLATING)
    state = teach(problem, problem.init_teacher(0), horizon=2, seed=0)
    for part in ("dev", "test"):
        bleu = translate(problem, state, part).bleu().score  # type: ignore[arg-type]
        assert measured_on(problem, state, part, "bleu", horizon=2, seed=0) == bleu / 100  # type: ignore[arg-type]
    with pytest.raises(UserError, match="there is no objective on test"):
        measured_on(problem, state, "test", "objective", horizon=2, seed=0)


def test_accuracy_is_the_one_that_lessons_are_judged_by() -> None:
    problem = random_problem()
    state = problem.init_student(0)
    assert measured_on(problem, state, "dev", "accuracy", horizon=1, seed=0) == accuracy_on(problem, state)
