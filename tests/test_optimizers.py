"""The student's optimisers: torch's own steps, and adjoints that are the derivatives of those steps."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.groups import Group
from l2t_bench.optimizers import SGD, Adjoint, Optimizer, Taken
from l2t_bench.problem import Step, TeachingProblem
from l2t_bench.tensors import TensorDict, norm
from l2t_bench.verification import checks, numeric
from l2t_bench.verification.ladder import OPTIMIZERS
from l2t_bench.verification.numeric import RecordedRun
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.subject import Outcome, Subject
from l2t_bench.verification.vectors import inner, random_directions

NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")
HORIZON = 50
MODES: dict[str, Optimizer] = {
    **OPTIMIZERS,
    "Nesterov, clipping, groups": SGD(
        0.1, 0.9, weight_decay=0.05, nesterov=True, clip=0.09, groups=(Group("2.*", lr=0.5, weight_decay=0.2),)
    ),
    "AdamW, clipping, groups": Adam(
        0.03, weight_decay=0.5, decoupled=True, clip=0.09, groups=(Group("*.bias", lr=2.0, weight_decay=0.0),)
    ),
}


def normal(generator: torch.Generator, scale: float = 1.0) -> TensorDict:
    return {name: scale * torch.randn(3, 2, generator=generator, dtype=torch.float64) for name in NAMES}


def gradients_of_a_run() -> list[TensorDict]:
    """Norms on both sides of the bound; ``0.bias`` is not reached until step 5, ``2.weight`` not in each third step."""
    generator = torch.Generator().manual_seed(3)
    run = [normal(generator, 0.3 if index % 2 else 0.005) for index in range(HORIZON)]
    for index, gradients in enumerate(run):
        if index < 5:
            gradients["0.bias"].zero_()
        if index % 3 == 1:
            gradients["2.weight"].zero_()
    return run


# -- the step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [None, 25], ids=["through", "restarted"])
@pytest.mark.parametrize("mode", MODES)
def test_fifty_steps_are_torch_optims_with_parameters_unused_in_some_of_them(mode: str, restart: int | None) -> None:
    own: Any = MODES[mode]
    params = normal(torch.Generator().manual_seed(1))
    slots: dict[str, TensorDict] = {}
    theirs = {name: nn.Parameter(tensor.clone()) for name, tensor in params.items()}
    optimizer = numeric.torch_optimizer(own, theirs)
    for index, gradients in enumerate(gradients_of_a_run()):
        if index == restart:  # fresh objects on both sides: all state is in what is passed on
            own = dataclasses.replace(own)
            state, optimizer = optimizer.state_dict(), numeric.torch_optimizer(own, theirs)
            optimizer.load_state_dict(state)
        lr = own.lr_at(index, HORIZON)
        params, slots = own.step(params, gradients, slots, index=index, lr=lr)
        for name, param in theirs.items():
            param.grad = gradients[name].clone()
        numeric.torch_step(own, optimizer, lr)
        for name, param in theirs.items():
            torch.testing.assert_close(params[name], param.detach(), rtol=1e-14, atol=1e-14)


def test_the_runs_gradients_are_clipped_in_some_steps_and_not_in_others() -> None:
    lengths = [float(norm(gradients)) for gradients in gradients_of_a_run()]
    assert min(lengths) < 0.09 < max(lengths)


@pytest.mark.parametrize("mode", [mode for mode, own in OPTIMIZERS.items() if getattr(own, "clip", None)])
def test_the_ladders_clipping_is_active_in_some_steps_and_not_in_others(mode: str) -> None:
    own, lengths = OPTIMIZERS[mode], []

    class Listening(type(own)):  # type: ignore[misc]
        def step(self, params: Any, gradients: Any, slots: Any, *, index: int, lr: float) -> Any:
            lengths.append(float(norm(gradients)))
            return super().step(params, gradients, slots, index=index, lr=lr)

    listening = Listening(**{field.name: getattr(own, field.name) for field in dataclasses.fields(own)})  # type: ignore[arg-type]
    problem = random_problem(optimizer=listening)
    l2t.record(problem, general_theta(problem), horizon=12)
    assert min(lengths) < own.clip < max(lengths)  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", MODES)
def test_two_runs_with_one_object_are_two_runs_with_two(mode: str) -> None:
    problem = random_problem(optimizer=MODES[mode])
    theta, rmd = general_theta(problem), l2t.load_backend("rmd")
    rmd.teacher_gradient(problem, theta, horizon=5, seed=0)
    second = rmd.teacher_gradient(problem, theta, horizon=HORIZON, seed=1)
    found = Subject(rmd, problem, theta, 1, second)
    assert checks.check_forward_parity(found).outcome is Outcome.PASSED


def test_a_factor_and_a_decay_of_a_group_are_its_own_and_the_first_fit_counts() -> None:
    own = SGD(1.0, weight_decay=0.5, groups=(Group("0.*", lr=0.0), Group("*.bias", lr=2.0, weight_decay=0.0)))
    params = {name: torch.ones(1) for name in NAMES}
    after, _ = own.step(params, {name: torch.ones(1) for name in NAMES}, {}, index=0, lr=0.1)
    assert {name: round(float(tensor), 6) for name, tensor in after.items()} == {
        "0.weight": 1.0,
        "0.bias": 1.0,
        "2.weight": 1 - 0.1 * 1.5,
        "2.bias": 1 - 0.2,
    }


# -- the adjoint of a step ---------------------------------------------------------------------------------------------


def step_by_autograd(
    own: Optimizer, adjoint: Adjoint, taken: Taken
) -> tuple[TensorDict, TensorDict, dict[str, TensorDict]]:
    """The derivatives of <adjoint, the step> by the gradients, the parameters and the slots before."""
    params, gradients = (
        {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
        for tensors in (taken.params, taken.gradients)
    )
    slots = {
        slot: {name: tensor.clone().requires_grad_() for name, tensor in held.items()}
        for slot, held in taken.slots.items()
    }
    after, slots_after = own.step(params, gradients, slots, index=taken.index, lr=taken.lr)
    inner = sum((adjoint.params[name] * after[name]).sum() for name in NAMES)
    inner += sum((adjoint.slots[slot][name] * held[name]).sum() for slot, held in slots_after.items() for name in NAMES)
    groups = [gradients, params, *slots.values()]
    assert isinstance(inner, Tensor)
    found = torch.autograd.grad(inner, [t for group in groups for t in group.values()], allow_unused=True)
    filled = iter(torch.zeros(3, 2).double() if part is None else part for part in found)
    by_gradient, by_params, *by_slots = [{name: next(filled) for name in group} for group in groups]
    return by_gradient, by_params, dict(zip(slots, by_slots, strict=True))


def a_step(own: Optimizer, index: int, scale: float) -> tuple[Adjoint, Taken]:
    """A step in general position, one entry of a parameter without any gradient so far."""
    generator = torch.Generator().manual_seed(17 + index)
    params, gradients = normal(generator), normal(generator, scale)
    gradients["2.weight"][0, 0] = 0.0
    slots = {slot: normal(generator) for slot in own.slot_names} if index else {}
    if "exp_avg_sq" in slots:
        slots["exp_avg_sq"] = {name: tensor.square() for name, tensor in slots["exp_avg_sq"].items()}
        for slot in slots.values():
            slot["2.weight"][0, 0] = 0.0
    adjoint = Adjoint(normal(generator), {slot: normal(generator) for slot in own.slot_names})
    return adjoint, Taken(index, 0.1, params, gradients, slots)


@pytest.mark.parametrize("scale", [0.01, 1.0], ids=["within the bound", "clipped"])
@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("mode", MODES)
def test_pull_back_is_autograds_derivative_of_the_step(mode: str, index: int, scale: float) -> None:
    own = MODES[mode]
    adjoint, taken = a_step(own, index, scale)
    g_bar, carried = own.pull_back(adjoint, taken)
    by_gradient, by_params, by_slots = step_by_autograd(own, adjoint, taken)
    for name in NAMES:
        torch.testing.assert_close(g_bar[name], by_gradient[name], rtol=1e-13, atol=1e-13)
        torch.testing.assert_close(carried.params[name], by_params[name], rtol=1e-13, atol=1e-13)
        for slot in by_slots:
            torch.testing.assert_close(carried.slots[slot][name], by_slots[slot][name], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("scale", [0.01, 1.0], ids=["within the bound", "clipped"])
@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("mode", MODES)
def test_pull_back_is_the_steps_central_difference(mode: str, index: int, scale: float) -> None:
    own = MODES[mode]
    adjoint, taken = a_step(own, index, scale)
    g_bar, carried = own.pull_back(adjoint, taken)
    generator = torch.Generator().manual_seed(5)
    along_params, along_gradients = normal(generator), normal(generator)
    along_gradients["2.weight"][0, 0] = 0.0  # v = 0: no derivative there but by convention

    def value(size: float) -> float:
        params, gradients = (
            {name: tensor + size * along[name] for name, tensor in held.items()}
            for held, along in ((taken.params, along_params), (taken.gradients, along_gradients))
        )
        after, slots = own.step(params, gradients, taken.slots, index=index, lr=taken.lr)
        return inner(adjoint.params, after) + sum(inner(adjoint.slots[slot], slots[slot]) for slot in slots)

    expected = inner(g_bar, along_gradients) + inner(carried.params, along_params)
    measured = [
        (8 * (value(size) - value(-size)) - (value(2 * size) - value(-2 * size))) / (12 * size)
        for size in (1e-4, 1e-5, 1e-6)
    ]
    assert min(abs(each - expected) for each in measured) <= 1e-8 * max(1.0, abs(expected))


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("decoupled", [False, True])
def test_where_a_second_moment_is_zero_the_derivative_is_zero_and_finite(decoupled: bool, index: int) -> None:
    own = Adam(0.03, decoupled=decoupled)
    adjoint, taken = a_step(own, index, 1.0)
    g_bar, carried = own.pull_back(dataclasses.replace(adjoint, slots=_zeros(adjoint.slots)), taken)
    # d omega / d g with the root held constant: -lr/c1 (1 - beta1) / eps, through the first moment alone
    through_the_first = -(0.1 / (1 - 0.9 ** (index + 1))) * (1 - 0.9) / own.eps
    expected = through_the_first * adjoint.params["2.weight"][0, 0]
    torch.testing.assert_close(g_bar["2.weight"][0, 0], expected, rtol=1e-12, atol=0)
    assert float(carried.slots["exp_avg_sq"]["2.weight"][0, 0]) == 0.0


def _zeros(slots: dict[str, TensorDict]) -> dict[str, TensorDict]:
    return {slot: {name: torch.zeros_like(tensor) for name, tensor in held.items()} for slot, held in slots.items()}


# -- the optimiser's own numbers, and omega_0 --------------------------------------------------------------------------

SWEPT = 8


def value_of(problem: TeachingProblem, theta: TensorDict, steps: tuple[Step, ...]) -> float:
    run = RecordedRun(problem, theta, steps, 0)
    return numeric.objective(run, numeric.replay(run, lambda index: theta))


def five_points(value: Any, size: float) -> float:
    return float((8 * (value(size) - value(-size)) - (value(2 * size) - value(-2 * size))) / (12 * size))


@pytest.mark.parametrize("mode", MODES)
def test_hyper_gradients_are_central_differences_through_the_whole_run(mode: str) -> None:
    own: Any = dataclasses.replace(MODES[mode], weight_decay=0.05)  # type: ignore[type-var]  # away from its end at 0
    problem = random_problem(optimizer=own)
    theta = general_theta(problem)
    result = l2t.load_backend("rmd[hyper=true]").teacher_gradient(problem, theta, horizon=SWEPT)
    steps = tuple(result.steps)
    assert result.hyper["lr"].shape == (SWEPT,)
    assert set(result.hyper) == {"lr", "weight_decay"} | ({"momentum"} if getattr(own, "momentum", 0) else set())

    def with_lr(at: int, size: float) -> float:
        moved = (*steps[:at], dataclasses.replace(steps[at], lr=steps[at].lr + size), *steps[at + 1 :])
        return value_of(problem, theta, moved)

    def with_number(name: str, size: float) -> float:
        moved = dataclasses.replace(own, **{name: getattr(own, name) + size})
        return value_of(dataclasses.replace(problem, optimizer=moved), theta, steps)

    scale = float(result.hyper["lr"].abs().max())
    for at in range(SWEPT):
        measured = five_points(lambda size, at=at: with_lr(at, size), 1e-4)
        assert measured == pytest.approx(float(result.hyper["lr"][at]), abs=1e-7 * scale), f"lr of step {at}"
    for name in set(result.hyper) - {"lr"}:
        assert result.hyper[name].shape == ()
        measured = five_points(lambda size, name=name: with_number(name, size), 1e-4)
        assert measured == pytest.approx(float(result.hyper[name]), rel=1e-6, abs=1e-7 * scale), name


@pytest.mark.parametrize("mode", MODES)
def test_d_omega0_is_its_central_difference_under_every_optimiser(mode: str) -> None:
    problem = random_problem(optimizer=MODES[mode])
    theta = general_theta(problem)
    start = problem.init_student(0).params
    result = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=SWEPT)
    assert result.d_omega0 is not None
    (direction,) = random_directions(start, 1)

    def value(size: float) -> float:
        moved = {name: param + size * direction[name] for name, param in start.items()}
        return value_of(dataclasses.replace(problem, init=lambda seed: moved), theta, tuple(result.steps))

    expected = inner(result.d_omega0, direction)
    measured = [five_points(value, size) for size in (1e-4, 1e-5)]
    assert min(abs(each / expected - 1) for each in measured) < 1e-6


def test_no_hyper_gradient_is_made_unless_it_is_asked_for() -> None:
    problem = random_problem()
    assert l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=3).hyper == {}
