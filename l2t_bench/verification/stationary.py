"""What a stationary method is held to: -[d2L/dtheta domega]' (H + damping)^-1 w_bar, found here without its solver."""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.groups import rates
from l2t_bench.tensors import TensorDict, from_vector, to_vector
from l2t_bench.training_step import loss_gradients
from l2t_bench.verification.numeric import RecordedRun
from l2t_bench.verification.peers import label, with_options
from l2t_bench.verification.subject import Check, Subject, held_to, skipped
from l2t_bench.verification.vectors import random_directions, relative_error

_NAME = "the implicit formula at omega_T"
_POWERS = 12  # steps to the largest eigenvalue of H, which they find to a few tens of per cent
_MARGIN = 8.0  # of the damping over that: each step of the iteration leaves a fifth of the error or less
_STEPS = 24
_WHOLE_SKETCH = 1_000  # parameters up to which a sketch of H of full rank is affordable


@dataclass(frozen=True)
class Surroundings:
    """The training loss L around omega_T as a stationary method has it: its gradient with a graph, w_bar, and theta."""

    theta: TensorDict
    params: TensorDict
    gradient: Tensor  # of L with the weight decay, by omega, flat
    w_bar: Tensor

    def hessian_product(self, v: Tensor) -> Tensor:
        return _pulled_back(self.gradient, v, self.params)

    def formula(self, damping: float) -> TensorDict:
        """By u <- (w_bar - H u) / damping, which asks for a damping above |H| and for no solver."""
        u = torch.zeros_like(self.w_bar)
        for _ in range(_STEPS):
            u = (self.w_bar - self.hessian_product(u)) / damping
        return from_vector(_pulled_back(self.gradient, -u, self.theta), self.theta)

    def largest_curvature(self) -> float:
        """|H|, from below, by powers of it."""
        (start,) = random_directions(self.params, 1)
        v, size = to_vector(start), 0.0
        for _ in range(_POWERS):
            v = self.hessian_product(v / torch.linalg.vector_norm(v))
            size = float(torch.linalg.vector_norm(v))
            if size == 0:
                break
        return size


def check_stationary(subject: Subject, bound: float = 1e-8) -> Check:
    """d_theta under a damping that lets any solver converge, against the formula by a plain iteration.

    For methods with the options ``damping`` and ``batches``, of which L is the mean over the last so many steps.
    """
    own = subject.backend
    if not (hasattr(own, "damping") and hasattr(own, "batches")):
        return skipped(_NAME, "the method has no options damping and batches that say of which system")
    sketch = getattr(own, "solver", "") == "nystrom"
    around = around_end(subject.run, int(own.batches))
    if sketch and len(around.w_bar) > _WHOLE_SKETCH:
        return skipped(_NAME, f"a sketch of H of the rank {len(around.w_bar)} would take long")
    damping = max(_MARGIN * around.largest_curvature(), float(own.damping), 1e-3)
    enough = {"rank": len(around.w_bar)} if sketch else {"iterations": 200}
    solved = with_options(own, damping=damping, alpha=None, **enough)
    found = solved.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed)
    error = relative_error(found.d_theta, around.formula(damping))
    return held_to(_NAME, error, bound, f"{label(own)} with damping {damping:.2g}")


def around_end(run: RecordedRun, batches: int) -> Surroundings:
    """L of the recorded run's last ``batches`` steps, each with its own phi_t, and the dev objective, at omega_T."""
    problem, state = run.problem, run.states[-1]
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    theta = {name: tensor.detach().requires_grad_() for name, tensor in run.theta.items()}
    tail = run.steps[-batches:]
    losses = [problem.train_loss(params, state.buffers, problem.phi(theta, step.features), step)[0] for step in tail]
    loss = torch.stack(losses).mean()
    optimizer = problem.optimizer
    for name, param in params.items():
        decay = rates(name, getattr(optimizer, "groups", ()), getattr(optimizer, "weight_decay", 0.0)).weight_decay
        loss = loss + 0.5 * decay * param.square().sum()
    gains = [share * problem.dev_objective(params, state.buffers, batch) for batch, share in run.dev]
    w_bar = to_vector(loss_gradients(torch.stack(gains).sum(), params)).detach()
    return Surroundings(theta, params, to_vector(loss_gradients(loss, params, create_graph=True)), w_bar)


def _pulled_back(gradient: Tensor, v: Tensor, inputs: TensorDict) -> Tensor:
    if not gradient.requires_grad:  # of a loss that is linear
        return torch.zeros_like(to_vector(inputs))
    found = torch.autograd.grad(
        gradient, list(inputs.values()), v, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.reshape(-1) for part in found]).detach()
