"""One cell on the machine where this is called: ``python -P -m l2t_bench.engine.task RUN ORDER``. For any scheduler.

``RUN`` is a run's folder that this machine shares with the one that planned it. The cell has all that a local one has:
a process of its own, its limits, an environment that is this machine's. When it has a result, and only then, a note
beside the order says so. A task that is started anew finds what an earlier start left half made, and begins it anew;
one whose order is answered does nothing.

SIGTERM and SIGINT end the cell without a result; signals that warn of a time limit are ignored: all of it is used.
"""

import signal
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_json
from l2t_bench.engine.attempt import POLL_SECONDS, begin, finish, interrupt
from l2t_bench.engine.cell import SCHEMA, Cell, is_result
from l2t_bench.engine.environment import environment
from l2t_bench.engine.process import DiskFullError, Limits, kill_all, run_token
from l2t_bench.engine.records import DamagedError, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.errors import L2TError
from l2t_bench.plugins import add_files, add_plugins, plugin_files

DISK_FULL = "disk full"  # in place of a status
_NO_RESULT, _INTERRUPTED, _MISTAKE = 1, 130, 2


def command(run: Path, order: Path) -> list[str]:
    """What performs an order."""
    return [sys.executable, "-P", "-m", "l2t_bench.engine.task", str(run.resolve()), str(order.resolve())]


def write_order(file: Path, cell: Cell, study: Study) -> None:
    """What ``main`` reads: a cell, its limits, and the files that its names stand for.

    A machine has its own number for the one GPU that a scheduler leaves visible: the first.
    """
    content = {
        "schema": SCHEMA,
        "cell": asdict(replace(cell, device=cell.device.partition(":")[0])),
        "seconds": study.timeout,
        "memory_bytes": study.memory_limit,
        "plugins": plugin_files(),
        "files": list(study.files),
    }
    note(file).unlink(missing_ok=True)
    write_json(file, content)


def note(order: Path) -> Path:
    """The file that answers an order: ``status`` and ``seconds`` of the cell, or that the disk is full."""
    return order.with_suffix(".ended.json")


def answer(order: Path) -> dict[str, Any] | None:
    """What the note of an order says; ``None`` for none yet."""
    try:
        return read_json(note(order))
    except (FileNotFoundError, DamagedError):
        return None


def answered(orders: Path) -> set[Path]:
    """The orders in a folder that have an answer, by one look at it."""
    _look_anew(orders)
    ending = note(Path("x.json")).name.removeprefix("x")
    return {file.with_name(f"{file.name.removesuffix(ending)}.json") for file in orders.glob(f"*{ending}")}


def _look_anew(folder: Path) -> None:
    """Have a network file system forget what it remembers of a folder: a change of its mode, to what it is."""
    with suppress(OSError):
        folder.chmod(folder.stat().st_mode)


def main(run: Path, order: Path) -> int:
    """Perform an order; the exit code: 0 where the cell has a result, of whatever status."""
    if answer(order) is not None:
        return 0
    asked = read_json(order)
    add_plugins(asked["plugins"])
    add_files(asked["files"])
    try:
        record, seconds = perform(
            RunFolder(run), Cell(**asked["cell"]), Limits(asked["seconds"], asked["memory_bytes"])
        )
    except DiskFullError as full:
        write_json(note(order), {"schema": SCHEMA, "status": DISK_FULL, "message": str(full)})
        raise
    if not is_result(record):
        print(f"no result: {record['status']}: {record['message']}", file=sys.stderr)
        return _NO_RESULT
    write_json(note(order), {"schema": SCHEMA, "status": record["status"], "seconds": seconds})
    return 0


def perform(folder: RunFolder, cell: Cell, limits: Limits) -> tuple[dict[str, Any], float]:
    """Run a cell here, and keep what comes of it: its record, and the seconds that it took."""
    kill_all(run_token(folder.path), cell.cell_id)  # what an earlier start of this task may have left
    worker = begin(folder, cell, limits, environment(cell.device, cell.threads))
    try:
        while not worker.ended():
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        interrupt(folder, [worker])
        raise
    return finish(folder, worker), worker.seconds


def _as_interrupt(number: int, frame: object) -> None:
    """Once: what ends a cell politely is not to be disturbed; what cannot wait sends SIGKILL."""
    del number, frame
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    for _number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(_number, signal.SIG_IGN)
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, _as_interrupt)
    try:
        _code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        _code = _INTERRUPTED
    except L2TError as _error:
        print(_error, file=sys.stderr)
        _code = _MISTAKE
    sys.exit(_code)
