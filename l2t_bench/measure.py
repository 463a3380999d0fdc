"""Clocks and memory peaks of the phases of a computation, host and device."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_M_MMAP_THRESHOLD, _M_MMAP_MAX = -3, -4  # glibc's malloc.h
_PAGE = 4096
_MAPPINGS = 30_000  # the kernel allows a process 65,530; beyond these the heap serves as before
_LARGEST_THRESHOLD = 32 << 20  # where glibc's own rule ends up in a process that frees large blocks


def resident_bytes() -> int | None:
    """The process's resident size now, in bytes; ``None`` where /proc does not tell."""
    return _status_bytes("VmRSS")


def peak_resident_bytes() -> int | None:
    """The largest resident size since ``reset_peak_resident``, in bytes.

    ``VmHWM`` and not ``ru_maxrss``: the latter is inherited from the parent process.
    """
    return _status_bytes("VmHWM")


def reset_peak_resident() -> None:
    """Make the resident size of now the peak so far."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return  # not Linux, or not allowed: peaks then count from the process's start


def release_free_memory() -> None:
    """Collect garbage and give the allocator's free pages back, so that a start level means what is in use."""
    gc.collect()
    try:
        CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another libc: it keeps its free pages


@contextmanager
def whole_pages() -> Iterator[None]:
    """Inside the block every allocation of a page or more is a mapping of its own, given back when it is freed.

    The resident peak then counts what a computation holds, and not how the C library's heap happens to be cut up, which
    moved the peaks of equal runs by a third. Measure memory before anything large has run without it: blocks that the
    heap holds already are used first. It costs page faults: take no times inside. Without glibc nothing changes.
    """
    try:
        mallopt = CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _PAGE)
    mallopt(_M_MMAP_MAX, _MAPPINGS)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_THRESHOLD)


def _status_bytes(key: str) -> int | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None


@dataclass(frozen=True)
class Memory:
    """A peak above a start, in bytes."""

    start: int | None
    peak: int | None


class Meter:
    """Seconds by phase, counts by kind, and the memory peaks of one computation on ``device``.

    The device is synchronised when a phase begins and when it ends, so that a phase holds its own work and no other's.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        reset_peak_resident()
        self._host_start = resident_bytes()
        self._device_start: int | None = None
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._device_start = torch.cuda.memory_allocated(device)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to phase ``name``."""
        self._synchronize()
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self._synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + (time.perf_counter_ns() - start) / 1e9

    def count(self, **amounts: int) -> None:
        """Add to the counts of this kind, for instance ``count(gradients=1)``."""
        for kind, amount in amounts.items():
            self.counts[kind] = self.counts.get(kind, 0) + amount

    def host(self) -> Memory:
        return Memory(self._host_start, peak_resident_bytes())

    def device(self) -> Memory:
        peak = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else None
        return Memory(self._device_start, peak)

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
