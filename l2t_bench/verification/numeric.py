"""Independent ways to the same derivative: plain replay, torch.optim, central differences, forward mode.

None of them shares code with a backend's reverse pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from l2t_bench.adam import Adam
from l2t_bench.adjoint import phi_leaves
from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.groups import rates
from l2t_bench.modules import float_leaves, module_at, trained_parameters, twice_differentiable, without_fast_attention
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.second_order import MODES, SecondOrder, quiet_forward_mode
from l2t_bench.tangent import Carried, no_tangent, tangent_step
from l2t_bench.tensors import TensorDict, Tensors, zeros_like
from l2t_bench.training_step import loss_gradients, student_step

ThetaAt = Callable[[int], Tensors]
"""The teacher's parameters that step t is taken under."""

_OFFSETS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # five points: an error of order h^4


class OtherMasks(Exception):
    """A student that is another one under ``torch.func``, and so has no forward-mode pass through its run."""


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

    @cached_property
    def w_bar(self) -> TensorDict:
        """dM~/domega_T by plain backpropagation through the dev batches, to be held to ``objective_difference``."""
        found = zeros_like(self.states[-1].params)
        for batch, share in self.dev:
            params = {name: param.detach().requires_grad_() for name, param in self.states[-1].params.items()}
            value = self.problem.dev_objective(params, self.buffers[-1], batch)
            for name, part in loss_gradients(value, params).items():
                found[name] += share * part
        return found


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
    """Parameters and buffers after the same run as anybody would write it: a module, ``torch.optim``, ``backward``.

    Frozen parameters are among them; the optimiser is not given these. Raises ``UserError`` for an optimiser that torch
    has no counterpart of.
    """
    problem, own = run.problem, run.problem.optimizer
    start = problem.init_student(run.seed)
    student = module_at(problem.student, {**start.params, **start.buffers})
    trained = trained_parameters(student)
    optimizer = torch_optimizer(own, trained)
    for step in run.steps:
        for param in trained.values():  # zero_grad(set_to_none=False)
            param.grad = torch.zeros_like(param)
        with torch.no_grad():
            phi = problem.phi(run.theta, step.features)
        problem.module_loss(student, phi, step).backward()  # type: ignore[no-untyped-call]
        torch_step(own, optimizer, step.lr)
    return {name: tensor.detach() for name, tensor in (*student.named_parameters(), *student.named_buffers())}


def has_torch_counterpart(own: Optimizer) -> bool:
    """Whether ``torch_optimizer`` knows what torch calls this optimiser."""
    return isinstance(own, SGD | Adam)


