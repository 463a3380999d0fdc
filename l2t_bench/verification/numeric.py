"""Independent ways to the same derivative: plain replay, torch.optim, central differences, forward mode.

None of them shares code with a backend's reverse pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.modules import module_at
from l2t_bench.optimizers import SGD
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import student_step
from l2t_bench.second_order import quiet_forward_mode
from l2t_bench.tensors import TensorDict, Tensors, zeros_like

ThetaAt = Callable[[int], Tensors]
"""The teacher's parameters that step t is taken under."""

_OFFSETS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # five points: an error of order h^4


@dataclass(frozen=True)
class RecordedRun:
    """A recorded run of student ``seed`` under ``theta``: what all the ways here start from.

    Its buffers and dev batches are constants of the differentiation: a run under a moved theta is held to the same.
    """

    problem: TeachingProblem
    theta: Tensors
    steps: Sequence[Step]
    seed: int

    @cached_property
    def states(self) -> tuple[StudentState, ...]:
        """The student before each step and after the last, without momentum."""
        state = self.problem.init_student(self.seed)
        history = [state]
        for step in self.steps:
            state = _student_step(self.problem, state, self.theta, step)
            history.append(state.without_slots())
        return tuple(history)

    @cached_property
    def buffers(self) -> tuple[TensorDict, ...]:
        """The student's buffers before each step and after the last."""
        return tuple(state.buffers for state in self.states)

    @cached_property
    def dev(self) -> tuple[tuple[Batch, float], ...]:
        """The dev batches at omega_T, each with its share of the examples."""
        batches = self.problem.final_dev_batches(self.states[-1], len(self.steps), self.seed)
        total = sum(example_count(batch) for batch in batches)
        return tuple((batch, example_count(batch) / total) for batch in batches)


def replay(run: RecordedRun, theta_at: ThetaAt) -> StudentState:
    """omega_T of the recorded steps under ``theta_at``; batches, s_t, lr and buffers as they were recorded.

    BatchNorm's running statistics enter the dev pass, and move with theta: no known system differentiates them, so they
    are frozen here as s_t is.
    """
    state = run.problem.init_student(run.seed)
    for step, buffers in zip(run.steps, run.buffers, strict=False):
        state = _student_step(run.problem, replace(state, buffers=buffers), theta_at(step.index), step)
    return replace(state, buffers=run.buffers[-1])


def _student_step(problem: TeachingProblem, state: StudentState, theta: Tensors, step: Step) -> StudentState:
    with torch.no_grad():
        phi = problem.phi(theta, step.features)
    return student_step(problem, state, step, phi)[0]


def objective(run: RecordedRun, state: StudentState) -> float:
    """M~ of a trained student."""
    with torch.no_grad():
        return sum(
            run.problem.dev_objective(state.params, state.buffers, batch).item() * share for batch, share in run.dev
        )


def torch_optim_replay(run: RecordedRun) -> TensorDict:
    """Parameters and buffers after the same run as anybody would write it: a module, ``torch.optim.SGD``, ``backward``.

    Raises ``UserError`` for an optimiser that is not ``SGD``.
    """
    problem, own = run.problem, run.problem.optimizer
    if not isinstance(own, SGD):
        raise UserError(f"no torch.optim counterpart of {type(own).__name__} is known here")
    start = problem.init_student(run.seed)
    student = module_at(problem.student, {**start.params, **start.buffers})
    optimizer = torch.optim.SGD(
        student.parameters(),
        lr=1.0,
        momentum=own.momentum,
        dampening=own.dampening,
        weight_decay=own.weight_decay,
        nesterov=own.nesterov,
    )
    for step in run.steps:
        for param in student.parameters():  # zero_grad(set_to_none=False)
            param.grad = torch.zeros_like(param)
        with torch.no_grad():
            phi = problem.phi(run.theta, step.features)
        problem.module_loss(student, phi, step).backward()  # type: ignore[no-untyped-call]
        optimizer.param_groups[0]["lr"] = step.lr
        optimizer.step()
    return {name: tensor.detach() for name, tensor in (*student.named_parameters(), *student.named_buffers())}


def directional_difference(run: RecordedRun, direction: Tensors, step_size: float, start: int = 0) -> float:
    """dM~ along ``direction`` by five-point central differences, theta moved in steps ``start`` ... T-1 only.

    s_t stays as recorded: it is a constant of the differentiation.
    """
    total = 0.0
    for offset, weight in _OFFSETS:
        moved = {name: run.theta[name] + (offset * step_size) * direction[name] for name in run.theta}
        total += weight * objective(run, replay(run, _from_step(start, run.theta, moved)))
    return total / step_size


def _from_step(start: int, before: Tensors, after: Tensors) -> ThetaAt:
    return lambda index: after if index >= start else before


def central_differences(run: RecordedRun, step_size: float, start: int = 0) -> TensorDict:
    """dM~/dtheta entry by entry: 4 runs of the student for each entry of theta."""
    found = {name: torch.zeros_like(tensor) for name, tensor in run.theta.items()}
    for name, tensor in run.theta.items():
        for position in range(tensor.numel()):
            unit = {key: torch.zeros_like(other) for key, other in run.theta.items()}
            unit[name].view(-1)[position] = 1
            found[name].view(-1)[position] = directional_difference(run, unit, step_size, start)
    return found


def forward_probe(run: RecordedRun, direction: Tensors) -> float:
    """dM~ along ``direction`` by one forward-mode pass through the whole run: forward-over-reverse, O(1) memory."""
    problem = run.problem
    primal = _Carried(problem.init_student(run.seed).params, {})
    tangent = _Carried(zeros_like(primal.params), {})
    with quiet_forward_mode():
        for step, buffers in zip(run.steps, run.buffers, strict=False):
            primal, tangent = _tangent_step(run, direction, (step, buffers), primal, tangent)
        slope = 0.0
        for batch, share in run.dev:
            _, derivative = torch.func.jvp(
                lambda at, batch=batch: problem.dev_objective(at, run.buffers[-1], batch),  # type: ignore[misc]
                (primal.params,),
                (tangent.params,),
            )
            slope += float(derivative) * share
    return slope


class _Carried(NamedTuple):
    """What a student's step takes from the one before, or its tangent."""

    params: TensorDict
    slots: dict[str, TensorDict]


def _tangent_step(
    run: RecordedRun, direction: Tensors, at: tuple[Step, TensorDict], primal: _Carried, tangent: _Carried
) -> tuple[_Carried, _Carried]:
    """One student step with its tangent."""
    problem, (step, buffers) = run.problem, at

    def loss_of(params: TensorDict, theta: TensorDict) -> Tensor:
        return problem.train_loss(params, buffers, problem.phi(theta, step.features), step)[0]

    def step_map(params: TensorDict, slots: dict[str, TensorDict], theta: TensorDict) -> tuple[TensorDict, Any]:
        gradients = torch.func.grad(loss_of)(params, theta)
        return problem.optimizer.step(params, gradients, slots, index=step.index, lr=step.lr)

    primals, tangents = (*primal, dict(run.theta)), (*tangent, dict(direction))
    after, slopes = torch.func.jvp(step_map, primals, tangents)  # type: ignore[misc]  # three only with has_aux
    return _Carried(*after), _Carried(*slopes)
