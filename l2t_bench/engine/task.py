"""One cell on the machine where this is called: ``python -P -m l2t_bench.engine.task RUN ORDER [PARENT]``.

For any scheduler. ``RUN`` is a run's folder that this machine shares with the one that planned it. The cell has all
that a local one has: a process of its own, its limits, an environment that is this machine's. A task that is started
anew finds what an earlier start left half made, and begins it anew; one whose order is answered, or withdrawn, does
nothing.

SIGTERM and SIGINT end the cell without a result; signals that warn of a time limit are ignored: all of it is used. With
``PARENT``, the task dies with that process.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from l2t_bench.engine.attempt import POLL_SECONDS, begin, finish, interrupt
from l2t_bench.engine.cell import is_result
from l2t_bench.engine.environment import environment
from l2t_bench.engine.order import DISK_FULL, Order, answer, is_withdrawn, mark_begun, read_order, write_answer
from l2t_bench.engine.process import DiskFullError, Worker, kill_all, run_token
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.worker import die_with
from l2t_bench.errors import L2TError
from l2t_bench.plugins import add_files, add_plugins

_NO_RESULT, _MISTAKE, _INTERRUPTED = 1, 2, 130
LOOK_SECONDS = 2.0  # between two looks at whether the order still stands


def command(run: Path, order: Path) -> list[str]:
    """What performs an order."""
    return [sys.executable, "-P", "-m", "l2t_bench.engine.task", str(run.resolve()), str(order.resolve())]


def main(run: Path, file: Path) -> int:
    """Perform an order; the exit code: 0 where the cell has a result, of whatever status."""
    if answer(file) is not None:
        return 0
    order = read_order(file)
    if order is None:
        return _INTERRUPTED
    os.environ.update(order.environment)
    add_plugins(order.plugins)
    add_files(order.files)
    mark_begun(file)
    try:
        record, seconds = perform(RunFolder(run), order, file)
    except DiskFullError as full:
        write_answer(file, status=DISK_FULL, message=str(full))
        raise
    if not is_result(record):
        print(f"no result: {record['status']}: {record['message']}", file=sys.stderr)
        return _NO_RESULT
    write_answer(file, status=record["status"], seconds=seconds)
    return 0


def perform(folder: RunFolder, order: Order, file: Path) -> tuple[dict[str, Any], float]:
    """Run a cell here, and keep what comes of it: its record, and the seconds that it took.

    Raises ``KeyboardInterrupt`` where the order is withdrawn meanwhile.
    """
    cell = order.cell
    kill_all(run_token(folder.path), cell.cell_id)  # what an earlier start of this task may have left
    worker = begin(folder, cell, order.limits, environment(cell.device, cell.threads))
    try:
        _watch(worker, file)
    except BaseException:
        interrupt(folder, [worker])
        raise
    return finish(folder, worker), worker.seconds


def _watch(worker: Worker, file: Path) -> None:
    looked = time.monotonic()
    while not worker.ended():
        time.sleep(POLL_SECONDS)
        if time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            if is_withdrawn(file):
                raise KeyboardInterrupt


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
    for _parent in sys.argv[3:]:
        die_with(int(_parent))
    try:
        _code = main(Path(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        _code = _INTERRUPTED
    except L2TError as _error:
        print(_error, file=sys.stderr)
        _code = _MISTAKE
    sys.exit(_code)
