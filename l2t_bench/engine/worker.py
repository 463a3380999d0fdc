"""The process of one cell: ``python -P -m l2t_bench.engine.worker SPEC PARENT PIPE``. It writes ``cell.json`` last.

It dies with its parent, and writes nothing once the parent is gone: the next run may have begun the cell anew.
"""

import ctypes
import errno
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import Cell, Outcome, Status, seal_of
from l2t_bench.engine.environment import torch_settings, without_home
from l2t_bench.engine.recorder import Recorder
from l2t_bench.engine.records import DamagedError, read_cell
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import Diverged, Refused
from l2t_bench.registry import load_task

DISK_FULL = b"disk full"  # said through a pipe: a full disk may not take a message, and a task may exit with any code
_ORPHANED = 75
_PR_SET_PDEATHSIG = 1
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def main(spec: Path, parent: int, pipe: int) -> int:
    """Run the cell that ``spec`` describes, in the folder where it lies; the exit code."""
    die_with(parent)
    os.set_inheritable(pipe, False)
    order = json.loads(spec.read_text(encoding="utf-8"))
    cell, folder, place = Cell(**order["cell"]), RunFolder(spec.parents[3]), spec.parent
    try:
        outcome = run_cell(cell, folder, place, order)
        if os.getppid() != parent:
            return _ORPHANED
        folder.write_cell(cell, outcome, place)
    except Exception as error:
        if is_disk_full(error):
            os.write(pipe, DISK_FULL)
        raise
    return 0


def die_with(parent: int) -> None:
    """Be killed when ``parent`` ends; at once, if it has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(_ORPHANED)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(_ORPHANED)


def run_cell(cell: Cell, folder: RunFolder, place: Path, order: dict[str, Any]) -> Outcome:
    """The cell's task, its files in ``place``, and how it ended. Raises what ``is_disk_full`` knows."""
    start = time.perf_counter()
    needed = needed_by(cell, folder)
    read_from = folder.files_of(cell.suite, cell.needs) if cell.needs else None
    recorder = Recorder(place, order["memory_limit"], cell.device, read_from, folder.begun_folder(cell))

    def ended(status: Status, message: str | None = None, measurements: dict[str, Any] | None = None) -> Outcome:
        settings = torch_settings(cell.device) if "torch" in sys.modules else {}
        return Outcome(
            status=status,
            seconds=time.perf_counter() - start,
            measurements=measurements or {},
            message=None if message is None else without_home(message),
            phases=recorder.phases,
            environment=folder.write_environment({**order["environment"], **settings}),
            code=order["code"],
            data=recorder.data,
            needed=seal_of(needed) if needed else None,
        )

    try:
        check_needed(cell, needed)
        with recorder.phase("import"):
            bound_device_memory(cell.device, order["memory_limit"])  # a task may import torch only when it runs
            task = load_task(cell.task)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(cell.threads)
        measurements = task(cell, recorder)
        json.dumps(measurements, allow_nan=False)  # a number that JSON does not have is an error of the task
        folder.check_there()
        with recorder.phase("io"):
            recorder.close()
    except Refused as refusal:
        return ended(Status.REFUSED, str(refusal))
    except Diverged as divergence:
        return ended(Status.DIVERGED, str(divergence), _led_there(divergence))
    except (Exception, SystemExit) as error:
        if is_disk_full(error):
            raise
        traceback.print_exc()
        return ended(status_of(error), f"{type(error).__name__}: {error}".splitlines()[0])
    return ended(Status.OK, measurements=measurements)


def needed_by(cell: Cell, folder: RunFolder) -> dict[str, Any] | None:
    """The result that a cell needs; ``None`` where it needs none, or there is none."""
    try:
        return read_cell(folder.path, cell.suite, cell.needs) if cell.needs else None
    except (DamagedError, FileNotFoundError):
        return None


def check_needed(cell: Cell, needed: Mapping[str, Any] | None) -> None:
    """Raises ``Refused`` for a cell whose files would not be there, or not be whole."""
    if not cell.needs or (needed and needed["status"] == Status.OK):
        return
    what = f"the {cell.needs.partition('-')[0]} cell that it needs"
    if needed is None:
        raise Refused(f"{what} has no result")
    raise Refused(f"{what} is {needed['status']}: {needed['message'] or 'it does not say why'}")


def _led_there(divergence: Diverged) -> dict[str, Any]:
    """Where it began and what led there; JSON has no infinity, so the last values may be null."""
    history = [value if math.isfinite(value) else None for value in divergence.history]
    return {"step": divergence.step, "history": history}


def bound_device_memory(device: str, limit: int | None) -> None:
    """Hold torch's allocator to ``limit`` bytes of the cell's GPU."""
    if limit is None or not device.startswith("cuda"):
        return
    import torch

    place = torch.device(device)
    total = torch.cuda.get_device_properties(place).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), place)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came of, says that no space is left.

    By its number, or in the system's words: a library that writes files by itself has an exception of its own.
    """
    seen: list[BaseException] = []
    led_there: BaseException | None = error
    while led_there is not None and led_there not in seen:
        if isinstance(led_there, OSError) and led_there.errno is not None:
            full = led_there.errno in _NO_SPACE
        else:
            full = any(os.strerror(number) in str(led_there) for number in _NO_SPACE)
        if full:
            return True
        seen.append(led_there)
        led_there = led_there.__cause__ or led_there.__context__
    return False


def status_of(error: BaseException) -> Status:
    """``error``, unless it is evidence of memory that ran out: Python's exception, torch's, its allocator's words."""
    if isinstance(error, MemoryError):
        return Status.OOM_HOST
    torch = sys.modules.get("torch")
    if torch is None:
        return Status.ERROR
    if isinstance(error, torch.OutOfMemoryError):
        return Status.OOM_DEVICE
    if isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error):
        return Status.OOM_HOST
    return Status.ERROR


def _end(code: int) -> None:
    """Leave at once: the result is on the disk, and taking torch down takes a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 1
    os._exit(code)


if __name__ == "__main__":
    try:
        _code = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except Exception:
        traceback.print_exc()
        _code = 1
    _end(_code)
