"""The reverse recursion that hand-written methods share: from w_bar at omega_T back to d_theta, step by step.

Bars are derivatives of M~. One step pulls the adjoint back through the optimiser's update (``Optimizer.pull_back``) and
adds the two vector products of the loss, [d2L/domega2] g_bar and [d2L/dtheta domega] g_bar, which one differentiation
of dL/domega gives together (paper, Eq. 4 and 5, with the optimiser's own recursion in their place).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from l2t_bench.errors import Diverged, UserError
from l2t_bench.health import AdjointWatch, first_not_finite, history
from l2t_bench.measure import Meter
from l2t_bench.modules import map_tensors, tensor_leaves
from l2t_bench.optimizers import Adjoint, Taken
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import Rollout, loss_gradients
from l2t_bench.second_order import Maker, SecondOrder, StepGraph
from l2t_bench.tensors import TensorDict, Tensors, added, zeros_like

_CHECK_EVERY = 50  # steps between two looks at the adjoint and the replayed losses: each look waits for the device


@dataclass(frozen=True)
class Visit:
    """A step on the way back, with the state that it starts from; its second derivatives, where they are kept."""

    step: Step
    state: StudentState
    second_order: SecondOrder | None = None


@dataclass(frozen=True)
class Swept:
    """What a sweep found: d_theta, the adjoint before its earliest step, and derivatives by the optimiser's numbers.

    ``hyper["lr"]`` has an entry for each step swept, in the order of time; the others are numbers, shape ().
    """

    d_theta: TensorDict
    adjoint: Adjoint
    hyper: Mapping[str, Tensor] = field(default_factory=dict)


def dev_gradient(rollout: Rollout, state: StudentState, index: int) -> tuple[float, TensorDict]:
    """M~ at omega_``index``, and w_bar = dM~/domega there (paper, Eq. 3), one dev batch's graph at a time.

    Raises ``UserError`` for an objective that is no function of the parameters, such as the 0-1 accuracy.
    """
    problem = rollout.problem
    batches = problem.final_dev_batches(state, index, rollout.seed)
    total = sum(example_count(batch) for batch in batches)
    params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
    w_bar = {name: torch.zeros_like(param) for name, param in params.items()}
    value = 0.0
    for batch in batches:
        share = problem.dev_objective(params, state.buffers, batch) * (example_count(batch) / total)
        if not share.requires_grad:
            raise UserError(
                "the objective has no derivative by the student's parameters: give a smooth one, such as "
                "l2t.ExpectedAccuracy()"
            )
        for name, part in loss_gradients(share, params).items():
            w_bar[name] += part
        value += share.item()
    return value, w_bar


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
        """phi_t as leaves of a graph of their own: differentiate by them, then ``add`` the result."""
        if self._features is not step.features:
            self.flush()
            self._features = step.features
            self._phi = self._problem.phi(self._theta, step.features)
            self._d_phi = [torch.zeros_like(leaf) for leaf in tensor_leaves(self._phi)]
        return phi_leaves(self._phi)

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


def phi_leaves(phi: Any) -> Any:
    """phi as leaves of a graph of their own."""
    return map_tensors(lambda leaf: leaf.detach().requires_grad_(), phi)


class _Guard:
    """Looks at the adjoint and at the replayed losses every so many steps: each look waits for the device."""

    def __init__(self, rollout: Rollout, watch: AdjointWatch) -> None:
        self._rollout, self._watch = rollout, watch
        self._losses: dict[int, Tensor] = {}
        self._seen = 0

    def see(self, index: int, loss: Tensor) -> None:
        """The first replayed step is looked at at once: a source that cannot be replayed wastes no more than that."""
        self._losses[index] = loss
        self._seen += 1
        if self._seen == 1 or self._seen % _CHECK_EVERY == 0:
            self.look()

    def look(self) -> None:
        """Raises ``UserError`` for a step that was not the one replayed, ``Diverged`` for an adjoint not finite."""
        losses, self._losses = self._losses, {}
        self._rollout.check_replayed(losses)
        norms = self._watch.norms()
        if (index := first_not_finite(norms)) is not None:
            raise Diverged(
                f"the student trained, but its adjoint is not finite from step {index} back: let the student's lr "
                "decay to zero (l2t.linear_decay), lower it, or shorten the horizon",
                index,
                history({step: norm for step, norm in norms.items() if step >= index}),
            )


def reverse_sweep(
    rollout: Rollout,
    backwards: Iterable[Visit],
    w_bar: TensorDict,
    meter: Meter,
    *,
    watch: AdjointWatch | None = None,
    second_order: Maker = StepGraph,
    hyper: bool = False,
) -> Swept:
    """Go back along ``backwards`` (the steps, last one first) with w_bar the adjoint of the state after them.

    ``second_order`` makes the products of steps whose visit brings none. ``hyper``: also derivatives by the
    optimiser's numbers; the visits' states must then have their slots. Raises ``Diverged`` with the step from which the
    adjoint is not finite, and ``UserError`` for a step that cannot be replayed.
    """
    problem, optimizer = rollout.problem, rollout.problem.optimizer
    watch = watch or AdjointWatch()
    adjoint = Adjoint(w_bar, {slot: zeros_like(w_bar) for slot in optimizer.slot_names})
    phi_adjoint, guard = PhiAdjoint(problem, rollout.theta), _Guard(rollout, watch)
    found: list[dict[str, Tensor]] = []
    for visit in backwards:
        step = visit.step
        phi = phi_adjoint.leaf(step)
        second = visit.second_order or second_order(problem, visit.state, step, phi)
        watch.see(step.index + 1, adjoint.params)
        taken = taken_step(visit, second, gradients=optimizer.reads_gradients or hyper)
        with torch.no_grad():
            g_bar, carried = optimizer.pull_back(adjoint, taken)
            if hyper:
                found.append(optimizer.hyper_gradients(adjoint, taken))
        hessian_product, d_phi = second.products(g_bar)
        phi_adjoint.add(d_phi)
        adjoint = Adjoint(added(carried.params, hessian_product), carried.slots)
        guard.see(step.index, second.loss)
        meter.count(vector_products=1, recomputed_steps=0 if visit.second_order else 1)
        watch.see(step.index, adjoint.params)
    guard.look()
    phi_adjoint.flush()
    return Swept(phi_adjoint.d_theta, adjoint, _hyper(found))


def taken_step(visit: Visit, second: SecondOrder, *, gradients: bool) -> Taken:
    """The step of a visit as the optimiser's adjoint wants to know it."""
    step, state = visit.step, visit.state
    return Taken(step.index, step.lr, state.params, second.gradients if gradients else {}, state.slots)


def _hyper(found: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """By name: the lr's of every step in the order of time, the sum over the steps of all others."""
    if not found:
        return {}
    stacked = {name: torch.stack([each[name] for each in reversed(found)]) for name in found[-1]}
    return {name: parts if name == "lr" else parts.sum() for name, parts in stacked.items()}
