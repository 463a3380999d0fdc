"""A store that writes the trajectory into a file that has no name, and so cannot be left behind."""

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.errors import UserError
from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted, sizes_of
from l2t_bench.stores.rows import Layout, layout_of


@dataclass(frozen=True)
class _Row:
    """Where a step's state lies in the file."""

    step: Step
    layout: Layout
    start: int


class Disk(Store):
    """``disk``: every omega_t, in a file. Memory 2*P, disk T*P; no step is taken twice.

    The file lies in ``directory``, by default the system's folder for temporary files (where that is a memory disk,
    name another). It is opened without a name (O_TMPFILE; elsewhere its name is removed as soon as it is open): the
    system frees it with the process, killed or not, and there is nothing to clear away at the next start. It shrinks as
    it is read. Raises ``UserError`` before the run for a directory that cannot be written or has not the space for the
    whole run, and later for one that fills up all the same.
    """

    name = "disk"
    cannot_be_left = "its file has no name, and goes with the process"
    reads = ("directory",)

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._directory = room.directory or "the system's folder for temporary files"
        self._needed = 0
        self._file: io.FileIO | None = None
        self._rows: list[_Row] = []
        self._layouts: dict[Layout, Layout] = {}
        self._buffer = bytearray()

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        del room
        row = sizes.visited(wanted)
        on_disk = wanted.steps * row - (sizes.slots if wanted.slots and wanted.first == 0 else 0)  # omega_0 has none
        if sizes.on_host:
            return Law(2 * row, disk_bytes=on_disk)  # a state, and the buffer that it was read into
        return Law(row, disk_bytes=on_disk, host_bytes=row)

    def begin(self, state: StudentState) -> StudentState:
        sizes = sizes_of(state, self.rollout.problem.optimizer.slot_names)
        self._needed = self.law(self.wanted, sizes, self.room).disk_bytes
        with self._said():
            self._directory = self.room.directory or tempfile.gettempdir()
            free = shutil.disk_usage(self._directory).free
            if free >= self._needed:
                self._file = _nameless(self._directory)
        if free < self._needed:
            raise UserError(f"{self._failed(f'there are {free:,} bytes free')}: {_INSTEAD}")
        self._buffer = bytearray(sizes.visited(self.wanted))
        return state

    def keep(self, step: Step, state: StudentState) -> None:
        visited = self.visited(state)
        layout = layout_of(visited)
        layout = self._layouts.setdefault(layout, layout)  # one for all the steps that share it
        end = self._rows[-1].start + self._rows[-1].layout.size if self._rows else 0
        layout.write(visited, self._row(layout))
        with self._said():
            _write(self._open(), memoryview(self._buffer)[: layout.size])
        self._rows.append(_Row(step, layout, end))

    def backwards(self) -> Iterator[Visit]:
        while self._rows:
            row = self._rows.pop()
            with self._said():
                _read(self._open(), row.start, memoryview(self._buffer)[: row.layout.size])
                self._open().truncate(row.start)
            yield Visit(row.step, row.layout.read(self._row(row.layout), self.rollout.problem.device))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _row(self, layout: Layout) -> Tensor:
        """The buffer's bytes as a tensor."""
        return torch.frombuffer(self._buffer, dtype=torch.uint8)[: layout.size]

    def _open(self) -> io.FileIO:
        assert self._file is not None, "begin opens the file, and close comes last"
        return self._file

    @contextmanager
    def _said(self) -> Iterator[None]:
        """What the system cannot do, as the user's mistake that it is."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self._failed(error.strerror or str(error))}: {_INSTEAD}") from error

    def _failed(self, reason: str) -> str:
        return f"store=disk needs {self._needed:,} bytes in {self._directory}, but {reason[:1].lower()}{reason[1:]}"


_INSTEAD = "give directory= a writable folder with the space, or take store=binomial"


def _nameless(directory: str) -> io.FileIO:
    file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (the store closes it)
    assert isinstance(file, io.FileIO)
    return file


def _write(file: io.FileIO, data: memoryview) -> None:
    """All of ``data`` at the file's end: the system may take it in pieces, the last one before the disk is full."""
    while data:
        data = data[file.write(data) :]


def _read(file: io.FileIO, start: int, into: memoryview) -> None:
    file.seek(start)
    while into:
        count = file.readinto(into)
        if not count:
            raise OSError("the file ends too early")
        into = into[count:]
