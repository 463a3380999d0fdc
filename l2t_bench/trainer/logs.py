"""The curves of a training as files that grow with it: CSV, and TensorBoard's where it is installed."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_text
from l2t_bench.errors import UserError
from l2t_bench.trainer.callbacks import Callback, Progress
from l2t_bench.trainer.records import Judged, OuterStep, TeacherTraining

OUTER_STEPS, SELECTION = "outer_steps.csv", "selection.csv"


class CsvLog(Callback):
    """``outer_steps.csv`` and ``selection.csv`` in ``folder``: a line for each, at once.

    Where a training goes on, what was written after its checkpoint is written anew: no line comes twice.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_start(self, curve: Sequence[OuterStep], selection: Sequence[Judged]) -> None:
        for name, kind, records in ((OUTER_STEPS, OuterStep, curve), (SELECTION, Judged, selection)):
            head = _line([field.name for field in fields(kind)])
            write_text(self._folder / name, head + "".join(_line(_values(record)) for record in records))

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        del progress
        self._append(OUTER_STEPS, record)

    def on_judged(self, judged: Judged) -> None:
        self._append(SELECTION, judged)

    def _append(self, name: str, record: OuterStep | Judged) -> None:
        try:
            with (self._folder / name).open("a", encoding="utf-8", newline="") as file:
                file.write(_line(_values(record)))
        except OSError as error:
            raise UserError(f"{self._folder / name} cannot be written: {error.strerror}") from error


class TensorBoardLog(Callback):
    """Event files for TensorBoard in ``folder``: ``train/*`` by outer step, ``selection/*`` by judgement.

    Raises ``UserError`` where the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("TensorBoard logs need tensorboard: pip install 'l2t_bench[tensorboard]'") from error
        self._make = SummaryWriter
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def on_start(self, curve: Sequence[OuterStep], selection: Sequence[Judged]) -> None:
        del selection
        # What an earlier process has written of steps from here on is hidden.
        self._writer = self._make(str(self._folder), purge_step=len(curve))

    def on_outer_step(self, record: OuterStep, progress: Progress) -> None:
        del progress
        self._write("train", record)

    def on_judged(self, judged: Judged) -> None:
        self._write("selection", judged)

    def on_end(self, training: TeacherTraining) -> None:
        del training
        if self._writer is not None:
            self._writer.close()

    def _write(self, kind: str, record: OuterStep | Judged) -> None:
        assert self._writer is not None, "on_start comes first"
        for name, value in asdict(record).items():
            if name != "outer_step" and isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, record.outer_step)
        self._writer.flush()


def _values(record: OuterStep | Judged) -> list[Any]:
    return ["; ".join(value) if isinstance(value, tuple) else value for value in asdict(record).values()]


def _line(values: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()
