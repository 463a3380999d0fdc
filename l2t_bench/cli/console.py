"""What the verbs print with. Rich is imported when something is printed, not when a verb is looked up."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """A console on standard output; without a terminal its lines are not folded at 80 columns."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 132)


def error_line(message: str) -> None:
    """One line on standard error."""
    print(f"l2t-bench: {message}", file=sys.stderr)
