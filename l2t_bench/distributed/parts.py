"""The part of a batch that a rank takes."""

from dataclasses import replace

from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.distributed.ranks import part_of
from l2t_bench.errors import UserError
from l2t_bench.modules import map_tensors, tensor_leaves
from l2t_bench.problem import Step, example_count


def batch_part(batch: Batch, rank: int, count: int) -> Batch:
    """Those of a batch's examples that are ``rank``'s among ``count``; an augmented batch is augmented whole.

    Raises ``UserError`` for a batch whose tensors do not all begin with the examples.
    """
    whole = tuple(batch)
    size = example_count(whole)
    if any(leaf.ndim == 0 or len(leaf) != size for leaf in tensor_leaves(whole)):
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tensor_leaves(whole))
        raise UserError(
            f"shard=batch: the tensors of a batch must all begin with its {size} examples to be divided, unlike "
            f"{shapes}; shard=students divides no batch"
        )
    own = part_of(size, rank, count)

    def taken(leaf: Tensor) -> Tensor:
        return leaf[own]

    return map_tensors(taken, whole)


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
    return replace(step, batch=batch_part(step.batch, rank, count))
