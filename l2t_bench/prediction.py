"""What a teacher gradient will take at a horizon, from a short run and the method's memory law."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from l2t_bench.gradient import Prediction, Refused
from l2t_bench.optimizers import Tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.rollout import Rollout, loss_gradients

if TYPE_CHECKING:
    from l2t_bench.backend import Backend

_SHORT, _LONG = 3, 9  # horizons of the two timed runs: their difference is six steps without what a run costs once


def predict(backend: "Backend", problem: TeachingProblem, horizon: int) -> Prediction:
    """Peak bytes above the start by ``backend.kept_steps``, and seconds by a line through two short runs.

    Raises ``Refused`` for a problem that the backend does not do.
    """
    verdict = backend.supports(problem, horizon)
    if isinstance(verdict, Refused):
        raise verdict
    theta = problem.init_teacher(0)
    states, graphs = backend.kept_steps(horizon)
    size = parameter_bytes(problem) * states + graph_bytes(problem, theta) * graphs
    if horizon <= _LONG:
        return Prediction(size, _seconds(backend, problem, theta, horizon))
    short, long = (_seconds(backend, problem, theta, at) for at in (_SHORT, _LONG))
    per_step = max(0.0, long - short) / (_LONG - _SHORT)
    return Prediction(size, long + per_step * (horizon - _LONG))


def _seconds(backend: "Backend", problem: TeachingProblem, theta: Tensors, horizon: int) -> float:
    """The smaller of two runs: the first also warms up."""
    return min(backend.teacher_gradient(problem, theta, horizon=horizon).cost.seconds for _ in range(2))


def parameter_bytes(problem: TeachingProblem) -> int:
    """P, the student's parameters in bytes."""
    return sum(param.numel() * param.element_size() for param in problem.student.parameters())


def graph_bytes(problem: TeachingProblem, theta: Tensors) -> int:
    """G, what autograd keeps of one step's loss and its gradient in order to differentiate it again, in bytes."""
    rollout = Rollout(problem, theta, horizon=1)
    state = rollout.initial()
    step = rollout.step(0, state)
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = problem.train_loss(params, state.buffers, rollout.phi(step), step)
        gradients = loss_gradients(loss, params, create_graph=True)
    own = {param.untyped_storage().data_ptr() for param in params.values()}
    new = sum(size for pointer, size in kept.items() if pointer not in own)
    return new + sum(gradient.numel() * gradient.element_size() for gradient in gradients.values())
