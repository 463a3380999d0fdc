"""The records of a teacher's training: who judges it, what an outer step was, what came of all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from l2t_bench.errors import UserError
from l2t_bench.measures import Measure
from l2t_bench.names import check_counts
from l2t_bench.tensors import TensorDict


class SeedRange(IntEnum):
    """Where the student seeds of each purpose begin; a range holds a million of them."""

    TRAINING = 0  # students that teacher gradients are taken of
    SELECTION = 1_000_000  # students that choose among teachers, on dev
    TUNING = 2_000_000  # students that choose a learning rate, on dev
    FRESH = 3_000_000  # students that a result is reported on
    WARM_START = 4_000_000  # students whose last parameters others begin with

    def seeds(self, count: int, first: int = 0) -> range:
        """``count`` seeds of this range, from its ``first``-th on."""
        if not 0 <= first <= first + count <= 1_000_000:
            raise UserError(f"a seed range holds a million seeds, not {first} ... {first + count}")
        return range(self + first, self + first + count)


@dataclass(frozen=True)
class Selection:
    """Held-out students that judge the teacher on dev every ``every`` outer steps, the untrained one included.

    ``patience``: so many judgements in a row without a better teacher end the training. ``measure``: what judges,
    ``accuracy``, ``bleu`` or M~, the ``objective``; by the kind of problem where it is left out. ``test``: the same
    students are also measured on test, for the curve alone: nothing is chosen by it.
    """

    every: int = 20
    students: int = 16
    patience: int | None = None
    measure: Measure | None = None
    test: bool = False

    def __post_init__(self) -> None:
        check_counts(self, "selection")
        if self.every < 1 or self.students < 1 or (self.patience is not None and self.patience < 1):
            raise UserError("selection: every, students and patience must be at least 1")
        if self.measure not in (None, "accuracy", "bleu", "objective"):
            raise UserError(f"selection: measure is accuracy, bleu or objective, not {self.measure!r}")


@dataclass(frozen=True)
class OuterStep:
    """One teacher optimisation step: the mean M~ of its students before the step, and the gradient it climbed."""

    outer_step: int
    value: float
    gradient_norm: float  # of the mean over students, before clipping
    noise: float | None  # standard error of that mean between students, as a norm; None for one student
    moved: float  # |theta after - theta before|
    diverged: int  # students left out because they, or their adjoints, were not finite
    seconds: float  # of the teacher gradients
    adjoint_growth: float | None = None  # |w_bar_0| / |w_bar_T|, the largest of its students; None where none tells
    exploded: int = 0  # students whose adjoint exploded
    died: int = 0  # students whose adjoint died
    adjoint_said: str = ""  # whether the gradients are usable as far as their adjoints tell
    warnings: tuple[str, ...] = ()  # what must be known to trust the gradients, each once


@dataclass(frozen=True)
class Judged:
    """What held-out students reach on dev under the teacher as it stood before ``outer_step``, by the measure asked."""

    outer_step: int
    dev_mean: float
    dev_std: float
    test_mean: float | None = None  # of the same students, where it was asked for
    lost: int = 0  # students that diverged, and that the measure has no number for

    @property
    def score(self) -> float:
        """Mean minus standard deviation: a teacher that fails some students is not the better one."""
        return -math.inf if self.lost else self.dev_mean - self.dev_std


def best_of(selection: Sequence[Judged]) -> int:
    """The place of the best judgement, the first of equals."""
    return max(range(len(selection)), key=lambda at: selection[at].score)


def out_of_patience(selection: Sequence[Judged], patience: int | None) -> bool:
    """Whether the last ``patience`` judgements have found none better than one before them."""
    return patience is not None and bool(selection) and len(selection) - 1 - best_of(selection) >= patience


@dataclass(frozen=True)
class TeacherTraining:
    """What came of Algorithm 1."""

    theta: TensorDict  # the best by held-out students; the last where none judged
    last_theta: TensorDict
    curve: tuple[OuterStep, ...]
    selection: tuple[Judged, ...] = ()
    selected_outer_step: int = 0
    travelled: float = 0.0  # |last theta - first theta|: set against the sum of what the steps moved
    seconds: float = 0.0  # of all of it, held-out students included
    engine: str = ""  # what the steps were to be taken by, and why; the curve's warnings say where that could not be
