"""The part of a batch that a rank takes."""

from dataclasses import replace

from l2t_bench.batch_parts import Division, batch_part
from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.problem import Step, example_count


def among_ranks(count: int) -> Division:
    """A batch divided among so many ranks."""
    instead = "shard=students takes it as it is: each rank teaches whole students"
    return Division(count, "shard=batch", instead)


def check_divides(batch: Batch, count: int, index: int) -> None:
    """Raises ``UserError`` for a batch of step ``index`` that ``count`` ranks cannot divide evenly."""
    size = example_count(tuple(batch))
    if size % count:
        raise UserError(
            f"shard=batch: the batch of step {index} has {size} examples, which {count} ranks cannot divide evenly: "
            "take a number of ranks that divides the batch, or another batch size"
        )


def step_part(step: Step, rank: int, count: int) -> Step:
    """The same step of those examples, as many for each rank. Raises ``UserError`` where they cannot be divided so."""
    check_divides(step.batch, count, step.index)
    return replace(step, batch=batch_part(step.batch, rank, among_ranks(count)))
