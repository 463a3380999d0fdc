"""Runs a suite's cells, each in a process of its own, and keeps what comes of them. Never imports torch."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import FAILURES, Cell, Outcome, Status
from l2t_bench.engine.environment import environment
from l2t_bench.engine.store import RunFolder, write_json

_POLL_SECONDS = 0.02


class Rerun(StrEnum):
    """Which finished cells are run again."""

    NONE = "none"
    FAILED = "failed"
    ALL = "all"


@dataclass(frozen=True)
class Event:
    """A cell has begun or ended; ``done`` of ``total`` have ended, those kept from before included."""

    cell: Cell
    status: str | None  # None: begun
    done: int
    total: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A run as it was asked for."""

    suite: str
    profile: str
    cells: tuple[Cell, ...]
    timeout: float
    rerun: Rerun = Rerun.NONE


@dataclass(frozen=True)
class _Worker:
    cell: Cell
    process: subprocess.Popen[bytes]
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


def run(plan: Plan, out: Path, on_event: Callable[[Event], None]) -> dict[str, int]:
    """Run what is missing of ``plan`` in folder ``out``; the number of its cells by status.

    Timed cells run one at a time; the others after them, as many at once as there are cores. Raises ``UserError`` for a
    folder that cannot be used. An interrupt ends the cells in flight and leaves what is finished.
    """
    folder = RunFolder(out)
    folder.open()
    waiting = [cell for cell in plan.cells if _wanted(folder.status(cell), plan.rerun)]
    folder.write_manifest(_manifest(plan, finished=False))
    done = len(plan.cells) - len(waiting)
    stages = (
        ([cell for cell in waiting if cell.timed], 1),
        ([cell for cell in waiting if not cell.timed], os.cpu_count() or 1),
    )
    for cells, lanes in stages:
        for worker, status in _work_off(folder, cells, lanes, plan.timeout):
            done += status is not None
            on_event(Event(worker.cell, status, done, len(plan.cells), worker.seconds))
    folder.write_manifest(_manifest(plan, finished=True))
    statuses = [folder.status(cell) or "missing" for cell in plan.cells]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def _wanted(status: str | None, rerun: Rerun) -> bool:
    if status is None or rerun is Rerun.ALL:
        return True
    return rerun is Rerun.FAILED and status in FAILURES


def _manifest(plan: Plan, *, finished: bool) -> dict[str, Any]:
    first = plan.cells[0]
    return {
        "suite": plan.suite,
        "profile": plan.profile,
        "seeds": len({cell.seed for cell in plan.cells}),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": finished,
        "environment": environment(first.device, first.threads),
        "cells": [{"cell_id": cell.cell_id, "identity": cell.identity} for cell in plan.cells],
    }


def _work_off(
    folder: RunFolder, cells: Sequence[Cell], lanes: int, timeout: float
) -> Iterator[tuple[_Worker, str | None]]:
    """Each worker twice: with ``None`` when it begins, with its status when it has ended."""
    queue = deque(cells)
    running: list[_Worker] = []
    try:
        while queue or running:
            while queue and len(running) < lanes:
                running.append(_start(folder, queue.popleft()))
                yield running[-1], None
            for worker in [each for each in running if _has_ended(folder, each, timeout)]:
                running.remove(worker)
                yield worker, folder.status(worker.cell)
            time.sleep(_POLL_SECONDS)
    finally:
        for worker in running:
            _kill(worker)


def _start(folder: RunFolder, cell: Cell) -> _Worker:
    place = folder.cell_folder(cell)
    place.mkdir(parents=True, exist_ok=True)
    (place / "cell.json").unlink(missing_ok=True)
    write_json(place / "spec.json", {"run": str(folder.path.resolve()), "cell": asdict(cell)})
    threads = {name: str(cell.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    with (place / "stdout.log").open("wb") as out, (place / "stderr.log").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "l2t_bench.engine.worker", str(place / "spec.json")],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **threads},
            start_new_session=True,  # so that what it starts itself can be ended with it
        )
    return _Worker(cell, process, time.monotonic())


def _has_ended(folder: RunFolder, worker: _Worker, timeout: float) -> bool:
    if worker.process.poll() is None:
        if worker.seconds < timeout:
            return False
        _kill(worker)
        folder.write_cell(worker.cell, Outcome(Status.TIMEOUT, worker.seconds, message=f"over {timeout:g} s"))
    elif folder.status(worker.cell) is None:
        folder.write_cell(worker.cell, Outcome(Status.CRASHED, worker.seconds, message=_last_words(folder, worker)))
    return True


def _kill(worker: _Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.process.pid, signal.SIGKILL)
    worker.process.wait()


def _last_words(folder: RunFolder, worker: _Worker) -> str:
    code = worker.process.returncode
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    lines = (folder.cell_folder(worker.cell) / "stderr.log").read_text(errors="replace").strip().splitlines()
    return f"{how}: {lines[-1]}" if lines else how
