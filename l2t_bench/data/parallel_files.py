"""Which files a parallel text is made of, by its path and the ends of their names. Needs no torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from l2t_bench.data.root import data_root

LONGEST = 100
"""Words a side that a training pair may have, unless another number is asked for."""

WHOLE = "text"
"""The name of the one part of a text that is to be split."""


class Language(NamedTuple):
    """The ends of the names of two files: what is translated, and into what."""

    source: str
    target: str


def two_files(stem: Path, ends: Language) -> tuple[Path, Path]:
    """``stem.SOURCE`` and ``stem.TARGET``; they need not be there."""
    return stem.with_name(f"{stem.name}.{ends.source}"), stem.with_name(f"{stem.name}.{ends.target}")


def place_of(path: str) -> Path:
    """A folder, or the files' name without their ends: as it is given, else below the data root."""
    given = Path(path).expanduser()
    below = data_root() / given
    is_there, is_below = (found.is_dir() or any(found.parent.glob(f"{found.name}.*")) for found in (given, below))
    return below if is_below and not is_there else given


def parallel_files(path: Path, ends: Language) -> Mapping[str, tuple[Path, Path]]:
    """Part -> its two files: of a folder train, dev (``valid``, else ``dev``) and, where there is one, test.

    Of anything else one part, ``WHOLE``: the two files whose names begin so. None of them need be there.
    """
    if not path.is_dir():
        return {WHOLE: two_files(path, ends)}
    valid = two_files(path / "valid", ends)
    parts = {
        "train": two_files(path / "train", ends),
        "dev": valid if valid[0].is_file() else two_files(path / "dev", ends),
        "test": two_files(path / "test", ends),
    }
    return parts if parts["test"][0].is_file() else {part: parts[part] for part in ("train", "dev")}
