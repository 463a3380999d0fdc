"""How large a loss's steps are beside cross entropy's: is it the shape of a learned loss that teaches, or its size?

A loss that is scaled by c trains as the plain one does at c times the lr. ``effective_lrs`` tells that factor along a
student's training, so that a learned loss can be set against cross entropy at the schedule that it amounts to.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.losses.image import cross_entropy
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout, train_student
from l2t_bench.tensors import Tensors, global_norm
from l2t_bench.training_step import student_gradient


@dataclass(frozen=True)
class EffectiveLr:
    """One step of a student: ``effective`` = lr |dL/domega| / |dL_ce/domega|, both on its batch at its parameters."""

    step: int
    lr: float
    gradient_norm: float  # of the loss that trains
    cross_entropy_norm: float  # of cross entropy, in nats

    @property
    def effective(self) -> float | None:
        """The lr at which cross entropy would take a step of this length; ``None`` where its gradient is zero."""
        return self.lr * self.gradient_norm / self.cross_entropy_norm if self.cross_entropy_norm > 0 else None


def effective_lrs(
    problem: TeachingProblem, theta: Tensors, *, horizon: int, seed: int, every: int = 1
) -> tuple[EffectiveLr, ...]:
    """Along the training of student ``seed`` under ``theta``, at every ``every``-th step from the first.

    For classifiers that hand out logits, or something with ``logits``. Raises ``UserError`` for an ``every`` below 1,
    and as ``teach`` does; ``Diverged``.
    """
    if every < 1:
        raise UserError(f"every must be at least 1, not {every}")
    plain = replace(problem, loss=_cross_entropy_of)
    rollout = Rollout(problem, theta, horizon=horizon, seed=seed)
    found: list[EffectiveLr] = []

    def visit(step: Step, state: StudentState) -> None:
        if step.index % every == 0:
            norms = (_gradient_norm(each, state, step, rollout.phi(step)) for each in (problem, plain))
            found.append(EffectiveLr(step.index, float(step.lr), *norms))

    train_student(rollout, visit)
    return tuple(found)


def _cross_entropy_of(output: Any, target: Tensor, phi: Any) -> Tensor:
    return cross_entropy(getattr(output, "logits", output), target, phi)


def _gradient_norm(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> float:
    return global_norm(student_gradient(problem, state, step, phi).gradients)
