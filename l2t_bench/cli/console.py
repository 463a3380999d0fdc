"""What the verbs print with. Rich is imported when something is printed, not when a verb is looked up."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from l2t_bench.errors import FellBack, but_for_numbers

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """A console on standard output; without a terminal its lines are not folded at 80 columns."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 132)


def error_line(message: str) -> None:
    """One line on standard error."""
    print(f"l2t-bench: {message}", file=sys.stderr)


@contextmanager
def fallbacks_in_a_line() -> Iterator[None]:
    """Inside, what fell back is a line, each once: a path and a line number of this package tell a user nothing."""
    said: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, FellBack):
            plain(message, category, filename, lineno, file, line)
        elif but_for_numbers(str(message)) not in said:
            said.add(but_for_numbers(str(message)))
            error_line(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", FellBack)
        plain, warnings.showwarning = warnings.showwarning, show
        yield
