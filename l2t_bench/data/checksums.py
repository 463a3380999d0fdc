"""Which bytes a result was measured on: sha256 of the files that a named data set is made of. Needs no torch."""

import hashlib
from pathlib import Path

from l2t_bench.data.catalogue import DATA_SETS


def data_checksums(data_set: str) -> dict[str, str]:
    """File name (no path) -> ``sha256:HEX`` of the files that are there; empty for a set that is not one of ours."""
    files = DATA_SETS[data_set].files() if data_set in DATA_SETS else []
    return {file.name: f"sha256:{_sha256(file)}" for file in files if file.is_file()}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
