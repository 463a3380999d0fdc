"""What is told of a training as it goes on, and how far it has come."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from l2t_bench.trainer.records import Judged, OuterStep, TeacherTraining
from l2t_bench.trainer.trouble import Trouble


@dataclass(frozen=True)
class Progress:
    """How far a training has come, and how long it will take still if it goes on as it has in this process."""

    done: int  # outer steps
    total: int
    seconds: float  # so far, those before a resumption included
    seconds_left: float | None  # None before the first outer step of this process; at most, where patience may end it


class Callback:
    """Told of a training as it goes on; each method does nothing until it is overridden.

    What a callback keeps of its own is not in a checkpoint: ``on_start`` is told all that there has been.
    """

    def on_start(self, curve: Sequence[OuterStep], selection: Sequence[Judged]) -> None:
        """It begins, or goes on after these."""

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        """An outer step is done."""

    def on_judged(self, judged: Judged) -> None:
        """Held-out students have judged the teacher."""

    def on_trouble(self, trouble: Trouble) -> None:
        """Its gradients explode or vanish; told once, when it is first seen."""

    def on_note(self, note: str) -> None:
        """Something that should be known: a damaged checkpoint that was set aside, what a gradient's result warns of.

        A warning comes once, at the first outer step that has it; the records have it at each.
        """

    def on_end(self, training: TeacherTraining) -> None:
        """It has ended."""


class Together(Callback):
    """Several callbacks as one, told in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_start(self, curve: Sequence[OuterStep], selection: Sequence[Judged]) -> None:
        for callback in self._callbacks:
            callback.on_start(curve, selection)

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        for callback in self._callbacks:
            callback.on_outer_step(record, progress)

    def on_judged(self, judged: Judged) -> None:
        for callback in self._callbacks:
            callback.on_judged(judged)

    def on_trouble(self, trouble: Trouble) -> None:
        for callback in self._callbacks:
            callback.on_trouble(trouble)

    def on_note(self, note: str) -> None:
        for callback in self._callbacks:
            callback.on_note(note)

    def on_end(self, training: TeacherTraining) -> None:
        for callback in self._callbacks:
            callback.on_end(training)


class OnOuterStep(Callback):
    """A function that is told of each outer step."""

    def __init__(self, function: Callable[[OuterStep], None]) -> None:
        self._function = function

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        del progress
        self._function(record)
