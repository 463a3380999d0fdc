"""A teaching problem whose batches are shared out among ranks: the same mathematics, its sums taken by all of them."""

from collections.abc import Hashable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any

from torch import Tensor

from l2t_bench.distributed.parts import among_ranks, check_divides
from l2t_bench.distributed.ranks import Ranks
from l2t_bench.distributed.sums import SharedBatch
from l2t_bench.part_looks import look_at_dev_once, look_at_parts
from l2t_bench.problem import Step, StudentState, StudentView, TeachingProblem
from l2t_bench.sums import BatchSums


@dataclass(frozen=True, eq=False)
class ShardedProblem(TeachingProblem):
    """What ``ranks`` teach together: ``sums`` takes a batch by parts, all else is the whole problem's.

    So what is looked at before a run is lost is looked at on whole batches, by every rank for itself.
    """

    _: KW_ONLY
    ranks: Ranks

    @property
    def sums(self) -> BatchSums:
        return SharedBatch(self.ranks)

    def look(self, state: StudentState, step: Step, phi: Any) -> None:
        """Raises ``Refused`` where a step's batch, or the dev set, cannot be shared out, as far as it is known yet."""
        division = among_ranks(self.ranks.count)
        check_divides(step.batch, division.count, step.index)
        look_at_parts(self, division, state, step, phi)
        if self.prepare_dev is None:
            look_at_dev_once(self, division, state, self.dev_batches)

    def step_features(self, view: StudentView) -> Tensor:
        """s_t as the first rank measures it, on whole batches: one that hung on a last bit would part the ranks."""
        own = super().step_features(view)
        if self.features is None or own is view.previous:
            return own
        return self.ranks.of_first(own, f"the features of step {view.index}")


def sharded(problem: TeachingProblem, ranks: Ranks) -> ShardedProblem:
    """``problem`` as ``ranks`` teach it together; the same object each time, so that nothing is looked at again."""
    key: Hashable = ("sharded problem", ranks)
    if key not in problem.derived:
        given = {field.name: getattr(problem, field.name) for field in fields(TeachingProblem) if field.init}
        problem.derived[key] = ShardedProblem(**given, ranks=ranks)
    made: ShardedProblem = problem.derived[key]
    return made
