"""How a training is saved as it goes on, and where it goes on from: its checkpoints, and what is kept between them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from l2t_bench.errors import UserError
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
    """Of one with ``Checkpoints``. Raises ``Refused`` where runs are to be kept on their way and the backend cannot."""

    def __init__(self, settings: Checkpoints, plan: Plan, note: Callable[[str], None]) -> None:
        self._settings, self._note, self._due = settings, note, settings.due()
        self._surroundings = surroundings(plan.problem.device)
        self._folder: Folder | None = None
        self._within: Within | None = None
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
        with self._folder.opened():
            if not resume:
                self._folder.check_empty()
            yield self._gone_on(course, self._folder.newest())

    def keep(self, course: Course, spent: float, *, at_once: bool) -> None:
        assert self._folder is not None, "opened comes first"
        if self._due(course.at) or at_once or course.at == course.plan.outer_steps:
            self._folder.write(course.at, course.state(), {"seconds": spent, "surroundings": self._surroundings})
        if self._within is not None:
            self._within.clear()

    def _gone_on(self, course: Course, state: Mapping[str, Any] | None) -> float:
        """Bring ``course`` to where a checkpoint stands, if there is one; the seconds that went into that."""
        if state is None:
            return 0.0
        if difference := first_difference(self._surroundings, state["surroundings"]):
            self._note(f"this goes on under other conditions, and not bit for bit: {difference}")
        try:
            course.restore(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UserError(f"the newest checkpoint does not fit this training: {error}") from error
        return float(state["seconds"])
