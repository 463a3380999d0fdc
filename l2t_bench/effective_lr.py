"""How large a loss's steps are beside cross entropy's: is it the shape of a learned loss that teaches, or its size?

A loss that is scaled by c trains as the plain one does at c times the lr. ``effective_lrs`` tells that factor along a
student's training; ``cross_entropy_as_long`` is cross entropy at the schedule that it amounts to: students of both
differ by the shape of their losses, and no longer by the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.lessons import with_fixed_loss, with_lr
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
    def size(self) -> float | None:
        """How often as long as cross entropy's the loss's gradient is; ``None`` where that one is zero."""
        return self.gradient_norm / self.cross_entropy_norm if self.cross_entropy_norm > 0 else None

    @property
    def effective(self) -> float | None:
        """The lr at which cross entropy would take a step of this length; ``None`` where its gradient is zero."""
        return None if self.size is None else self.lr * self.size


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


def cross_entropy_as_long(problem: TeachingProblem, along: Sequence[EffectiveLr]) -> TeachingProblem:
    """The problem under cross entropy, its lr at each step times the size that another loss's gradient had there.

    ``along``: what ``effective_lrs`` found under that loss; between its steps the size goes in a straight line, after
    the last it stays. Raises ``UserError`` where no step of it has a size, or the student's optimiser is not SGD.
    """
    known = [(point.step, point.size) for point in along if point.size is not None]
    if not known:
        raise UserError("no step tells how long a loss's gradient is beside cross entropy's")
    steps, sizes = zip(*known, strict=True)
    lr_at = problem.optimizer.lr_at
    plain = with_fixed_loss(problem, _cross_entropy_of)
    return with_lr(plain, lambda index, horizon: lr_at(index, horizon) * float(np.interp(index, steps, sizes)))


def _cross_entropy_of(output: Any, target: Tensor, phi: Any) -> Tensor:
    return cross_entropy(getattr(output, "logits", output), target, phi)


def _gradient_norm(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> float:
    return global_norm(student_gradient(problem, state, step, phi).gradients)
