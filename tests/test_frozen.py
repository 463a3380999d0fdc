"""Frozen parameters are constants of the training: not in omega, not trained, not decayed, not differentiated by."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.modules import module_at, same_tensors
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import TeachingProblem
from l2t_bench.verification import checks
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.subject import Check, Outcome, Subject
from l2t_bench.verification.vectors import relative_error

EXACT = ("rmd", "rmd[store=sqrt]", "rmd[hvp=for]", "functorch", "higher", "torchopt")
ALL = (*EXACT, "truncated[window=4]", "torchopt-implicit")
FROZEN = ("0.bias", "1.weight", "3.weight")
DECAYING: dict[str, Optimizer] = {
    "SGD": SGD(lr=0.3, momentum=0.9, weight_decay=0.05),
    "Adam": l2t.Adam(lr=0.03, eps=1e-3, weight_decay=0.05),
    "AdamW": l2t.Adam(lr=0.03, eps=1e-3, weight_decay=0.5, decoupled=True),
}


def partly_frozen() -> nn.Module:
    """A bias, the scale of a BatchNorm and a weight between trained layers are frozen, none at its initial draw."""
    torch.manual_seed(9)
    layers = [nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 4)]
    student = nn.Sequential(*layers).double()
    for name, param in student.named_parameters():
        if name in FROZEN:
            param.requires_grad_(False).add_(0.3)
    return student


def frozen_problem(optimizer: Optimizer | None = None) -> TeachingProblem:
    return random_problem(student=partly_frozen(), optimizer=optimizer or DECAYING["SGD"])


def subject(backend: str, problem: TeachingProblem, horizon: int = 10) -> Subject:
    theta, loaded = general_theta(problem), l2t.load_backend(backend)
    return Subject(loaded, problem, theta, 0, loaded.teacher_gradient(problem, theta, horizon=horizon))


def assert_passed(check: Check) -> None:
    assert check.outcome is Outcome.PASSED, f"{check.name}: {check.figure:.3g} > {check.bound:.3g} ({check.note})"


def test_what_is_frozen_is_no_part_of_the_students_state_and_the_same_under_every_seed() -> None:
    problem, given = frozen_problem(), dict(partly_frozen().named_parameters())
    for seed in (0, 1):
        state = problem.init_student(seed)
        assert not set(FROZEN) & (set(state.params) | set(state.buffers))
        assert set(state.params) | set(FROZEN) == set(given)
    assert same_tensors(problem.frozen, {name: given[name].detach() for name in FROZEN})
    drawn = problem.init_student(0).params["3.bias"]
    assert not torch.equal(drawn, given["3.bias"]), "its layer is drawn anew all the same"


def test_frozen_parameters_need_no_reset_parameters() -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 4)
            self.scale = nn.Parameter(torch.full((4,), 2.0), requires_grad=False)

        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * self.scale

    assert set(random_problem(student=Scaled()).init_student(0).params) == {"weight", "bias"}


@pytest.mark.parametrize("mode", DECAYING)
@pytest.mark.parametrize("backend", ALL)
def test_a_partly_frozen_student_trains_as_torch_optim_does_that_is_given_the_trained_parameters(
    backend: str, mode: str
) -> None:
    problem = frozen_problem(DECAYING[mode])
    if not l2t.load_backend(backend).supports(problem, 10):
        assert mode != "SGD" and backend in ("higher", "torchopt", "torchopt-implicit")
        return
    found = subject(backend, problem, 30)
    assert_passed(checks.check_forward_parity(found))
    assert set(found.result.final.params) == set(problem.init_student(0).params)


@pytest.mark.parametrize("mode", DECAYING)
def test_torch_optim_itself_ends_there_too(mode: str) -> None:
    """The replay that parity is held to shares ``problem.frozen`` with it; this one shares nothing."""
    problem, own = frozen_problem(DECAYING[mode]), DECAYING[mode]
    found = subject("rmd", problem, 8).result
    start = problem.init_student(0)
    student = partly_frozen()
    student.load_state_dict({**start.params, **start.buffers}, strict=False)
    trained = [param for param in student.parameters() if param.requires_grad]
    kinds: dict[str, Any] = {
        "SGD": lambda: torch.optim.SGD(trained, lr=0.3, momentum=0.9, weight_decay=0.05),
        "Adam": lambda: torch.optim.Adam(trained, lr=0.03, eps=1e-3, weight_decay=0.05),
        "AdamW": lambda: torch.optim.AdamW(trained, lr=0.03, eps=1e-3, weight_decay=0.5),
    }
    optimizer = kinds[mode]()
    assert own.lr_at(0, 8) == optimizer.param_groups[0]["lr"]
    for step in found.steps:
        optimizer.zero_grad()
        inputs, targets = step.batch
        with torch.no_grad():
            phi = problem.phi(general_theta(problem), step.features)
        problem.loss(student(inputs), targets, phi).backward()
        optimizer.step()
    theirs = dict(student.named_parameters())
    for name, param in found.final.params.items():
        torch.testing.assert_close(param, theirs[name].detach(), rtol=1e-13, atol=1e-13)
    assert same_tensors(problem.frozen, {name: theirs[name].detach() for name in FROZEN})


@pytest.mark.parametrize("mode", DECAYING)
@pytest.mark.parametrize("backend", EXACT)
def test_d_theta_beside_frozen_parameters_is_its_central_difference(backend: str, mode: str) -> None:
    problem = frozen_problem(DECAYING[mode])
    if l2t.load_backend(backend).supports(problem, 10):
        found = subject(backend, problem)
        assert_passed(checks.check_directions(found, count=2, bound=1e-7))
        assert found.result.d_omega0 is not None and set(found.result.d_omega0) == set(found.result.final.params)


@pytest.mark.parametrize("backend", ALL)
def test_a_student_that_trains_all_but_a_constant_buffer_is_taught_the_same(backend: str) -> None:
    """Freezing is no more than making a buffer of the parameter: d_theta is the same."""
    problem, student = frozen_problem(), partly_frozen()
    for name in FROZEN:
        layer, _, attribute = name.rpartition(".")
        value = student.get_parameter(name).detach()
        delattr(student.get_submodule(layer), attribute)
        student.get_submodule(layer).register_buffer(attribute, value)
        object.__setattr__(student.get_submodule(layer), "reset_parameters", None)  # it would draw the buffer anew
    start = problem.init_student(0).params
    as_buffers = dataclasses.replace(problem, student=student, init=lambda seed: start)
    ours, theirs = (subject(backend, each).result for each in (problem, as_buffers))
    assert relative_error(ours.d_theta, theirs.d_theta) < 1e-13


@pytest.mark.parametrize("backend", ALL)
def test_the_frozen_are_never_changed_and_calls_repeat(backend: str) -> None:
    assert_passed(checks.check_repeatable(subject(backend, frozen_problem(), 5)))


def test_an_api_that_cannot_leave_them_alone_refuses_and_says_why() -> None:
    refused = l2t.load_backend("torchopt[api=meta]").supports(frozen_problem(), 10)
    assert isinstance(refused, l2t.Refused) and "fails on frozen ones" in str(refused)


def test_no_step_keeps_a_copy_of_what_is_frozen() -> None:
    problem = frozen_problem()
    held = {name: tensor.data_ptr() for name, tensor in problem.frozen.items()}
    assert held == {name: problem.student.get_parameter(name).data_ptr() for name in FROZEN}
    state = problem.init_student(0)
    assert sum(tensor.numel() for tensor in state.params.values()) == sum(
        param.numel() for param in problem.student.parameters() if param.requires_grad
    )


def test_init_gives_the_trained_parameters_and_may_repeat_the_frozen_but_not_move_them() -> None:
    problem = frozen_problem()
    own = problem.init_student(3).params
    for given in (own, {**own, **problem.frozen}):
        state = dataclasses.replace(problem, init=lambda seed, given=given: given).init_student(0)
        assert same_tensors(state.params, own)
    moved = {**own, "0.bias": problem.frozen["0.bias"] + 1}
    with pytest.raises(l2t.UserError, match=r"init= gives 0\.bias, which is frozen, another value"):
        dataclasses.replace(problem, init=lambda seed: moved).init_student(0)
    less = {name: param for name, param in own.items() if name != "0.weight"}
    with pytest.raises(l2t.UserError, match=r"it differs in 0\.weight"):
        dataclasses.replace(problem, init=lambda seed: less).init_student(0)


def test_precision_and_views_follow() -> None:
    problem = frozen_problem().to(dtype=torch.float32)
    assert problem.dtype == torch.float32 and all(tensor.dtype == torch.float32 for tensor in problem.frozen.values())
    state = problem.init_student(0)
    inputs = problem.dev_batches[0][0]
    student = module_at(problem.student, {**state.params, **state.buffers}).eval()
    torch.testing.assert_close(problem.predict(state, inputs), student(inputs).detach())


def test_a_frozen_embedding_that_is_also_the_output_layer_stays_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.first, self.middle, self.last = nn.Linear(6, 4), nn.Linear(4, 6), nn.Linear(6, 4)
            self.last.weight = self.first.weight
            self.first.weight.requires_grad_(False)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.last(torch.tanh(self.middle(torch.tanh(self.first(inputs)))))
            return logits

    problem = random_problem(student=Tied())
    assert set(problem.frozen) == {"first.weight"}
    for backend in EXACT:
        found = subject(backend, problem, 6)
        assert_passed(checks.check_forward_parity(found))
        assert_passed(checks.check_directions(found, count=1, bound=1e-7))


# -- a teacher's -------------------------------------------------------------------------------------------------------


def test_a_teachers_frozen_parameters_are_no_part_of_theta_and_do_not_move(tmp_path: Path) -> None:
    class Partly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.learned, self.given = torch.nn.Linear(1, 16), torch.nn.Linear(1, 16)
            self.given.requires_grad_(False)

        def forward(self, features: Tensor) -> Tensor:
            return (self.learned(features) + self.given(features)).view(4, 4)

    teacher = Partly().double()
    problem = dataclasses.replace(random_problem(), teacher=teacher)
    theta = problem.init_teacher(0)
    assert set(theta) == {"learned.weight", "learned.bias"}
    features = torch.ones(1, dtype=torch.float64)
    given, learned = teacher.given(features), theta["learned.weight"][:, 0] + theta["learned.bias"]
    assert torch.equal(problem.phi(theta, features), (learned + given).view(4, 4))
    trained = l2t.train_teacher(problem, l2t.load_backend("rmd"), outer_steps=1, horizon=3)
    assert set(trained.theta) == set(theta) and trained.travelled > 0
    as_it_is = l2t.TeacherTrainer(problem, teacher, l2t.load_backend("rmd"), outer_steps=1, horizon=3).train()
    assert set(as_it_is.theta) == set(theta)
    l2t.save_teacher(tmp_path / "teacher", problem, trained)
    loaded = l2t.load_teacher(tmp_path / "teacher", teacher=teacher, loss=problem.loss).teacher
    assert torch.equal(loaded(features), problem.phi(trained.theta, features))
    with pytest.raises(l2t.UserError, match=r"theta has the keys given\.bias"):
        l2t.load_backend("rmd").teacher_gradient(problem, dict(teacher.named_parameters()), horizon=3)
