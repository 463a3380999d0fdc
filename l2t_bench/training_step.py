"""One step of a student's training, as pure functions: its gradient, the state after it, the gradients of a loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.modules import map_tensors
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors


@dataclass(frozen=True)
class StudentGradient:
    """What one look at a step's batch gives: the loss, dL/domega by parameter name, the buffers after it."""

    loss: Tensor
    gradients: TensorDict
    buffers: TensorDict


def student_gradient(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> StudentGradient:
    """The gradient that ``step`` follows at ``state``, without a graph; a pure function."""
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    with torch.enable_grad():
        loss, buffers = problem.train_loss(params, state.buffers, map_tensors(Tensor.detach, phi), step)
        gradients = loss_gradients(loss, params)
    return StudentGradient(loss.detach(), gradients, buffers)


Gradient = Callable[[TeachingProblem, StudentState, Step, Any], StudentGradient]


def student_step(
    problem: TeachingProblem, state: StudentState, step: Step, phi: Any, gradient: Gradient = student_gradient
) -> tuple[StudentState, Tensor]:
    """The state after ``step``, and the step's loss; a pure function, and so the way to take a step once more."""
    found = gradient(problem, state, step, phi)
    with torch.no_grad():
        updated, slots = problem.optimizer.step(
            state.params, found.gradients, state.slots, index=step.index, lr=step.lr
        )
    return StudentState(updated, found.buffers, slots), found.loss


def loss_gradients(loss: Tensor, params: Tensors, *, create_graph: bool = False) -> TensorDict:
    """dL/domega by name; zeros for a parameter that the loss does not reach. Of several losses, of their sum."""
    gradients = torch.autograd.grad(
        loss,
        list(params.values()),
        torch.ones_like(loss),
        create_graph=create_graph,
        allow_unused=True,
        materialize_grads=True,
    )
    return dict(zip(params, gradients, strict=True))
