"""What a scheduler's Python process does with a task: it becomes the task. Imports next to nothing."""

import os
import signal


def become(command: list[str]) -> None:
    """Replace this process by ``command``: what a scheduler signals, and what it counts, is the task from then on.

    The signals that warn of a time limit would end the task before it has seen to them itself: they are ignored.
    """
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    os.execv(command[0], command)
