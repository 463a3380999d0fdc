"""The reverse recursion that hand-written methods share: from w_bar at omega_T back to d_theta, step by step.

Bars are derivatives of M~. One step pulls the adjoint back through the optimiser's update (``Optimizer.pull_back``) and
adds the two vector products of the loss, [d2L/domega2] g_bar and [d2L/dtheta domega] g_bar, which one reverse-mode
differentiation of dL/domega gives together (paper, Eq. 4 and 5, with the optimiser's own recursion in their place).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.measure import Meter
from l2t_bench.modules import map_tensors, tensor_leaves
from l2t_bench.optimizers import Adjoint, TensorDict, Tensors
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import Rollout, loss_gradients

Trajectory = Iterable[tuple[Step, StudentState]]
"""Steps, each with the state that it starts from."""


def dev_gradient(rollout: Rollout, final: StudentState) -> tuple[float, TensorDict]:
    """M~ at omega_T, and w_bar = dM~/domega_T (paper, Eq. 3), one dev batch's graph at a time.

    Raises ``UserError`` for an objective that is no function of the parameters, such as the 0-1 accuracy.
    """
    problem = rollout.problem
    batches = problem.final_dev_batches(final, rollout.horizon, rollout.seed)
    total = sum(example_count(batch) for batch in batches)
    params = {name: param.detach().requires_grad_() for name, param in final.params.items()}
    w_bar = {name: torch.zeros_like(param) for name, param in params.items()}
    value = 0.0
    for batch in batches:
        share = problem.dev_objective(params, final.buffers, batch) * (example_count(batch) / total)
        if not share.requires_grad:
            raise UserError(
                "the objective has no derivative by the student's parameters: give a smooth one, such as "
                "l2t.ExpectedAccuracy()"
            )
        for name, part in loss_gradients(share, params).items():
            w_bar[name] += part
        value += share.item()
    return value, w_bar


def vector_products(
    problem: TeachingProblem, state: StudentState, step: Step, phi: Any, g_bar: Tensors
) -> tuple[TensorDict, list[Tensor]]:
    """[d2L/domega2] g_bar by parameter name, [d2L/dphi domega] g_bar by phi's leaves, at the state before ``step``."""
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    leaves = tensor_leaves(phi)
    loss, _ = problem.train_loss(params, state.buffers, phi, step)
    gradients = loss_gradients(loss, params, create_graph=True)
    reached = [name for name, gradient in gradients.items() if gradient.requires_grad]
    products = (
        torch.autograd.grad(
            [gradients[name] for name in reached],
            [*params.values(), *leaves],
            [g_bar[name] for name in reached],
            allow_unused=True,
            materialize_grads=True,
        )
        if reached  # a loss linear in everything has no second derivative
        else tuple(torch.zeros_like(tensor) for tensor in (*params.values(), *leaves))
    )
    return dict(zip(params, products, strict=False)), list(products[len(params) :])


class PhiAdjoint:
    """Accumulates d_phi while s_t stays the same tensor, and chains it to theta when s_t changes.

    phi_t depends on theta through the teacher alone, so the teacher is differentiated once per change of s_t and not
    once per step.
    """

    def __init__(self, problem: TeachingProblem, theta: Tensors) -> None:
        self._problem = problem
        self._theta = dict(theta)
        self.d_theta = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
        self._features: Tensor | None = None
        self._phi: Any = None
        self._d_phi: list[Tensor] = []

    def leaf(self, step: Step) -> Any:
        """phi_t as leaves of a graph of their own: differentiate by them, then ``add`` the result."""
        if self._features is not step.features:
            self.flush()
            self._features = step.features
            self._phi = self._problem.phi(self._theta, step.features)
            self._d_phi = [torch.zeros_like(leaf) for leaf in tensor_leaves(self._phi)]
        return map_tensors(lambda leaf: leaf.detach().requires_grad_(), self._phi)

    def add(self, d_phi: list[Tensor]) -> None:
        """Add a step's derivative by phi's leaves."""
        for held, part in zip(self._d_phi, d_phi, strict=True):
            held.add_(part)

    def flush(self) -> None:
        """Chain what has been added to ``d_theta``."""
        pairs = [
            (leaf, bar) for leaf, bar in zip(tensor_leaves(self._phi), self._d_phi, strict=True) if leaf.requires_grad
        ]
        if not pairs:
            return
        parts = torch.autograd.grad(
            [leaf for leaf, _ in pairs],
            list(self._theta.values()),
            [bar for _, bar in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        for name, part in zip(self._theta, parts, strict=True):
            self.d_theta[name] += part
        self._features, self._phi, self._d_phi = None, None, []


def reverse_sweep(
    rollout: Rollout, backwards: Trajectory, w_bar: TensorDict, meter: Meter
) -> tuple[TensorDict, TensorDict]:
    """Go back along ``backwards`` (the trajectory, last step first): d_theta, and the adjoint of its earliest state."""
    problem = rollout.problem
    adjoint = Adjoint(w_bar, {name: torch.zeros_like(w) for name, w in w_bar.items()})
    phi_adjoint = PhiAdjoint(problem, rollout.theta)
    for step, state in backwards:
        g_bar, carried = problem.optimizer.pull_back(adjoint, step.lr, first=step.index == 0)
        phi = phi_adjoint.leaf(step)
        hessian_product, d_phi = vector_products(problem, state, step, phi, g_bar)
        phi_adjoint.add(d_phi)
        adjoint = Adjoint({name: w + hessian_product[name] for name, w in carried.params.items()}, carried.momentum)
        meter.count(vector_products=1, recomputed_steps=1)
    phi_adjoint.flush()
    return phi_adjoint.d_theta, adjoint.params
