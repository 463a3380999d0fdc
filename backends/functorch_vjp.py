"""torch.func: the pull-back of each step map, kept from the forward pass (Horace He, Richard Zou 2021)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.adjoint import PhiAdjoint
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.gradient import ANY, Capabilities, Exactness
from l2t_bench.modules import float_leaves, map_tensors, with_float_leaves
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker, TorchStepGraph
from l2t_bench.tensors import TensorDict, zeros_like


@dataclass(frozen=True)
class FunctorchVJP(Backend):
    """The step map (omega_t, slots_t, phi_t) -> (omega_{t+1}, slots_{t+1}) under ``torch.func.vjp``, gradient inside.

    Exact. Memory T*(G + several P): the pull-backs hold each step's graph. No step is replayed, and no optimiser's
    recursion is written by hand: what the student's update is, its pull-back is.
    """

    name = "functorch"
    capabilities = Capabilities(Exactness.EXACT, optimizers=(ANY,), memory_law="T*(G + P)")

    @property
    def through_torch_func(self) -> bool:
        return True

    def second_order(self) -> Maker:
        return TorchStepGraph

    def differentiate(self, run: Run) -> Derivative:
        phi_adjoint = PhiAdjoint(run.problem, run.theta)
        pull_backs: list[tuple[Step, Callable[..., Any]]] = []
        state = run.rollout.initial()
        with run.forward():
            for index in range(run.horizon):
                step = run.rollout.step(index, state)
                state, loss, pull_back = _step_with_pull_back(run.problem, state, run.rollout.phi(step), step)
                run.rollout.observe(loss)
                pull_backs.append((step, pull_back))
        value, w_bar = run.dev_gradient(state)
        slot_bars = {slot: zeros_like(held) for slot, held in state.slots.items()}
        with run.reverse():
            for step, pull_back in reversed(pull_backs):
                phi_adjoint.leaf(step)
                with torch.no_grad():  # else it makes a graph for a third derivative, of every step one
                    w_bar, slot_bars, d_phi = pull_back((w_bar, slot_bars))
                phi_adjoint.add(d_phi)
                run.watch.see(step.index, w_bar)
            phi_adjoint.flush()
        return Derivative(phi_adjoint.d_theta, value, state, w_bar)


def _step_with_pull_back(
    problem: TeachingProblem, state: StudentState, phi: Any, step: Step
) -> tuple[StudentState, Tensor, Callable[..., Any]]:
    constant_phi = map_tensors(Tensor.detach, phi)

    def loss_of(params: TensorDict, leaves: list[Tensor]) -> tuple[Tensor, tuple[Tensor, TensorDict]]:
        phi = with_float_leaves(constant_phi, leaves)
        loss, buffers = problem.train_loss(params, state.buffers, phi, step)
        return loss, (loss.detach(), buffers)

    def step_map(params: TensorDict, slots: dict[str, TensorDict], leaves: list[Tensor]) -> tuple[tuple[Any, Any], Any]:
        gradients, aux = torch.func.grad(loss_of, has_aux=True)(params, leaves)
        return problem.optimizer.step(params, gradients, slots, index=step.index, lr=step.lr), aux

    (params, slots), pull_back, (loss, buffers) = torch.func.vjp(  # type: ignore[misc]  # three with has_aux
        step_map, state.params, state.slots, float_leaves(constant_phi), has_aux=True
    )
    return StudentState(params, buffers, slots), loss, pull_back
