"""Runs a plan's cells, each in a process of its own, and keeps what comes of them. Never imports torch."""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import FAILURES, SCHEMA, Cell, Outcome, Status
from l2t_bench.engine.environment import environment, fingerprint, without_home
from l2t_bench.engine.lock import held
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import DiskFullError, Ending, Limits, Worker, how_it_ended, kill_all, run_token, start
from l2t_bench.engine.records import DamagedError, read_json
from l2t_bench.engine.store import RunFolder, write_json, write_text
from l2t_bench.engine.study import write_study
from l2t_bench.registry import sources_of

_POLL_SECONDS = 0.02
_LONGEST_LOG = 8 << 20


class Rerun(StrEnum):
    """Which finished cells are run again."""

    NONE = "none"
    FAILED = "failed"
    STALE = "stale"  # the code has changed since
    ALL = "all"


@dataclass(frozen=True)
class Event:
    """A cell has begun or ended; ``done`` of ``total`` have ended, those kept from before included."""

    cell: Cell
    status: str | None  # None: begun
    done: int
    total: int
    seconds: float = 0.0
    note: str = ""  # what the user should know of a file that was found in its place


def run(
    plan: Plan,
    out: Path,
    on_event: Callable[[Event], None],
    *,
    rerun: Rerun = Rerun.NONE,
    fail_fast: bool = False,
) -> dict[str, int]:
    """Run what is missing of ``plan`` in folder ``out``; the number of its cells by status.

    Timed cells run one at a time; the others after them, as many at once as there is room for. Raises ``UserError`` for
    a folder that cannot be used or that another run holds, ``DiskFullError`` where results cannot be kept. An interrupt
    ends the cells in flight and leaves what is finished.
    """
    folder = RunFolder(out)
    folder.open()
    with held(out):
        kill_all(run_token(out))  # what a run that was killed may have left behind
        _write_plan(folder, plan)
        waiting = missing(folder, plan.cells, rerun)
        done = len(plan.cells) - len(waiting)
        for cell, note in _set_aside(folder, waiting):
            on_event(Event(cell, None, done, len(plan.cells), note=note))
        for worker, status in _run_cells(folder, plan, waiting):
            done += status is not None
            on_event(Event(worker.cell, status, done, len(plan.cells), worker.seconds))
            if fail_fast and status in FAILURES:
                break
        statuses = [str(folder.status(cell) or "missing") for cell in plan.cells]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def missing(folder: RunFolder, cells: Sequence[Cell], rerun: Rerun = Rerun.NONE) -> list[Cell]:
    """The cells of a plan that a run would run."""
    return [cell for cell in cells if _wanted(cell, folder.record(cell), rerun)]


def _wanted(cell: Cell, record: dict[str, Any] | None, rerun: Rerun) -> bool:
    if record is None or record["status"] == Status.INTERRUPTED or rerun is Rerun.ALL:
        return True
    if rerun is Rerun.STALE:
        return bool(record["code"] != fingerprint(sources_of(cell.method, cell.problem, cell.task)))
    return rerun is Rerun.FAILED and record["status"] in FAILURES


