"""Sums over a batch, taken from one part of it after another: the graph of a step is that of a part.

What is a mean over the examples is the sum of the parts' means by their shares of them: a step's loss, its gradient,
and both products of its second derivatives. The same numbers up to the order of a sum, in memory for a part's graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from l2t_bench.adjoint import objective_gradient
from l2t_bench.batch_parts import Division, step_parts
from l2t_bench.batches import Batch
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import StudentGradient, student_gradient

Parts = Sequence[tuple[float, Step]]  # with the share of the examples that each holds


def into_microbatches(count: int) -> Division:
    """A batch in so many parts, one after another."""
    return Division(count, f"microbatches={count}", "microbatches=1 takes batches whole")


@dataclass(frozen=True)
class MicroBatches:
    """``BatchSums`` of ``division.count`` parts of each batch. Dev is taken by the problem's own batches."""

    division: Division

    def gradient(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> StudentGradient:
        return gradient_by_parts(problem, state, step_parts(step, self.division), phi)

    def second_order(self, maker: Maker) -> Maker:
        return partial(self._products, maker)

    def objective_gradient(
        self, problem: TeachingProblem, state: StudentState, batches: Sequence[Batch]
    ) -> tuple[Tensor, TensorDict]:
        return objective_gradient(problem, state, batches)

    def _products(
        self, maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any
    ) -> "ProductsByParts":
        return ProductsByParts(maker, problem, state, step_parts(step, self.division), phi)


def gradient_by_parts(problem: TeachingProblem, state: StudentState, parts: Parts, phi: Any) -> StudentGradient:
    """``student_gradient`` of all parts together. The buffers are those of ``state``: parts must not move them."""
    total: list[Tensor] = []
    names: Sequence[str] = ()
    for share, part in parts:
        found = student_gradient(problem, state, part, phi)
        names = list(found.gradients)
        total = _with(total, share, [found.loss, *found.gradients.values()])
    loss, *gradients = total
    return StudentGradient(loss, dict(zip(names, gradients, strict=True)), dict(state.buffers))


class ProductsByParts:
    """``SecondOrder`` of a step: the sum over its parts by their shares, one graph at a time.

    An optimiser that asks for the gradients before it gives g_bar has them from a pass of their own.
    """

    def __init__(self, maker: Maker, problem: TeachingProblem, state: StudentState, parts: Parts, phi: Any) -> None:
        self._maker, self._problem, self._state, self._parts, self._phi = maker, problem, state, parts, phi

    @property
    def buffers(self) -> TensorDict:
        return dict(self._state.buffers)

    @cached_property
    def loss(self) -> Tensor:
        return self._plain.loss

    @property
    def gradients(self) -> TensorDict:
        return self._plain.gradients

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        total: list[Tensor] = []
        for share, part in self._parts:
            second = self._maker(self._problem, self._state, part, self._phi)
            hessian, d_phi = second.products(g_bar)
            total = _with(total, share, [second.loss, *hessian.values(), *d_phi])
        self.loss, *found = total
        return dict(zip(self._state.params, found, strict=False)), found[len(self._state.params) :]

    @cached_property
    def _plain(self) -> StudentGradient:
        return gradient_by_parts(self._problem, self._state, self._parts, self._phi)


def _with(total: list[Tensor], share: float, parts: Sequence[Tensor]) -> list[Tensor]:
    """``total`` and ``share`` times ``parts``; in the place of ``total``, which is empty at first."""
    if not total:
        return [share * part.detach() for part in parts]
    for held, part in zip(total, parts, strict=True):
        held.add_(part.detach(), alpha=share)
    return total
