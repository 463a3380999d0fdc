"""One step back by finite differences: the approximation of DARTS (Liu, Simonyan and Yang 2019, Eq. 7 and 8)."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.adjoint import PhiAdjoint
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.modules import float_leaves
from l2t_bench.optimizers import Adjoint, Taken
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import train_student
from l2t_bench.tensors import TensorDict, Tensors, any_nonzero, length_in_float64, zeros_like
from l2t_bench.training_step import loss_gradients

_STILL = "the last step does not move the student, and so theta moves nothing through it"


@dataclass(frozen=True)
class OneStep(Backend):
    """What theta does through the last step alone, without a second derivative: ``truncated[window=1]`` to order h^2.

    [d2L/dphi domega] g_bar as (dL/dphi at omega + h g_bar - the same at omega - h g_bar) / 2h, omega = omega_{T-1},
    g_bar the adjoint of that step's loss gradient, h = ``epsilon`` / |g_bar| (the paper's 0.01). With plain SGD g_bar
    is along w_bar, as in the paper. Three gradients beyond the run, memory P + G. ``diagnostics['step']``: h.
    """

    epsilon: float = 0.01

    name = "one-step"
    capabilities = Capabilities(Exactness.FINITE_DIFFERENCE, optimizers=("SGD", "Adam"), memory_law="P + G")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.epsilon < math.inf:
            raise UserError(f"one-step: epsilon must be a positive number, not {self.epsilon!r}")

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        del problem, horizon
        return Scaling(steps_back=1, bytes=0)

    def differentiate(self, run: Run) -> Derivative:
        last: list[tuple[Step, StudentState]] = []

        def keep(step: Step, state: StudentState) -> None:
            if step.index == run.horizon - 1:
                last.append((step, state))

        with run.forward():
            final = train_student(run.rollout, keep)
        value, w_bar = run.dev_gradient(final)
        ((step, state),) = last
        phi_adjoint = PhiAdjoint(run.problem, run.theta)
        with run.reverse():
            phi = phi_adjoint.leaf(step)
            g_bar = _gradient_adjoint(run, step, state, phi, w_bar)
            length = length_in_float64(g_bar.values())
            size = self.epsilon / length if length > 0 else 0.0
            if size:
                phi_adjoint.add(_mixed_difference(run, step, state, phi, g_bar, size))
            phi_adjoint.flush()
        warned = () if size or not any_nonzero(w_bar) else (_STILL,)
        return Derivative(phi_adjoint.d_theta, value, final, diagnostics={"step": size}, warnings=warned)


def _gradient_adjoint(run: Run, step: Step, state: StudentState, phi: Any, w_bar: TensorDict) -> TensorDict:
    """g_bar, w_bar pulled back through the optimiser's last step; the step is replayed and held to the recorded one."""
    optimizer = run.problem.optimizer
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    loss, _ = run.problem.train_loss(params, state.buffers, phi, step)
    gradients = loss_gradients(loss, params)
    run.rollout.check_replayed({step.index: loss.detach()})
    run.meter.count(recomputed_steps=1)
    with torch.no_grad():
        adjoint = Adjoint(w_bar, {slot: zeros_like(w_bar) for slot in optimizer.slot_names})
        return optimizer.pull_back(adjoint, Taken(step.index, step.lr, state.params, gradients, state.slots))[0]


def _mixed_difference(
    run: Run, step: Step, state: StudentState, phi: Any, g_bar: TensorDict, size: float
) -> list[Tensor]:
    """[d2L/dphi domega] g_bar by phi's leaves, by central differences of dL/dphi."""

    def at(params: Tensors) -> tuple[Tensor, ...]:
        loss, _ = run.problem.train_loss(params, state.buffers, phi, step)
        run.meter.count(gradients=1)
        if not loss.requires_grad:
            return tuple(torch.zeros_like(leaf) for leaf in float_leaves(phi))
        return torch.autograd.grad(loss, float_leaves(phi), allow_unused=True, materialize_grads=True)

    ahead = at({name: param + size * g_bar[name] for name, param in state.params.items()})
    behind = at({name: param - size * g_bar[name] for name, param in state.params.items()})
    return [(right - left) / (2 * size) for right, left in zip(ahead, behind, strict=True)]