def _set_aside(folder: RunFolder, waiting: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
    """Damaged results, and those of another version, are kept beside the ones that will take their place."""
    for cell in waiting:
        try:
            kept = folder.set_aside(cell)
        except OSError as error:
            raise _as_disk_full(error) from error
        if kept:
            yield cell, kept


def _write_plan(folder: RunFolder, plan: Plan) -> None:
    """``plan.json`` and ``run.toml``; when the run was first begun stays."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(FileNotFoundError, DamagedError):
        created = str(read_json(folder.path / "plan.json").get("created", created))
    content = {
        "suites": sorted({cell.suite for cell in plan.cells}),
        "profiles": sorted({cell.profile for cell in plan.cells}),
        "created": created,
        "plugins": [Path(name).name for name in plan.study.plugins],
        "cells": [{"cell_id": cell.cell_id, "identity": cell.identity, "task": cell.task} for cell in plan.cells],
    }
    try:
        folder.write_plan(content)
        write_text(folder.path / "run.toml", write_study(plan.study, folder.path))
    except OSError as error:
        raise _as_disk_full(error) from error


def _run_cells(folder: RunFolder, plan: Plan, waiting: Sequence[Cell]) -> Iterator[tuple[Worker, str | None]]:
    study = plan.study
    limits = Limits(study.timeout, study.memory_limit)
    settings = environment(study.device, study.threads)
    lanes = 1 if study.device != "cpu" else os.cpu_count() or 1  # one cell per device at a time
    for cells, at_once in (
        ([cell for cell in waiting if cell.timed], 1),
        ([cell for cell in waiting if not cell.timed], lanes),
    ):
        yield from _work_off(folder, cells, at_once, limits, settings)


def _work_off(
    folder: RunFolder, cells: Sequence[Cell], lanes: int, limits: Limits, settings: dict[str, Any]
) -> Iterator[tuple[Worker, str | None]]:
    """Each worker twice: with ``None`` when it begins, with its status when it has ended."""
    queue = deque(cells)
    running: list[Worker] = []
    try:
        while queue or running:
            while queue and len(running) < lanes:
                running.append(_start(folder, queue.popleft(), limits, settings))
                yield running[-1], None
            for worker in [each for each in running if each.ended()]:
                running.remove(worker)
                yield worker, _close(folder, worker)
            time.sleep(_POLL_SECONDS)
    finally:
        _interrupt(folder, running)


def _start(folder: RunFolder, cell: Cell, limits: Limits, settings: dict[str, Any]) -> Worker:
    """The cell's folder emptied of what an earlier attempt left, its order written, its process started."""
    place = folder.cell_folder(cell)
    order = {
        "schema": SCHEMA,
        "cell": asdict(cell),
        "environment": {**settings, "threads": cell.threads},
        "code": fingerprint(sources_of(cell.method, cell.problem, cell.task)),
        "memory_limit": limits.memory_bytes,
    }
    try:
        for name in ("cell.json", "curves.jsonl", "samples.json"):
            (place / name).unlink(missing_ok=True)
        write_json(place / "spec.json", order)
    except OSError as error:
        raise _as_disk_full(error) from error
    return start(cell, place / "spec.json", folder.path, limits)


def _close(folder: RunFolder, worker: Worker) -> str | None:
    """The status of a worker that has ended; where it left no result, its end is the result."""
    place = folder.cell_folder(worker.cell)
    status = folder.status(worker.cell)
    try:
        for log in ("stdout.log", "stderr.log"):
            _without_home(place / log)
        if status is None:
            status, message = how_it_ended(worker, _last_line(place / "stderr.log"))
            folder.write_cell(worker.cell, Outcome(status, worker.seconds, message=message))
    except OSError as error:
        raise _as_disk_full(error) from error
    return status


def _interrupt(folder: RunFolder, running: Sequence[Worker]) -> None:
    """End the workers that are left, politely first; at a second interrupt at once."""
    waiting = list(running)
    for worker in waiting:
        worker.end(Ending.INTERRUPT)
    while waiting:
        try:
            for worker in [each for each in waiting if each.ended()]:
                waiting.remove(worker)
                with suppress(DiskFullError):
                    _close(folder, worker)
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            for worker in waiting:
                worker.kill()


def _as_disk_full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space is left on the device: {error.filename or 'a result'} could not be written")
    return error


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return without_home(lines[-1]) if lines else ""


def _without_home(log: Path) -> None:
    """A traceback names files: not by whose home directory they are in."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LONGEST_LOG:
            return
        text = log.read_text(encoding="utf-8", errors="replace")
        if (clean := without_home(text)) != text:
            write_text(log, clean)
