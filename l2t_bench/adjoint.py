"""What hand-written methods share on the way back: w_bar at omega_T, a step that is visited, and the chain to theta.

Bars are derivatives of M~.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.first_look import look_at_leaves, once
from l2t_bench.modules import float_leaves, with_float_leaves
from l2t_bench.optimizers import Taken
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import SecondOrder
from l2t_bench.tensors import TensorDict, Tensors, zeros_like
from l2t_bench.training_step import loss_gradients


@dataclass(frozen=True)
class Visit:
    """A step on the way back, with the state that it starts from; its second derivatives, where they are kept."""

    step: Step
    state: StudentState
    second_order: SecondOrder | None = None


def objective_gradient(
    problem: TeachingProblem, state: StudentState, batches: Sequence[Batch], of: int | None = None
) -> tuple[Tensor, TensorDict]:
    """``dev_gradient`` on given batches, the value in float64; of several students, each one's own.

    ``of``: how many examples the mean is over where the batches hold some of them: their part of it.
    """
    total = sum(example_count(batch) for batch in batches) if of is None else of
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    w_bar = {name: torch.zeros_like(param) for name, param in params.items()}
    value = torch.zeros((), dtype=torch.float64, device=problem.device)
    for batch in batches:
        share = problem.dev_objective(params, state.buffers, batch) * (example_count(batch) / total)
        if not share.requires_grad:
            raise UserError(
                "the objective has no derivative by the student's parameters: give a smooth one, such as "
                "l2t.ExpectedAccuracy()"
            )
        once(problem, "leaves of the objective", partial(look_at_leaves, [share], params, "the dev objective"))
        for name, part in loss_gradients(share, params).items():
            w_bar[name] += part
        value = value + share.detach().double()
    return value, w_bar


Objective = Callable[[TeachingProblem, StudentState, Sequence[Batch]], tuple[Tensor, TensorDict]]


def dev_gradient(
    rollout: Rollout, state: StudentState, index: int, gradient: Objective = objective_gradient
) -> tuple[float, TensorDict]:
    """M~ at omega_``index``, and w_bar = dM~/domega there (paper, Eq. 3), one dev batch's graph at a time.

    Raises ``UserError`` for an objective that is no function of the parameters, such as the 0-1 accuracy, and for one
    that depends on others.
    """
    batches = rollout.problem.final_dev_batches(state, index, rollout.seed)
    value, w_bar = gradient(rollout.problem, state, batches)
    return float(value), w_bar


class PhiAdjoint:
    """Accumulates d_phi while s_t stays the same tensor, and chains it to theta when s_t changes.

    phi_t depends on theta through the teacher alone, so the teacher is differentiated once per change of s_t and not
    once per step.
    """

    def __init__(self, problem: TeachingProblem, theta: Tensors) -> None:
        self._problem = problem
        self._theta = dict(theta)
        self.d_theta = zeros_like(theta)
        self._features: Tensor | None = None
        self._phi: Any = None
        self._d_phi: list[Tensor] = []

    def leaf(self, step: Step) -> Any:
        """phi_t as leaves of a graph of their own: differentiate by its ``float_leaves``, then ``add`` the result."""
        if self._features is not step.features:
            self.flush()
            self._features = step.features
            self._phi = self._problem.phi(self._theta, step.features)
            self._d_phi = [torch.zeros_like(leaf) for leaf in float_leaves(self._phi)]
        return phi_leaves(self._phi)

    def add(self, d_phi: list[Tensor]) -> None:
        """Add a step's derivative by phi's ``float_leaves``."""
        for held, part in zip(self._d_phi, d_phi, strict=True):
            held.add_(part)

    @property
    def left_at(self) -> tuple[TensorDict, list[Tensor]]:
        """d_theta without what is added and not chained yet, and that, by phi's ``float_leaves``: copies."""
        return {name: part.clone() for name, part in self.d_theta.items()}, [part.clone() for part in self._d_phi]

    def restore(self, step: Step, d_theta: Tensors, d_phi: Sequence[Tensor]) -> None:
        """Go on where another has ``left_at``, ``step`` having been the last one."""
        self.d_theta = {name: d_theta[name].clone() for name in self._theta}
        self.leaf(step)
        self.add(list(d_phi))

    def flush(self) -> None:
        """Chain what has been added to ``d_theta``."""
        pairs = [
            (leaf, bar) for leaf, bar in zip(float_leaves(self._phi), self._d_phi, strict=True) if leaf.requires_grad
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


def phi_leaves(phi: Any) -> Any:
    """phi as leaves of a graph of their own; what has no derivative, such as an index, stays as it is."""
    return with_float_leaves(phi, [leaf.detach().requires_grad_() for leaf in float_leaves(phi)])


def taken_step(visit: Visit, second: SecondOrder, *, gradients: bool) -> Taken:
    """The step of a visit as the optimiser's adjoint wants to know it."""
    step, state = visit.step, visit.state
    return Taken(step.index, step.lr, state.params, second.gradients if gradients else {}, state.slots)
