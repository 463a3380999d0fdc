"""A training as it is seen on a terminal: a bar with the time left; elsewhere a plain line per outer step."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from l2t_bench.cli.console import console, error_line
from l2t_bench.errors import FellBack
from l2t_bench.training import Callback, Judged, OuterStep, Progress, Trouble
from l2t_bench.units import duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class _Lines(Callback):
    """A line for each thing that is told, above the bar where there is one."""

    def __init__(self, bar: "Bar") -> None:
        self._bar, self._task = bar, bar.add_task("training", total=None)

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
        lost = f", {record.diverged} diverged" if record.diverged else ""
        line = f"M~ {record.value:.4f}, |d_theta| {record.gradient_norm:.3g}{lost}"
        self._bar.update(self._task, total=progress.total, completed=progress.done, description=f"{line}{left}")
        if self._bar.disable:
            print(f"outer step {progress.done}/{progress.total}: {line}{left}", flush=True)

    def on_judged(self, judged: Judged) -> None:
        test = "" if judged.test_mean is None else f", test {judged.test_mean:.4f}"
        self._bar.console.print(
            f"before outer step {judged.outer_step}: dev {judged.dev_mean:.4f} ± {judged.dev_std:.4f}{test}"
        )

    def on_trouble(self, trouble: Trouble) -> None:
        error_line(f"warning: {trouble}")

    def on_note(self, note: str) -> None:
        error_line(f"warning: {note}")


@contextmanager
def training_progress() -> Iterator[Callback]:
    """Told of a training, shows it."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    out = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        warnings.catch_warnings(),
        Bar(*columns, console=out, transient=True, disable=not out.is_terminal) as bar,
    ):
        warnings.simplefilter("ignore", FellBack)  # the gradients' results have the same words: ``on_note`` shows them
        yield _Lines(bar)
