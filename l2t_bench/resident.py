"""The resident memory of this process: its size now, its peak, and how to make both mean something. Needs no torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CDLL, c_size_t, c_void_p
from pathlib import Path

_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
_CGROUP, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_PAGE, _HUGE_PAGE = 4096, 2 << 20
_MADV_HUGEPAGE = 14  # Linux's mman.h
_MAPPINGS = 30_000  # the kernel allows a process 65,530; beyond these the heap serves as before
_LARGEST_INT = 2**31 - 1
_TENSOR_OBJECTS = 500  # bytes around a tensor's data: its objects in Python and C++, the header of its block
_GROWN, _MUCH = 1.25, 64 << 20  # beyond these a process has grown much: a store's own growth is met a few times only
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


def available_bytes() -> int | None:
    """What this process could still take: of the machine's memory, and of its cgroup's limit where there is one."""
    bounds = [bound for bound in (_machine_available(), _cgroup_available()) if bound is not None]
    return min(bounds) if bounds else None


def _machine_available() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_available() -> int | None:
    """The limit of the process's own cgroup (version 2) less what is in use there; files in cache can be given up."""
    try:
        own = _CGROUP.read_text().splitlines()[0].removeprefix("0::").lstrip("/")
        folder = _CGROUPS / own
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cached = next(
            (
                int(line.split()[1])
                for line in (folder / "memory.stat").read_text().splitlines()
                if line.startswith("file ")
            ),
            0,
        )
        return None if limit == "max" else max(0, int(limit) - used + cached)
    except (OSError, ValueError, IndexError):
        return None


def release_free_memory() -> None:
    """Collect garbage and give the allocator's free pages back, so that a start level means what is in use."""
    gc.collect()
    _trim()


def trimmed_level(level: int | None) -> int | None:
    """Give the allocator's free pages back where the process has grown much since it was of ``level``; its level now.

    Batches of many widths cut glibc's heap up: each step's blocks are a little too large for what the last ones left,
    and a long run would come to hold many times what is in use. ``None`` where /proc does not tell.
    """
    now = resident_bytes()
    if now is None or level is None:
        return now
    if now < _GROWN * level + _MUCH:
        return level
    _trim()
    return resident_bytes()


def _trim() -> None:
    try:
        CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another libc: it keeps its free pages


def advise_huge_pages(address: int, size: int) -> None:
    """Ask the kernel to back these bytes of fresh memory by large pages: their first use then costs a fault in 512.

    Only where the kernel leaves it to the program (``madvise``); it may decline, and nothing else changes.
    """
    start = -(-address // _PAGE) * _PAGE
    length = (address + size - start) // _PAGE * _PAGE
    if length < _HUGE_PAGE:
        return
    try:
        CDLL("libc.so.6").madvise(c_void_p(start), c_size_t(length), _MADV_HUGEPAGE)
    except (OSError, AttributeError):
        return


def keep_free_memory() -> None:
    """Have the C library keep what is freed, for this process's next allocations: no page is faulted in twice.

    Where fresh memory is dear, as on virtual machines, half of an eager pass over large batches goes into page faults.
    For processes that measure no memory: the resident size then never falls. Without glibc nothing changes.
    """
    try:
        mallopt = CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


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


def held_size(size: int) -> int:
    """What a tensor of ``size`` bytes takes of the resident size inside ``whole_pages``, in the mean over many.

    The data, the objects around it, and what its last page leaves empty: half of it where the tensor is a mapping of
    its own, less where it is so small that the heap often has a place for it.
    """
    empty = min(_PAGE // 2, size // 8) if size >= _PAGE else 0
    return size + _TENSOR_OBJECTS + empty


def _status_bytes(key: str) -> int | None:
    try:
        text = _STATUS.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None
