"""Where the four original MNIST files are, and how they get there: downloaded, or from a folder.

Each is known by the md5 that torchvision states for it. Importing this needs no torch.
"""

from collections.abc import Collection
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError

from l2t_bench.data.root import data_root
from l2t_bench.data.transfer import Prepared, check, copy, md5, move_in, staging, why
from l2t_bench.errors import UserError

FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
ARCHIVES = tuple(f"{name}.gz" for name in FILES)

_BELOW = ("raw", "MNIST/raw", "mnist/MNIST/raw")


def mnist_folder() -> Path:
    """The folder below the data root in which the files are looked for. It need not exist."""
    return data_root() / "mnist" / "MNIST" / "raw"


def mnist_files() -> list[Path]:
    """The four files in the data root; they need not be there."""
    return [mnist_folder() / name for name in sorted(ARCHIVES)]


def prepare_mnist(source: Path | None = None) -> Prepared:
    """Bring the four files into the data root; those that are there and sound stay as they are.

    They are downloaded through torchvision, or without network copied from ``source``: a folder that holds them, or
    holds them in ``raw``, ``MNIST/raw`` or ``mnist/MNIST/raw``. All are found sound before any file of the data root is
    replaced, and a cut leaves no half of one.

    Raises ``UserError`` where ``source`` does not hold the four sound files, the download fails, or the data root
    cannot be written.
    """
    found_in = None if source is None else _look_in(source)
    from torchvision.datasets import MNIST  # after what can be said without it: it takes seconds

    expected = dict(MNIST.resources)
    if found_in is not None:
        for name in ARCHIVES:
            check(found_in / name, expected[name])
    target = mnist_folder()
    try:
        wanted = [name for name in ARCHIVES if not _sound(target / name, expected[name])]
        damaged = tuple(name for name in wanted if (target / name).exists())
        if wanted:
            with staging(target) as stage:
                files = _download(wanted, stage) if found_in is None else copy([found_in / n for n in wanted], stage)
                for file in files:  # the very bytes that get the name
                    check(file, expected[file.name])
                move_in(files, target)
    except OSError as error:
        raise UserError(f"MNIST could not be prepared in {target}: {why(error)}") from error
    added = tuple(name for name in wanted if name not in damaged)
    return Prepared(target, _note(added, damaged, "downloaded" if source is None else "copied"), added, damaged)


def _look_in(source: Path) -> Path:
    """The folder in or below ``source`` that has the four files. Raises ``UserError`` where there is none."""
    try:
        if not source.is_dir():
            told = f"{source} is a file" if source.exists() else f"there is no folder {source}"
            raise UserError(f"{told}: name the folder that holds {', '.join(ARCHIVES)}")
        held = {place: _held(place) for place in (source, *(source / below for below in _BELOW))}
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from error
    place = max(held, key=lambda place: (len(held[place].packed), len(held[place].unpacked)))
    missing = [name for name in ARCHIVES if name not in held[place].packed]
    if not missing:
        return place
    if not any(held[place]):
        raise UserError(f"MNIST is neither in {source} nor in its {', '.join(_BELOW)}: needed are {', '.join(missing)}")
    serve_not = "; unpacked files do not serve: MNIST is known by the md5 of the four original .gz files"
    verb = "is" if len(missing) == 1 else "are"
    raise UserError(f"{', '.join(missing)} {verb} missing in {place}{serve_not if held[place].unpacked else ''}")


class _Held(NamedTuple):
    """The names of MNIST files that a folder has."""

    packed: list[str]
    unpacked: list[str]


def _held(place: Path) -> _Held:
    packed, unpacked = ([name for name in names if (place / name).is_file()] for names in (ARCHIVES, FILES))
    return _Held(packed, unpacked)


def _sound(file: Path, expected: str) -> bool:
    return file.is_file() and md5(file) == expected


def _download(wanted: Collection[str], stage: Path) -> list[Path]:
    """The ``wanted`` files in ``stage``. Raises ``UserError`` where the network fails, ``OSError`` if the disk does."""
    from torchvision.datasets import MNIST

    raw = stage / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ARCHIVES:
        if name not in wanted:  # torchvision downloads no file that it finds sound
            (raw / name).symlink_to((mnist_folder() / name).resolve())
    try:
        MNIST(str(stage), download=True)
    except (RuntimeError, URLError, HTTPException, ConnectionError, TimeoutError) as error:
        told = " ".join(str(error).split())  # torchvision's own goes over many lines
        raise UserError(
            f"MNIST could not be prepared in {mnist_folder()}: {told}; "
            "where there is no network, --from DIR takes the four .gz files from a folder"
        ) from error
    return [raw / name for name in wanted]


def _note(added: Collection[str], damaged: Collection[str], verb: str) -> str:
    if not added and not damaged:
        return f"its four files were there and are sound, nothing was {verb}"
    replaced = f", in the place of the damaged {', '.join(damaged)}" if damaged else ""
    count = len(added) + len(damaged)
    return f"{count} {'file' if count == 1 else 'files'} {verb} and found sound{replaced}"
