"""Files that a cut, a kill or a full disk leaves whole: the one before, or the new one."""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

HALF_WRITTEN = ".*.tmp"
"""The pattern of what a writer that was killed has left behind."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """``write_bytes`` of JSON. Raises ``ValueError`` for numbers that JSON does not have."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def write_text(path: Path, content: str) -> None:
    """``write_bytes`` of text in UTF-8."""
    write_bytes(path, content.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write by temporary file, fsync and rename; what was there stays where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by a process id: machines that share a folder have the same ones.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """A rename outlives a power cut once its folder is on the disk."""
    with suppress(OSError):  # some file systems have no such call
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def kept_aside(file: Path) -> str:
    """The new name of a file that something else will take the place of: ``cell.json`` is ``cell.damaged-1.json``."""
    names = (file.with_name(f"{file.stem}.damaged-{number}{file.suffix}") for number in count(1))
    return file.rename(next(name for name in names if not name.exists())).name
