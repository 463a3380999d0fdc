"""A step and the step back in plain torch, and how far another way of taking them is from these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.adjoint import PhiAdjoint, Visit
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import Maker
from l2t_bench.steppers.eager import passed_back
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import student_step


@dataclass(frozen=True)
class BothWays:
    """What comes of a step (its loss, the state after it) and of the step back (the adjoint before it, d_theta)."""

    loss: Tensor
    after: StudentState
    before: Adjoint
    d_theta: TensorDict
    hyper: Mapping[str, Tensor]

    @property
    def parts(self) -> list[Tensors]:
        """All of it but the hyper-gradients."""
        after, before = self.after, self.before
        slots = [*after.slots.values(), *before.slots.values()]
        return [{"loss": self.loss}, after.params, after.buffers, before.params, self.d_theta, *slots]


def plain_both_ways(
    problem: TeachingProblem,
    theta: Tensors,
    visit: Visit,
    state: StudentState,
    adjoint: Adjoint,
    second_order: Maker,
    *,
    hyper: bool = False,
) -> BothWays:
    """By the reference: the step of ``visit`` from ``state``, and back through the visit from ``adjoint`` after it."""
    with torch.no_grad():
        phi = problem.phi(theta, visit.step.features)
    after, loss = student_step(problem, state, visit.step, phi)
    with torch.enable_grad():
        own = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
        phi_adjoint = PhiAdjoint(problem, own)
        passed = passed_back(problem, phi_adjoint, visit, adjoint, second_order, hyper=hyper)
        phi_adjoint.flush()
    return BothWays(loss, after, passed.adjoint, phi_adjoint.d_theta, passed.hyper)


def random_adjoint(params: Tensors, slot_names: Sequence[str], seed: int = 0) -> Adjoint:
    """Standard normal entries, the same for equal seeds."""
    first, *others = (standard_normal(params, seed, 90 + part) for part in range(1 + len(slot_names)))
    return Adjoint(first, dict(zip(slot_names, others, strict=True)))