def torch_optimizer(own: Optimizer, params: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """``torch.optim``'s own, one parameter group for each lr factor and weight decay; ``torch_step`` steps it.

    One tensor at a time: the fused loops over several round otherwise. Raises ``UserError`` where torch has no
    counterpart.
    """
    if not isinstance(own, SGD | Adam):
        raise UserError(f"no torch.optim counterpart of {type(own).__name__} is known here")
    members: dict[tuple[float, float], list[Tensor]] = {}
    for name, param in params.items():
        rate = rates(name, own.groups, own.weight_decay)
        members.setdefault((rate.lr, rate.weight_decay), []).append(param)
    groups: list[dict[str, Any]] = [
        {"params": held, "factor": factor, "weight_decay": decay} for (factor, decay), held in members.items()
    ]
    if isinstance(own, SGD):
        return torch.optim.SGD(
            groups, lr=1.0, momentum=own.momentum, dampening=own.dampening, nesterov=own.nesterov, foreach=False
        )
    kind = torch.optim.AdamW if own.decoupled else torch.optim.Adam
    return kind(groups, lr=1.0, betas=own.betas, eps=own.eps, foreach=False)


def torch_step(own: Optimizer, optimizer: torch.optim.Optimizer, lr: float) -> None:
    """One step at eta_t = ``lr`` with the gradients that the parameters hold, which are clipped where ``own`` clips."""
    bound = getattr(own, "clip", None)
    if bound is not None:
        held = [param for group in optimizer.param_groups for param in group["params"]]
        torch.nn.utils.clip_grad_norm_(held, bound, foreach=False)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    optimizer.step()


def directional_difference(run: RecordedRun, direction: Tensors, step_size: float, start: int = 0) -> float:
    """dM~ along ``direction`` by five-point central differences, theta moved in steps ``start`` ... T-1 only.

    s_t stays as recorded: it is a constant of the differentiation.
    """
    return _slope(lambda amount: objective(run, _moved(run, direction, amount, start)), step_size)


def tangent_difference(run: RecordedRun, direction: Tensors, step_size: float, start: int = 0) -> TensorDict:
    """domega_T along ``direction`` of theta, by the same differences: no dev pass, and no rounding of its mean."""
    return _slopes(lambda amount: _moved(run, direction, amount, start).params, step_size)


def objective_difference(run: RecordedRun, direction: Tensors, step_size: float) -> float:
    """dM~ at omega_T along ``direction`` of the student's parameters, by the same differences."""
    final = run.states[-1]
    return _slope(
        lambda amount: objective(run, replace(final, params=_along(final.params, direction, amount))), step_size
    )


def _slope(function: Callable[[float], float], step_size: float) -> float:
    """The derivative of ``function`` at zero, by the five-point rule."""
    return sum(weight * function(offset * step_size) for offset, weight in _OFFSETS) / step_size


def _slopes(function: Callable[[float], Tensors], step_size: float) -> TensorDict:
    """The same of tensors by name."""
    found: TensorDict = {}
    for offset, weight in _OFFSETS:
        for name, end in function(offset * step_size).items():
            part = (weight / step_size) * end
            found[name] = found[name] + part if name in found else part
    return found


def _moved(run: RecordedRun, direction: Tensors, amount: float, start: int) -> StudentState:
    """The replay's end with theta moved by ``amount`` along ``direction`` in the steps from ``start`` on."""
    return replay(run, _from_step(start, run.theta, _along(run.theta, direction, amount)))


def _along(at: Tensors, direction: Tensors, amount: float) -> TensorDict:
    return {name: tensor + amount * direction[name] for name, tensor in at.items()}


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
    """dM~ along ``direction`` by one forward-mode pass through the whole run: forward-over-reverse, O(1) memory.

    Raises what torch raises for a student that it has no forward mode of, and ``OtherMasks``.
    """
    problem = run.problem
    if not same_student(run, 0, "for"):
        raise OtherMasks("torch.func draws other dropout masks than plain training")
    primal = Carried(problem.init_student(run.seed).params, {})
    tangent = no_tangent(primal.params)
    with quiet_forward_mode(), without_fast_attention(), twice_differentiable(problem.student, problem.device):
        for step, buffers in zip(run.steps, run.buffers, strict=False):
            primal, tangent, _, _ = tangent_step(problem, step, (run.theta, direction), primal, tangent, buffers)
        slope = 0.0
        for batch, share in run.dev:
            _, derivative = torch.func.jvp(
                lambda at, batch=batch: problem.dev_objective(at, run.buffers[-1], batch),  # type: ignore[misc]
                (primal.params,),
                (tangent.params,),
            )
            slope += float(derivative) * share
    return slope


def same_student(run: RecordedRun, at: int, mode: str) -> bool:
    """Whether the loss of recorded step ``at`` under a mode of ``second_order`` is that of plain training."""
    plain, other = (_second_order(run, at, each) for each in ("ror", mode))
    other.products(zeros_like(run.states[at].params))
    return bool(torch.isclose(plain.loss, other.loss, 1e-10, 1e-10))


def _second_order(run: RecordedRun, at: int, mode: str) -> SecondOrder:
    step = run.steps[at]
    phi = phi_leaves(run.problem.phi(run.theta, step.features))
    return MODES[mode](run.problem, run.states[at], step, phi)


def second_derivatives(run: RecordedRun, at: int, vector: Tensors, mode: str) -> TensorDict:
    """[d2L/domega2] v and [d2L/dphi domega] v of recorded step ``at`` by a mode of ``second_order``."""
    by_params, by_phi = _second_order(run, at, mode).products(vector)
    return {**by_params, **{f"phi[{index}]": part for index, part in enumerate(by_phi)}}


def second_derivative_difference(run: RecordedRun, at: int, vector: Tensors, step_size: float) -> TensorDict:
    """The same by five-point differences of the loss's gradient."""
    step, state = run.steps[at], run.states[at]
    phi = phi_leaves(run.problem.phi(run.theta, step.features))
    leaves = float_leaves(phi)

    def gradient(amount: float) -> TensorDict:
        params = {name: param.requires_grad_() for name, param in _along(state.params, vector, amount).items()}
        loss, _ = run.problem.train_loss(params, state.buffers, phi, step)
        wanted = [*params.values(), *leaves]
        found = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        return dict(zip(names, found, strict=True))

    names = [*state.params, *(f"phi[{index}]" for index in range(len(leaves)))]
    return _slopes(gradient, step_size)
