"""Which bytes a result was measured on: sha256 of the files that a named data set is made of. Needs no torch."""

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import distribution
from pathlib import Path
from types import MappingProxyType

from l2t_bench.data.root import data_root


def data_checksums(data_set: str) -> dict[str, str]:
    """File name (no path) -> ``sha256:HEX`` of the files that are there; empty for a set that is not one of ours."""
    files = _FILES.get(data_set, list)()
    return {file.name: f"sha256:{_sha256(file)}" for file in files if file.is_file()}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _digits() -> list[Path]:
    return [Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))]


def _mnist() -> list[Path]:
    return sorted((data_root() / "mnist" / "MNIST" / "raw").glob("*-ubyte.gz"))


_FILES: Mapping[str, Callable[[], list[Path]]] = MappingProxyType({"digits": _digits, "mnist": _mnist})
