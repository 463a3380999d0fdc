"""One `run` at a time on a run's folder: the second says who holds it."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from l2t_bench.errors import UserError

_LOCK, _HOLDER = ".lock", ".holder.json"
_PATIENCE = 1.0  # seconds: a look at the lock shares it for less than a thousandth of one


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold ``folder`` inside the block. The lock goes with the process, however that ends, and no worker inherits it.

    Raises ``UserError`` where another process holds it, naming that process.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK, timeout=_PATIENCE)
    try:
        lock.acquire(poll_interval=0.01)
    except Timeout:
        raise UserError(f"{folder} is in use by {_named(holder(folder))}: wait for it, or name another --out") from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror}") from error
    note = folder / _HOLDER
    try:
        with suppress(OSError):  # on a full disk the lock still holds, and does not say whose it is
            note.write_text(json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")}))
        yield
    finally:
        with suppress(OSError):
            note.unlink()
        lock.release()


def is_there(folder: Path) -> bool:
    """Whether the folder that this process holds is still the one: with a folder that is removed, its lock goes."""
    return (folder / _LOCK).exists()


def holder(folder: Path) -> dict[str, Any] | None:
    """The ``pid`` and ``since`` of the process that holds ``folder``; ``None`` where none does.

    It looks by sharing the lock for a moment: that many may at once, and a ``run`` that begins waits for it.
    """
    try:
        with (folder / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _note(folder)
    except OSError:
        return None  # no lock, or not ours to look at
    return None


def _note(folder: Path) -> dict[str, Any]:
    try:
        note = json.loads((folder / _HOLDER).read_text())
    except (OSError, ValueError):
        return {}  # it has just begun
    return note if isinstance(note, dict) else {}


def _named(found: dict[str, Any] | None) -> str:
    return (
        f"process {found['pid']}, since {found['since']}"
        if found and found.keys() >= {"pid", "since"}
        else "another run"
    )
