"""One cell's process, seen from its parent: how it is started, watched, ended, and what its end is evidence of."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import psutil

from l2t_bench.engine.cell import Cell, Outcome, Status
from l2t_bench.engine.worker import DISK_FULL
from l2t_bench.errors import L2TError

GRACE_SECONDS = 10.0  # between a polite end and a hard one
_CHILDREN_EVERY = 0.25  # seconds between two looks at what a worker's children hold: finding them reads all of /proc
_TOKEN = "L2T_BENCH_RUN"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class DiskFullError(L2TError):
    """No space is left for results. What is finished stays; the cell that was going is missing."""


class Ending(StrEnum):
    """Why a parent ended a worker, noted before it did."""

    TIMEOUT = "timeout"
    MEMORY = "memory"
    INTERRUPT = "interrupt"


@dataclass(frozen=True)
class Limits:
    """What a cell may take: seconds, and bytes of resident memory together with all it has started."""

    seconds: float
    memory_bytes: int | None = None


@dataclass
class Worker:
    """A cell's process while it runs."""

    cell: Cell
    process: subprocess.Popen[bytes]
    limits: Limits
    token: str
    place: Path  # where its files are
    pipe: int | None  # its own word, where it has one to say
    started: float = field(default_factory=time.monotonic)
    kills_before: int | None = None  # the kernel's count when it was started
    said: bytes = b""
    ending: Ending | None = None
    kill_at: float = 0.0
    resident: int = 0  # the largest that was seen
    _children_at: float = 0.0
    _children: list[psutil.Process] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def ended(self) -> bool:
        """Whether the process is over; if so, with all that it had started. Enforces the limits on the way.

        An interrupt may come at any point of it: it can be asked again.
        """
        if self.process.returncode is None:
            if not _is_over(self.process.pid):
                self._enforce()
                return False
            _kill_group(self.process.pid)  # its number is still its own: it is waited for only now
            self.process.wait()
        self._hear()
        kill_all(self.token, self.cell.cell_id)  # what left the group would run beside the cells that are timed next
        return True

    def end(self, why: Ending) -> None:
        """Ask the whole group to end; after ``GRACE_SECONDS`` it is killed. Memory has no time to wait."""
        if self.ending is None and self.process.returncode is None:
            self.ending = why
            self.kill_at = time.monotonic() + (0 if why is Ending.MEMORY else GRACE_SECONDS)
            _signal_group(self.process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the whole group now."""
        self.kill_at = time.monotonic()
        if self.process.returncode is None:  # else its number may be another's by now
            _kill_group(self.process.pid)

    def _hear(self) -> None:
        if self.pipe is not None:
            with suppress(BlockingIOError):  # somebody has inherited the other end, and nothing was said
                self.said = os.read(self.pipe, 64)
            pipe, self.pipe = self.pipe, None
            os.close(pipe)

    def _enforce(self) -> None:
        now = time.monotonic()
        if self.ending is not None:
            if now >= self.kill_at:
                _kill_group(self.process.pid)
        elif self.seconds >= self.limits.seconds:
            self.end(Ending.TIMEOUT)
        elif self.limits.memory_bytes is not None and self._resident(now) > self.limits.memory_bytes:
            self.end(Ending.MEMORY)
            self.kill()

    def _resident(self, now: float) -> int:
        """Resident bytes of the worker and its children; the pages that they share are counted once."""
        own = _resident_of(self.process.pid)
        if now - self._children_at > _CHILDREN_EVERY:
            self._children_at = now
            with suppress(psutil.Error):
                self._children = psutil.Process(self.process.pid).children(recursive=True)
        total = own + sum(_unshared_of(child) for child in self._children)
        self.resident = max(self.resident, total)
        return total


def start(cell: Cell, spec: Path, run: Path, limits: Limits) -> Worker:
    """Start the worker of ``spec``, in a session of its own, its output in files beside the spec."""
    token = run_token(run)
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    logs = [(spec.parent / name).open("wb") for name in ("stdout.log", "stderr.log")]
    with os.fdopen(theirs), logs[0] as out, logs[1] as err:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "l2t_bench.engine.worker", str(spec), str(os.getpid()), str(theirs)],
            pass_fds=(theirs,),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env={**os.environ, **dict.fromkeys(_THREADS, str(cell.threads)), _TOKEN: f"{token}/{cell.cell_id}"},
            start_new_session=True,  # so that what it starts itself can be ended with it
        )
    return Worker(cell, process, limits, token, spec.parent, ours, kills_before=kernel_oom_kills())


def run_token(run: Path) -> str:
    """What marks the processes of a run, in their environment."""
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]


def kill_all(token: str, cell_id: str = "") -> None:
    """Kill every process that a run's workers, or one cell's, have left behind, also those that left their group.

    Only for the holder of the run's lock: nobody else's workers carry the token.
    """
    marked = f"{token}/{cell_id}"
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(_TOKEN, "").startswith(marked):
                process.kill()


def how_it_ended(worker: Worker, last_words: str) -> Outcome:
    """What became of a worker that has left no result, by evidence only. Raises ``DiskFullError``."""
    known = _known_cause(worker)
    if known is not None:
        status, message = known
        return Outcome(status, worker.seconds, message=message)
    code = worker.process.returncode
    sent = signal_name(-code) if code < 0 else None
    how = sent or f"exit code {code}"
    told = f"{how}: {last_words}" if last_words else how
    return Outcome(Status.CRASHED, worker.seconds, message=told, signal=sent)


def _known_cause(worker: Worker) -> tuple[Status, str] | None:
    """Why it was ended, by us, the disk or the kernel; ``None`` where nothing says so. Raises ``DiskFullError``."""
    limit = worker.limits.memory_bytes
    if worker.ending is Ending.TIMEOUT:
        return Status.TIMEOUT, f"over {worker.limits.seconds:.15g} s"
    if worker.ending is Ending.INTERRUPT:
        return Status.INTERRUPTED, "the run was interrupted"
    if worker.ending is Ending.MEMORY and limit is not None:
        held = f"{worker.resident / 2**20:.0f} MiB resident"
        return Status.OOM_HOST, f"{held}, over the memory limit of {limit / 2**20:.0f} MiB"
    if worker.said == DISK_FULL:
        raise DiskFullError(f"no space is left on the device: {worker.cell.label} could not be kept")
    if worker.process.returncode == -signal.SIGKILL and _killed_by_kernel(worker.kills_before):
        return Status.OOM_HOST, "SIGKILL, and the kernel's count of processes killed for memory has risen"
    return None


def signal_name(number: int) -> str:
    """``SIGSEGV``; real-time signals have a name by their distance from the first, ``SIGRTMIN+6``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        first = getattr(signal, "SIGRTMIN", None)
        return f"SIGRTMIN+{number - first}" if first is not None and number > first else f"signal {number}"


def kernel_oom_kills() -> int | None:
    """How many processes of this control group the kernel has killed for memory; ``None`` where it does not tell."""
    for file in _oom_counters():
        with suppress(OSError, ValueError):
            for line in file.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return None


def _oom_counters() -> list[Path]:
    """The control group's counter, of either version, else the machine's."""
    root = Path("/sys/fs/cgroup")
    groups = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, place = line.split(":", 2)
            if not controllers:
                groups += [root / place.lstrip("/") / "memory.events"]
            elif "memory" in controllers.split(","):
                groups += [root / "memory" / place.lstrip("/") / "memory.oom_control"]
    return [*groups, root / "memory" / "memory.oom_control", Path("/proc/vmstat")]


def _killed_by_kernel(before: int | None) -> bool:
    after = kernel_oom_kills()
    return before is not None and after is not None and after > before


def _is_over(pid: int) -> bool:
    """Whether the process has ended, without taking its end notice: until then nobody else gets its number."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # an interrupt came between the notice and whoever took it
        return True


def _kill_group(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _resident_of(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _unshared_of(process: psutil.Process) -> int:
    """Bytes that a child does not share with the process that it was forked from."""
    try:
        info = process.memory_full_info()
    except (psutil.Error, OSError):
        return 0
    return int(getattr(info, "uss", info.rss))
