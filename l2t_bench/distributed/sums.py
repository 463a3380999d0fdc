"""Sums over a batch of which each rank has a part: what every one finds in its own, added up.

No exchange is differentiated: a step's two products of second derivatives are sums over the examples as its gradient
is, and the teacher, the optimiser and their adjoints are walked through by every rank alike.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from l2t_bench.adjoint import objective_gradient
from l2t_bench.batch_parts import batch_part
from l2t_bench.batches import Batch
from l2t_bench.checksums import checksum
from l2t_bench.distributed.parts import among_ranks, step_part
from l2t_bench.distributed.ranks import Ranks
from l2t_bench.part_looks import look_at_dev_once
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.second_order import Maker, SecondOrder
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import StudentGradient, student_gradient

Mean = Callable[[Sequence[Tensor], str], list[Tensor]]


@dataclass(frozen=True)
class SharedBatch:
    """``BatchSums`` of ``ranks``, of which each finds the same bits."""

    ranks: Ranks

    def gradient(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> StudentGradient:
        found = student_gradient(problem, state, step_part(step, self.ranks.rank, self.ranks.count), phi)
        parts = [found.loss, *found.gradients.values()]
        loss, *gradients = self._mean(parts, f"the sum of the gradients of step {step.index}")
        return StudentGradient(loss, dict(zip(found.gradients, gradients, strict=True)), found.buffers)

    def second_order(self, maker: Maker) -> Maker:
        return partial(self._products, maker)

    def objective_gradient(
        self, problem: TeachingProblem, state: StudentState, batches: Sequence[Batch]
    ) -> tuple[Tensor, TensorDict]:
        division = among_ranks(self.ranks.count)
        look_at_dev_once(problem, division, state, batches)
        made = () if problem.prepare_dev is None else batches  # the fixed ones were compared when it all began
        seen = [int(checksum(tuple(held))) for held in ((state.params, state.buffers), *made)]
        self.ranks.check_same(seen, "the student that is measured on dev, or the dev batches made of it")
        total = sum(example_count(batch) for batch in batches)
        own = [batch_part(batch, self.ranks.rank, division) for batch in batches]
        held = [batch for batch in own if example_count(batch)]
        value, w_bar = objective_gradient(problem, state, held, of=total)
        value, *parts = self.ranks.summed([value, *w_bar.values()], "the sum of the dev gradients")
        return value, dict(zip(w_bar, parts, strict=True))

    def _mean(self, parts: Sequence[Tensor], what: str) -> list[Tensor]:
        """Over the ranks, whose parts of a batch are equally large."""
        return self.ranks.summed([part / self.ranks.count for part in parts], what)

    def _products(
        self, maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any
    ) -> "SharedProducts":
        own = maker(problem, state, step_part(step, self.ranks.rank, self.ranks.count), phi)
        return SharedProducts(own, self._mean, step.index)


class SharedProducts:
    """``SecondOrder`` of a step: the means over the ranks of what each has of it."""

    def __init__(self, own: SecondOrder, mean: Mean, index: int) -> None:
        self._own, self._mean, self._index = own, mean, index

    @property
    def buffers(self) -> TensorDict:
        return self._own.buffers

    @cached_property
    def loss(self) -> Tensor:
        (loss,) = self._mean([self._own.loss], f"the loss of step {self._index}")
        return loss

    @cached_property
    def gradients(self) -> TensorDict:
        own = self._own.gradients
        parts = self._mean(list(own.values()), f"the sum of the gradients of step {self._index}, on the way back")
        return dict(zip(own, parts, strict=True))

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        hessian, d_phi = self._own.products(g_bar)
        parts = [self._own.loss, *hessian.values(), *d_phi]
        self.loss, *found = self._mean(parts, f"the sum of the products of step {self._index}")
        return dict(zip(hessian, found, strict=False)), found[len(hessian) :]
