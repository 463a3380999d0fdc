"""Files that are checked by md5 and moved into a folder: under its name a file is whole, or it is not there."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from l2t_bench.data.root import VARIABLE
from l2t_bench.errors import UserError


@dataclass(frozen=True)
class Prepared:
    """Where a data set is, what was done in words, and the names of the files that were not there or were damaged."""

    place: Path
    note: str
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


def md5(file: Path) -> str:
    """The md5 of a file's content, in hexadecimal digits. Raises ``OSError`` where it cannot be read."""
    with file.open("rb") as content:
        # it tells files from each other and keeps no secret: allowed also where md5 is not, for those that do
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check(file: Path, expected: str) -> None:
    """Raises ``UserError`` where ``file`` cannot be read, or with both sums where its md5 is not ``expected``."""
    try:
        found = md5(file)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    if found != expected:
        raise UserError(f"{file} is damaged, or not the original: its md5 is {found}, not {expected}; get it again")


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A temporary folder inside ``target``, from where a file is renamed into it, never copied.

    Afterwards it is gone, and so are the folders that were made for it and stayed empty. Raises ``OSError`` where
    ``target`` cannot be made or written.
    """
    line = (target, *target.parents)
    made = list(takewhile(lambda folder: not folder.exists(), line))
    if not line[len(made)].is_dir():  # the call that fails later would name another
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(line[len(made)]))
    try:
        for folder in reversed(made):
            folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".prepare-", dir=target, ignore_cleanup_errors=True) as stage:
            yield Path(stage)
    finally:
        for folder in made:
            with suppress(OSError):  # not empty: it holds what it was made for
                folder.rmdir()


def copy(files: Iterable[Path], stage: Path) -> list[Path]:
    """The copies of ``files`` in ``stage``. Raises ``OSError``."""
    return [Path(shutil.copyfile(file, stage / file.name)) for file in files]


def move_in(files: Sequence[Path], target: Path) -> None:
    """Rename files of the same disk into ``target``. None gets its name before the content of all is on the disk.

    Raises ``OSError``.
    """
    for file in files:
        _sync(file)
    for file in files:
        file.replace(target / file.name)
    with suppress(OSError):  # a rename outlives a power cut once its folder is synced; some disks have no such call
        _sync(target)


def why(error: OSError) -> str:
    """The reason of a failed call, its file where it names one, and what to do."""
    file = error.filename2 or error.filename  # of a rename, the one that should have come out
    reason = f"{file}: {error.strerror}" if file else error.strerror or str(error)
    make_room = "make room, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return f"{reason}; {make_room}set {VARIABLE} to a folder that can be written"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
