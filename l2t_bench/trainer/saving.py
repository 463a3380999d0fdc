"""How a training is saved as it goes on, and where it goes on from: its checkpoints, and what is kept between them."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from l2t_bench.distributed.ranks import Ranks
from l2t_bench.errors import UserError
from l2t_bench.modules import map_tensors
from l2t_bench.trainer.alike import close, first_loss
from l2t_bench.trainer.checkpoints import Checkpoints, Folder
from l2t_bench.trainer.course import Course, Plan, Take
from l2t_bench.trainer.identity import first_difference, identity_of, surroundings
from l2t_bench.trainer.outer_step import contributions
from l2t_bench.trainer.within import Within, check_keeps
from l2t_bench.units import seconds


class Saving:
    """Of a training that is not saved."""

    @property
    def take(self) -> Take:
        """What takes the gradients of an outer step."""
        return contributions

    @contextmanager
    def opened(self, course: Course, *, resume: bool) -> Iterator[float]:
        """``course`` stands where it is gone on from, inside the block; the seconds that went into it before.

        Raises ``UserError`` for a ``resume`` that has nothing to go on from.
        """
        del course
        if resume:
            raise UserError("resume=True needs checkpoints=, the folder where they are")
        yield 0.0

    def keep(self, course: Course, spent: float, *, at_once: bool) -> None:
        """An outer step is done, ``spent`` seconds in all; ``at_once``: save it whether that is due or not."""


class Saved(Saving):
    """Of one with ``Checkpoints``, its batches taken in so many ``parts``.

    Raises ``Refused`` where runs are to be kept on their way and the backend cannot.
    """

    def __init__(self, settings: Checkpoints, plan: Plan, note: Callable[[str], None], parts: int = 1) -> None:
        self._settings, self._note, self._due = settings, note, settings.due()
        self._surroundings = surroundings(plan.problem.device, parts)
        self._folder: Folder | None = None
        self._within: Within | None = None
        self._first_loss = math.nan
        if settings.within is not None:
            check_keeps(plan.backend)
            self._within = Within(settings.folder / "within", seconds(settings.within), note)

    @property
    def take(self) -> Take:
        return contributions if self._within is None else self._within.contributions

    @contextmanager
    def opened(self, course: Course, *, resume: bool) -> Iterator[float]:
        """The folder is this process's alone. Raises ``UserError`` as ``Folder`` does."""
        self._folder = Folder(self._settings, identity_of(course), self._note)
        self._first_loss = first_loss(course.plan)
        with self._folder.opened():
            if not resume:
                self._folder.check_empty()
            found = self._folder.newest()
            if found is None and self._within is not None:
                # What is kept on its way belongs to the training of a checkpoint: the first outer step needs one too.
                self._within.clear()
                self._write(course, 0.0)
            yield self._gone_on(course, found)

    def keep(self, course: Course, spent: float, *, at_once: bool) -> None:
        if self._due(course.at) or at_once or course.at == course.plan.outer_steps:
            self._write(course, spent)
        if self._within is not None:
            self._within.clear()

    def _write(self, course: Course, spent: float) -> None:
        assert self._folder is not None, "opened comes first"
        beside = {"seconds": spent, "surroundings": self._surroundings, "first_loss": repr(self._first_loss)}
        self._folder.write(course.at, course.state(), beside)

    def _gone_on(self, course: Course, state: Mapping[str, Any] | None) -> float:
        """Bring ``course`` to where a checkpoint stands, if there is one; the seconds that went into that."""
        if state is None:
            return 0.0
        other = float(state["first_loss"] or self._first_loss)
        if not close(other, self._first_loss):
            raise UserError(
                f"the newest checkpoint is of another training: the first step's loss is {other:.6g} there and "
                f"{self._first_loss:.6g} here; a number in the loss, the student, its start or the features differs"
            )
        if difference := first_difference(self._surroundings, state["surroundings"]):
            self._note(f"this goes on under other conditions, and not bit for bit: {difference}")
        try:
            course.restore(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"the newest checkpoint does not fit this training: {error}") from error
        return float(state["seconds"])


class SavedByFirst(Saving):
    """Of one by several ranks: the first reads and writes, as ``inner`` does, the others are told where it stands."""

    def __init__(self, inner: Saving, ranks: Ranks) -> None:
        self._inner, self._ranks = inner, ranks

    @contextmanager
    def opened(self, course: Course, *, resume: bool) -> Iterator[float]:
        with ExitStack() as stack:

            def begun() -> tuple[float, dict[str, Any]] | None:
                if not self._ranks.is_first:
                    return None
                before = stack.enter_context(self._inner.opened(course, resume=resume))
                return before, map_tensors(Tensor.cpu, course.state())

            first = self._ranks.all_of(begun, "the newest checkpoint")[0]
            assert first is not None, "the first rank has begun"
            before, state = first
            course.restore(state)
            yield before

    def keep(self, course: Course, spent: float, *, at_once: bool) -> None:
        if self._ranks.is_first:
            self._inner.keep(course, spent, at_once=at_once)


def saving_of(
    settings: Checkpoints | None, plan: Plan, note: Callable[[str], None], ranks: Ranks, parts: int
) -> Saving:
    """How a training by ``ranks``, its batches in so many ``parts``, is saved.

    Raises ``UserError`` where several are to be kept within an outer step.
    """
    if settings is not None and settings.within is not None and ranks.count > 1:
        raise UserError(
            "within= (--within) keeps the run of one process, and of several each holds a part: leave it out "
            "(with every=1 each outer step but the one at hand has a checkpoint), or train without shard="
        )
    inner = Saving() if settings is None else Saved(settings, plan, note, parts)
    return inner if ranks.count == 1 else SavedByFirst(inner, ranks)
