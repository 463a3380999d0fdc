"""A student's run: recorded step by step as declared, replayed bit for bit, and stopped where it cannot go on."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.errors import Diverged
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import linear_decay, multistep
from l2t_bench.problem import Step, StudentState, StudentView, TeachingProblem, forward_seed
from l2t_bench.rollout import Rollout, train_student
from l2t_bench.verification.samples import general_theta, random_batch, random_problem


def run_of(problem: TeachingProblem, **arguments: Any) -> Rollout:
    return Rollout(problem, general_theta(problem), **arguments)


def test_a_recorded_step_holds_what_was_declared_for_it() -> None:
    problem = random_problem(optimizer=l2t.SGD(lr=linear_decay(0.4), momentum=0.9))
    steps = l2t.record(problem, general_theta(problem), horizon=5, seed=8)
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert [step.seed for step in steps] == [forward_seed(8, index) for index in range(5)]
    assert len({step.seed for step in steps}) == 5
    assert [step.lr for step in steps] == pytest.approx([0.4, 0.32, 0.24, 0.16, 0.08])
    assert [step.features.tolist() for step in steps] == [[0.0], [0.2], [0.4], [0.6], [0.8]]
    assert all(same_tensors(tuple(step.batch), problem.train(index, 8)) for index, step in enumerate(steps))


def test_learning_rate_schedules_are_functions_of_step_and_horizon() -> None:
    decay, stairs = linear_decay(2.0), multistep(1.0, (3, 5), gamma=0.1)
    assert [decay(index, 4) for index in range(4)] == [2.0, 1.5, 1.0, 0.5]
    assert [stairs(index, 7) for index in range(7)] == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_visitor_sees_each_step_with_the_state_that_it_starts_from() -> None:
    problem = random_problem()
    seen: list[tuple[Step, StudentState]] = []
    final = train_student(run_of(problem, horizon=4), lambda step, state: seen.append((step, state)))
    assert [step.index for step, _ in seen] == [0, 1, 2, 3]
    assert same_tensors(seen[0][1].params, problem.init_student(0).params)
    states = [state.params["0.weight"] for _, state in seen] + [final.params["0.weight"]]
    assert all(not torch.equal(before, after) for before, after in itertools.pairwise(states))


def test_recorded_steps_take_the_student_to_the_same_end_bit_for_bit() -> None:
    problem = random_problem()
    fresh = run_of(problem, horizon=6, seed=2)
    final = train_student(fresh)
    replayed = train_student(run_of(problem, steps=fresh.steps, seed=2))
    assert same_tensors(replayed.params, final.params) and same_tensors(replayed.slots, final.slots)


def test_a_replay_draws_no_batch_and_measures_no_features() -> None:
    problem = random_problem()
    steps = l2t.record(problem, general_theta(problem), horizon=3)

    def never(*arguments: Any) -> Any:
        raise AssertionError("a replay must use what was recorded")

    train_student(run_of(dataclasses.replace(problem, train=never, features=never), steps=steps))


def test_features_are_asked_for_once_a_step_with_those_of_the_step_before() -> None:
    asked: list[tuple[int, int, Tensor | None]] = []

    def features(view: StudentView) -> Tensor:
        asked.append((view.index, view.horizon, view.previous))
        return torch.tensor([float(view.index)], dtype=torch.float64)

    problem = dataclasses.replace(random_problem(), features=features)
    steps = l2t.record(problem, general_theta(problem), horizon=3)
    assert [index for index, _, _ in asked] == [0, 1, 2]
    assert {horizon for _, horizon, _ in asked} == {3}
    assert asked[0][2] is None
    assert asked[1][2] is steps[0].features and asked[2][2] is steps[1].features


def test_theta_is_not_changed_and_needs_no_gradient_afterwards() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    before = {name: tensor.clone() for name, tensor in theta.items()}
    l2t.record(problem, theta, horizon=2)
    assert same_tensors(theta, before) and not any(tensor.requires_grad for tensor in theta.values())


# -- what is not a run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [0, -1, True, 2.0, "5"])
def test_a_horizon_that_is_no_positive_number_of_steps_is_an_error(horizon: Any) -> None:
    with pytest.raises(l2t.UserError, match="horizon must be a positive number of steps"):
        run_of(random_problem(), horizon=horizon)


def test_either_a_horizon_or_steps_must_be_given_and_not_both() -> None:
    problem = random_problem()
    steps = l2t.record(problem, general_theta(problem), horizon=2)
    for arguments in ({}, {"horizon": 2, "steps": steps}):
        with pytest.raises(l2t.UserError, match=r"give either horizon=.* or steps="):
            run_of(problem, **arguments)


@pytest.mark.parametrize(
    ("pick", "seed", "answer"),
    [
        (lambda steps: steps[:0], 4, "steps holds no step"),
        (lambda steps: steps, 5, "step 0 was not recorded in the run of student seed=5"),
        (
            lambda steps: steps[1:],
            4,
            "from step 0 on, each once and in order: at 0 comes step 1",
        ),
    ],
    ids=["none", "another student's", "a later part"],
)
def test_steps_that_are_not_a_run_of_this_student_are_an_error(
    pick: Callable[[tuple[Step, ...]], tuple[Step, ...]], seed: int, answer: str
) -> None:
    problem = random_problem()
    steps = l2t.record(problem, general_theta(problem), horizon=3, seed=4)
    with pytest.raises(l2t.UserError, match=answer):
        run_of(problem, steps=pick(steps), seed=seed)


def test_theta_must_have_the_teachers_keys_and_shapes() -> None:
    problem = random_problem()
    theta = problem.init_teacher(0)
    for wrong, answer in [
        ({}, r"theta has the keys \(none\); the teacher's are V, W"),
        ({"W": theta["W"]}, "theta has the keys W; the teacher's are V, W"),
        ({**theta, "X": theta["W"]}, "theta has the keys V, W, X; the teacher's are V, W"),
        ({**theta, "V": theta["V"].T}, r"theta\['V'\] has shape \(1, 3\), not \(3, 1\)"),
    ]:
        with pytest.raises(l2t.UserError, match=answer):
            Rollout(problem, wrong, horizon=2)


def running_iterator() -> Iterator[tuple[Tensor, Tensor]]:
    for index in range(10**6):
        yield random_batch(index)


def test_a_batch_source_that_runs_on_is_found_out_at_the_first_step() -> None:
    batches = running_iterator()
    problem = dataclasses.replace(random_problem(), train=lambda index, seed: next(batches))
    with pytest.raises(l2t.UserError, match="two different batches for the same arguments: it must be a pure function"):
        l2t.record(problem, general_theta(problem), horizon=100)
    assert torch.equal(next(batches)[0], random_batch(2)[0]), "two draws, and no step was lost"


@pytest.mark.parametrize("batch", [torch.zeros(2, 6), None, (1, 2, 3), 7], ids=["tensor", "none", "triple", "number"])
def test_a_batch_that_is_no_pair_is_an_error(batch: Any) -> None:
    problem = dataclasses.replace(random_problem(), train=lambda index, seed: batch)
    with pytest.raises(l2t.UserError, match=r"train\(index, seed\) must return \(inputs, targets\), not "):
        l2t.record(problem, general_theta(problem), horizon=1)


def test_the_first_step_with_a_loss_that_is_not_finite_is_named() -> None:
    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = random_batch(index)
        return (inputs * torch.nan if index in (57, 58, 90) else inputs), targets

    problem = dataclasses.replace(random_problem(), train=train)
    with pytest.raises(Diverged, match="the student's loss is not finite at step 57: lower the student's lr") as caught:
        l2t.record(problem, general_theta(problem), horizon=1000)
    assert caught.value.step == 57


def test_a_student_that_diverges_late_is_stopped_before_the_end() -> None:
    drawn: list[int] = []
    healthy = random_problem()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn.append(index)
        inputs, targets = healthy.train(index, seed)
        return (inputs * torch.inf if index >= 60 else inputs), targets

    with pytest.raises(Diverged):
        l2t.record(dataclasses.replace(healthy, train=train), general_theta(healthy), horizon=1000)
    assert max(drawn) < 100


def test_a_teacher_whose_phi_is_not_finite_is_named_and_not_the_student() -> None:
    problem = random_problem()
    theta = {name: tensor * torch.nan for name, tensor in general_theta(problem).items()}
    with pytest.raises(Diverged, match="the teacher's phi is not finite at step 0: look at theta") as caught:
        l2t.record(problem, theta, horizon=3)
    assert caught.value.step == 0
