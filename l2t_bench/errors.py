"""What can go wrong, each with a message that says what to do about it."""

import re
from collections.abc import Sequence


class L2TError(Exception):
    """The base of every error that this package raises on purpose."""


class UserError(L2TError, ValueError):
    """A mistake in what was asked for: a name, an option, a problem's parts, data that is missing.

    The command line prints the message and exits with code 2.
    """


class UnknownNameError(UserError, LookupError):
    """A name that no registry entry has; the message carries the nearest known one."""


class Diverged(L2TError, ArithmeticError):
    """The student, the teacher, the dev objective or the adjoint left the finite numbers.

    ``step`` is the training step where it began, or ``None`` where no single step can be named. ``history`` is what led
    there, the last value the newest: the student's losses, or on the way back the norms of the adjoint. ``seed`` is the
    student's where several were taken.
    """

    seed: int | None = None

    def __init__(self, message: str, step: int | None = None, history: Sequence[float] = ()) -> None:
        super().__init__(message)
        self.step = step
        self.history = tuple(history)


class Refused(L2TError):
    """A method that cannot do a problem, said before it starts.

    ``TeacherGradientBackend.supports`` returns it and ``teacher_gradient`` raises it. It is false in a condition.
    """

    def __init__(self, reason: str, instead: str = "") -> None:
        super().__init__(f"{reason}; {instead}" if instead else reason)
        self.reason = reason
        self.instead = instead

    def __bool__(self) -> bool:
        return False


class RankError(L2TError):
    """A rank of a training was lost, failed, or holds something else than the others: the training cannot go on.

    The command line prints the message and exits with code 1.
    """


class FellBack(UserWarning):
    """What was asked for could not be had, and something slower was done in its place: the result is the same.

    Given once for a problem and reason; the same words are in the result's ``warnings``.
    """


def said_first(error: BaseException) -> str:
    """What a library's error says first, with its type: its first sentence, or line, that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0].split('. ', maxsplit=1)[0][:160]}" if lines else kind


def but_for_numbers(text: str) -> str:
    """What messages share that say the same of other steps, students or sizes."""
    return re.sub(r"\d[\d.,]*(?:e[+-]?\d+)?", "#", text)
