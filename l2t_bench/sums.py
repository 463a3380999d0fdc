"""How what is a sum over the examples of a batch is taken: here from the whole batch, elsewhere by several ranks.

A step's gradient, the two products of its second derivatives, the dev objective and its gradient are such sums. A
method that takes them by ``Run.sums`` goes as it is where ranks share a batch out.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from l2t_bench.adjoint import objective_gradient
from l2t_bench.batches import Batch
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker
from l2t_bench.tensors import TensorDict
from l2t_bench.training_step import StudentGradient, student_gradient


class BatchSums(Protocol):
    """Sums over batches."""

    def gradient(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> StudentGradient:
        """As ``student_gradient``."""
        ...

    def second_order(self, maker: Maker) -> Maker:
        """The second derivatives that ``maker`` takes of a batch."""
        ...

    def objective_gradient(
        self, problem: TeachingProblem, state: StudentState, batches: Sequence[Batch]
    ) -> tuple[Tensor, TensorDict]:
        """As that of ``adjoint``."""
        ...


class WholeBatch:
    """Those of one process."""

    def gradient(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> StudentGradient:
        return student_gradient(problem, state, step, phi)

    def second_order(self, maker: Maker) -> Maker:
        return maker

    def objective_gradient(
        self, problem: TeachingProblem, state: StudentState, batches: Sequence[Batch]
    ) -> tuple[Tensor, TensorDict]:
        return objective_gradient(problem, state, batches)


WHOLE_BATCH: BatchSums = WholeBatch()
