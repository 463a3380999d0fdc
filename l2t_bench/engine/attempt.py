"""One attempt at a cell on this machine: its folder made ready, its worker started, and what comes of it kept."""

import errno
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_json, write_text
from l2t_bench.engine.cell import SCHEMA, Cell, cell_record, is_result
from l2t_bench.engine.environment import fingerprint, without_home
from l2t_bench.engine.process import DiskFullError, Ending, Limits, Worker, how_it_ended, start
from l2t_bench.engine.store import RunFolder, empty
from l2t_bench.errors import UserError
from l2t_bench.registry import sources_of

POLL_SECONDS = 0.02
_LONGEST_LOG = 8 << 20


def begin(folder: RunFolder, cell: Cell, limits: Limits, settings: dict[str, Any]) -> Worker:
    """The cell's folder emptied of what an earlier attempt left, its order written, its process started.

    ``settings``: the environment that its result will name. Raises as ``told`` says where a file cannot be written, and
    ``UserError`` where the run was removed.
    """
    folder.check_there()
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
        raise told(error) from error
    return start(cell, place / "spec.json", folder.path, limits)


def finish(folder: RunFolder, worker: Worker) -> dict[str, Any]:
    """The record of a worker that has ended; its attempt is the result, unless it could not be kept."""
    try:
        record = _complete(folder, worker)
        keep = folder.publish if is_result(record) else folder.discard
        keep(worker.cell, worker.place)
    except (OSError, DiskFullError) as error:
        folder.discard(worker.cell, worker.place)
        raise told(error) from error
    return record


def interrupt(folder: RunFolder, running: Sequence[Worker]) -> None:
    """End the workers that are left, politely first; at a second interrupt at once."""
    waiting = list(running)
    for worker in waiting:
        worker.end(Ending.INTERRUPT)
    while waiting:
        try:
            for worker in [each for each in waiting if each.ended()]:
                waiting.remove(worker)
                with suppress(DiskFullError, UserError):
                    finish(folder, worker)
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            for worker in waiting:
                worker.kill()


def told(error: OSError | DiskFullError) -> Exception:
    """What a person is told of a file that cannot be written: the disk is full, or something is in its place."""
    if isinstance(error, DiskFullError):
        return error
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no space is left on the device: {error.filename or 'a result'} could not be written")
    return UserError(f"{error.filename or 'a result'} cannot be written: {error.strerror or error}")


def last_line(log: Path) -> str:
    """The last line of a log, nobody's home directory in it; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return without_home(lines[-1]) if lines else ""


def _complete(folder: RunFolder, worker: Worker) -> dict[str, Any]:
    """What is in a worker's ``cell.json``; where it left none, its end is the result."""
    cell, place = worker.cell, worker.place
    for log in ("stdout.log", "stderr.log"):
        _without_home(place / log)
    record = folder.record(cell, place)
    if record is None:
        outcome = how_it_ended(worker, last_line(place / "stderr.log"))
        folder.write_cell(cell, outcome, place)
        return cell_record(cell, outcome)
    return record


def _without_home(log: Path) -> None:
    """A traceback names files: not by whose home directory they are in."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > _LONGEST_LOG:
            return
        text = log.read_text(encoding="utf-8", errors="replace")
        if (clean := without_home(text)) != text:
            write_text(log, clean)
