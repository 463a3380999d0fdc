"""Runs a plan's cells, each in a process of its own, and keeps what comes of them. Never imports torch."""

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from l2t_bench.durable import kept_aside, write_json, write_text
from l2t_bench.engine.cell import FAILURES, SCHEMA, Cell, Status, cell_record, is_result, seal_of
from l2t_bench.engine.environment import environment, fingerprint, without_home
from l2t_bench.engine.lock import held
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import DiskFullError, Ending, Limits, Worker, how_it_ended, kill_all, run_token, start
from l2t_bench.engine.records import DamagedError, read_json
from l2t_bench.engine.store import RunFolder, empty
from l2t_bench.engine.study import read_study, write_study
from l2t_bench.errors import UserError
from l2t_bench.registry import code_now, sources_of

_STUDY = "run.toml"
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
        folder.tidy()
        waiting = missing(folder, plan.cells, rerun)
        done = len(plan.cells) - len(waiting)
        for cell, note in _set_aside(folder, plan, waiting):
            on_event(Event(cell, None, done, len(plan.cells), note=note))
        _write_plan(folder, plan)
        for worker, status in _run_cells(folder, plan, waiting):
            done += status is not None
            on_event(Event(worker.cell, status, done, len(plan.cells), worker.seconds))
            if fail_fast and status in FAILURES:
                break
        statuses = [str(folder.status(cell) or "missing") for cell in plan.cells]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def missing(folder: RunFolder, cells: Sequence[Cell], rerun: Rerun = Rerun.NONE) -> list[Cell]:
    """The cells of a plan that a run would run."""
    code = code_now()
    ids = {cell.cell_id: cell for cell in cells}

    @cache
    def to_run(cell_id: str) -> bool:
        cell = ids[cell_id]
        if _wanted(cell, folder.record(cell), rerun, code):
            return True
        needed = ids.get(cell.needs)
        return needed is not None and (to_run(cell.needs) or _built_on_another(folder, cell, needed))

    return [cell for cell in cells if to_run(cell.cell_id)]


def _built_on_another(folder: RunFolder, cell: Cell, needed: Cell) -> bool:
    """Whether what a cell needs was run again since, and the run was cut before the cell itself was."""
    record, now = folder.record(cell), folder.record(needed)
    built_on = record and record.get("needed")
    return now is not None and built_on is not None and built_on != seal_of(now)


def _wanted(cell: Cell, record: dict[str, Any] | None, rerun: Rerun, code: Callable[[str, str, str], str]) -> bool:
    if record is None or not is_result(record) or rerun is Rerun.ALL:
        return True
    if rerun is Rerun.STALE:
        return bool(record["code"] != code(cell.method, cell.problem, cell.task))
    return rerun is Rerun.FAILED and record["status"] in FAILURES


def _set_aside(folder: RunFolder, plan: Plan, waiting: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
    """What is damaged, of another version or not ours is kept beside what will take its place. A line for each."""
    try:
        for kept in (folder.set_plan_aside(), _set_study_aside(folder.path / _STUDY)):
            if kept:
                yield plan.cells[0], kept
        for cell in waiting:
            if kept := folder.set_aside(cell):
                yield cell, kept
    except OSError as error:
        raise _told(error) from error


def _set_study_aside(file: Path) -> str:
    """As ``RunFolder.set_plan_aside``, for ``run.toml``."""
    try:
        read_study(file)
    except UserError:
        return f"{_STUDY} is no study that can be read; kept as {kept_aside(file)}" if file.exists() else ""
    return ""


def _write_plan(folder: RunFolder, plan: Plan) -> None:
    """``plan.json`` and ``run.toml``; when the run was first begun stays."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(FileNotFoundError, DamagedError):
        created = str(read_json(folder.path / "plan.json").get("created", created))
    content = {
        "suites": sorted({cell.suite for cell in plan.cells}),
        "profiles": sorted({cell.profile for cell in plan.cells}),
        "created": created,
        "plugins": [Path(name).name for name in (*plan.study.plugins, *plan.study.files)],
        "cells": [{"cell_id": cell.cell_id, "identity": cell.identity, "task": cell.task} for cell in plan.cells],
    }
    try:
        folder.write_plan(content)
        write_text(folder.path / _STUDY, write_study(plan.study, folder.path))
    except OSError as error:
        raise _told(error) from error


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
    queue = list(cells)
    running: list[Worker] = []
    try:
        while queue or running:
            while len(running) < lanes and (cell := _next_ready(queue, running)):
                queue.remove(cell)
                running.append(_start(folder, cell, limits, settings))
                yield running[-1], None
            for worker in [each for each in running if each.ended()]:
                running.remove(worker)
                yield worker, _close(folder, worker)
            time.sleep(_POLL_SECONDS)
    finally:
        _interrupt(folder, running)


def _next_ready(queue: Sequence[Cell], running: Sequence[Worker]) -> Cell | None:
    """The first that does not wait for another of the queue or of those that run."""
    unfinished = {cell.cell_id for cell in queue} | {worker.cell.cell_id for worker in running}
    return next((cell for cell in queue if cell.needs not in unfinished), None)


def _start(folder: RunFolder, cell: Cell, limits: Limits, settings: dict[str, Any]) -> Worker:
    """Its folder emptied of what an earlier attempt left, its order written, its process started."""
    place = folder.attempt_folder(cell)
    order = {
        "schema": SCHEMA,
        "cell": asdict(cell),
        "environment": {**settings, "threads": cell.threads},
        "code": fingerprint(sources_of(cell.method, cell.problem, cell.task)),
        "memory_limit": limits.memory_bytes,
    }
    try:
        empty(place)
        write_json(place / "spec.json", order)
    except OSError as error:
        raise _told(error) from error
    return start(cell, place / "spec.json", folder.path, limits)


def _close(folder: RunFolder, worker: Worker) -> Status:
    """The status of a worker that has ended; its attempt is the result, unless it could not be kept."""
    try:
        record = _complete(folder, worker)
        keep = folder.publish if is_result(record) else folder.discard
        keep(worker.cell, worker.place)
    except (OSError, DiskFullError) as error:
        folder.discard(worker.cell, worker.place)
        raise _told(error) from error
    return Status(record["status"])


def _complete(folder: RunFolder, worker: Worker) -> dict[str, Any]:
    """What is in a worker's ``cell.json``; where it left none, its end is the result."""
    cell, place = worker.cell, worker.place
    for log in ("stdout.log", "stderr.log"):
        _without_home(place / log)
    record = folder.record(cell, place)
    if record is None:
        outcome = how_it_ended(worker, _last_line(place / "stderr.log"))
        folder.write_cell(cell, outcome, place)
        return cell_record(cell, outcome)
    return record


def _interrupt(folder: RunFolder, running: Sequence[Worker]) -> None:
    """End the workers that are left, politely first; at a second interrupt at once."""
    waiting = list(running)
    for worker in waiting:
        worker.end(Ending.INTERRUPT)
    while waiting:
        try:
            for worker in [each for each in waiting if each.ended()]:
                waiting.remove(worker)
                with suppress(DiskFullError, UserError):
                    _close(folder, worker)
            time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            for worker in waiting:
                worker.kill()


def _told(error: OSError | DiskFullError) -> Exception:
    """What a person is told of a file that cannot be written: the disk is full, or something is in its place."""
    if isinstance(error, DiskFullError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space is left on the device: {error.filename or 'a result'} could not be written")
    return UserError(f"{error.filename or 'a result'} cannot be written: {error.strerror or error}")


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
