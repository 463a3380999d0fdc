"""Independent ways to the same derivative: plain replay, torch.optim, central differences, forward mode.

None of them shares code with a backend's reverse pass.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from l2t_bench.modules import module_at
from l2t_bench.optimizers import SGD, TensorDict, Tensors
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import loss_gradients

ThetaAt = Callable[[int], Tensors]
"""The teacher's parameters that step t is taken under."""

_OFFSETS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # five points: an error of order h^4


def replay(problem: TeachingProblem, theta_at: ThetaAt, steps: Sequence[Step], seed: int) -> StudentState:
    """omega_T of the recorded steps under ``theta_at``; batches, s_t and lr as recorded."""
    state = problem.init_student(seed)
    for step in steps:
        params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
        with torch.no_grad():
            phi = problem.phi(theta_at(step.index), step.features)
        loss, buffers = problem.train_loss(params, state.buffers, phi, step)
        gradients = loss_gradients(loss, params)
        with torch.no_grad():
            updated, momentum = problem.optimizer.step(state.params, gradients, state.momentum, step.lr)
        state = StudentState(updated, buffers, momentum)
    return state


def objective(problem: TeachingProblem, state: StudentState, horizon: int, seed: int) -> float:
    """M~ of a trained student."""
    batches = problem.final_dev_batches(state, horizon, seed)
    total = sum(example_count(batch) for batch in batches)
    with torch.no_grad():
        return sum(
            problem.dev_objective(state.params, state.buffers, batch).item() * example_count(batch) / total
            for batch in batches
        )


def torch_optim_replay(
    problem: TeachingProblem, theta: Tensors, steps: Sequence[Step], seed: int
) -> tuple[TensorDict, TensorDict]:
    """Parameters and buffers after the same run as anybody would write it: a module, ``torch.optim.SGD``, ``backward``."""
    own = problem.optimizer
    if not isinstance(own, SGD):
        raise NotImplementedError(f"no torch.optim counterpart of {type(own).__name__} is known here")
    start = problem.init_student(seed)
    student = module_at(problem.student, {**start.params, **start.buffers})
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=1.0,
        momentum=own.momentum,
        dampening=own.dampening,
        weight_decay=own.weight_decay,
        nesterov=own.nesterov,
    )
    for step in steps:
        for param in student.parameters():  # zero_grad(set_to_none=False)
            param.grad = torch.zeros_like(param)
        with torch.no_grad():
            phi = problem.phi(theta, step.features)
        problem.module_loss(student, phi, step).backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = step.lr
        optimizer.step()
    params = {name: param.detach() for name, param in student.named_parameters()}
    return params, {name: buffer.detach() for name, buffer in student.named_buffers()}


def directional_difference(
    problem: TeachingProblem,
    theta: Tensors,
    steps: Sequence[Step],
    seed: int,
    direction: Tensors,
    step_size: float,
    start: int = 0,
) -> float:
    """dM~ along ``direction`` by five-point central differences, theta moved in steps ``start`` ... T-1 only.

    s_t stays as recorded: it is a constant of the differentiation.
    """
    total = 0.0
    for offset, weight in _OFFSETS:
        moved = {name: theta[name] + (offset * step_size) * direction[name] for name in theta}
        state = replay(problem, lambda index, moved=moved: moved if index >= start else theta, steps, seed)  # type: ignore[misc]
        total += weight * objective(problem, state, len(steps), seed)
    return total / step_size


def forward_probe(
    problem: TeachingProblem, theta: Tensors, steps: Sequence[Step], seed: int, direction: Tensors
) -> float:
    """dM~ along ``direction`` by one forward-mode pass through the whole run: forward-over-reverse, O(1) memory."""
    state = problem.init_student(seed)
    params, momentum, buffers = state.params, {}, state.buffers
    d_params = {name: torch.zeros_like(param) for name, param in params.items()}
    d_momentum: TensorDict = {}

    for step in steps:
        params, momentum, d_params, d_momentum, buffers = _tangent_step(
            problem, theta, direction, step, (params, momentum, buffers), (d_params, d_momentum)
        )
    final = StudentState(params, buffers)
    batches = problem.final_dev_batches(final, len(steps), seed)
    total = sum(example_count(batch) for batch in batches)
    return sum(
        _jvp_scalar(lambda at, batch=batch: problem.dev_objective(at, buffers, batch), params, d_params)  # type: ignore[misc]
        * example_count(batch)
        / total
        for batch in batches
    )


def _jvp_scalar(function: Callable[[TensorDict], Tensor], at: TensorDict, tangent: TensorDict) -> float:
    _, derivative = torch.func.jvp(function, (at,), (tangent,))
    return float(derivative)


def _tangent_step(
    problem: TeachingProblem,
    theta: Tensors,
    direction: Tensors,
    step: Step,
    primal: tuple[TensorDict, TensorDict, TensorDict],
    tangent: tuple[TensorDict, TensorDict],
) -> tuple[TensorDict, TensorDict, TensorDict, TensorDict, TensorDict]:
    """One student step with its tangent: params, momentum, their tangents, and the buffers after it."""
    params, momentum, buffers = primal

    def loss_of(at: TensorDict, weights: TensorDict) -> tuple[Tensor, TensorDict]:
        return problem.train_loss(at, buffers, problem.phi(weights, step.features), step)

    def step_map(at: TensorDict, carried: TensorDict, weights: TensorDict) -> tuple[TensorDict, TensorDict]:
        gradients, _ = torch.func.grad(loss_of, has_aux=True)(at, weights)
        updated, after = problem.optimizer.step(at, gradients, carried or None, step.lr)
        return updated, after or {}

    (after, carried), (d_after, d_carried) = torch.func.jvp(
        step_map, (params, momentum, dict(theta)), (*tangent, dict(direction))
    )
    with torch.no_grad():
        _, buffers_after = loss_of(params, dict(theta))
    return after, carried, d_after, d_carried, buffers_after
