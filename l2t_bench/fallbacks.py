"""What is said where something slower was done than was asked for: once for a problem and a reason."""

import inspect
import warnings

from l2t_bench.errors import FellBack, but_for_numbers
from l2t_bench.problem import TeachingProblem


def warn_of_fallback(problem: TeachingProblem, text: str) -> None:
    """Give ``text`` as a ``FellBack``, where it is the first of its reason for this problem.

    A run of another length, or of another student, has other numbers in it, and nothing new to say.
    """
    key = "told of falling back", but_for_numbers(text)
    if key not in problem.derived:
        warnings.warn(text, FellBack, stacklevel=_who_asked())
        problem.derived[key] = True  # after it: where warnings are errors, what is caught on the way comes up again


def _who_asked() -> int:
    """The stack level, for a warning of the calling function, of the first frame that is not this package's."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "l2t_bench":
        frame, level = frame.f_back, level + 1
    return level
