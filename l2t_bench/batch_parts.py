"""A batch as parts that are taken one for one: by ranks beside each other, or one after another by one process."""

from dataclasses import dataclass, replace

from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.modules import map_tensors, tensor_leaves
from l2t_bench.problem import Step, example_count


@dataclass(frozen=True)
class Division:
    """Into how many parts batches are divided; for an error ``asked``, what asked for it, and ``instead``."""

    count: int
    asked: str
    instead: str


def part_of(size: int, number: int, count: int) -> slice:
    """The ``number``-th part of ``size`` things in a row: the parts are as equal as can be, and may be empty."""
    return slice(size * number // count, size * (number + 1) // count)


def batch_part(batch: Batch, number: int, division: Division) -> Batch:
    """Those of a batch's examples that are the ``number``-th part; an augmented batch is augmented whole.

    Raises ``UserError`` for a batch whose tensors do not all begin with the examples.
    """
    whole = tuple(batch)
    size = example_count(whole)
    if not begins_with_examples(whole):
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tensor_leaves(whole))
        raise UserError(
            f"{division.asked}: the tensors of a batch must all begin with its {size} examples to be divided, unlike "
            f"{shapes}; {division.instead}"
        )
    return _rows(whole, part_of(size, number, division.count))


def begins_with_examples(batch: Batch) -> bool:
    """Whether all tensors of a batch have its examples as their first dimension."""
    whole = tuple(batch)
    size = example_count(whole)
    return all(leaf.ndim > 0 and len(leaf) == size for leaf in tensor_leaves(whole))


def first_examples(batch: Batch, count: int) -> Batch:
    """A batch's first ``count`` examples, of one that ``begins_with_examples``."""
    return _rows(tuple(batch), slice(count))


def _rows(whole: Batch, rows: slice) -> Batch:
    def taken(leaf: Tensor) -> Tensor:
        return leaf[rows]

    return map_tensors(taken, whole)


def step_parts(step: Step, division: Division) -> list[tuple[float, Step]]:
    """The same step of each part of its batch that is not empty, and the share of the examples that the part holds.

    What is a mean over the batch's examples is the sum of the parts' means by their shares. Raises ``UserError`` as
    ``batch_part``.
    """
    whole = tuple(step.batch)
    parts = [batch_part(whole, number, division) for number in range(division.count)]
    size, counts = example_count(whole), [example_count(part) for part in parts]
    return [(held / size, replace(step, batch=part)) for held, part in zip(counts, parts, strict=True) if held]
