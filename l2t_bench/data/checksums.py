"""Which bytes a result was measured on: sha256 of the files that a named data set is made of. Needs no torch."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from l2t_bench.data.arrays_file import arrays_file
from l2t_bench.data.catalogue import DATA_SETS
from l2t_bench.data.text_record import RECORDS
from l2t_bench.names import split_spec

DATA_SET = "data set"
"""The key under which a result has the name of its data; the others are names of files."""


def data_record(problem: str) -> dict[str, str]:
    """What a result keeps of the data of ``problem``, a name with options: what to call them, and their checksums.

    Empty for a problem that is not one of ours. Of one's own arrays the file's name is told, never its folder.
    """
    name, options = split_spec(problem)
    data_set = name.partition("/")[0]
    if data_set in RECORDS:
        text = RECORDS[data_set](options)
        return {DATA_SET: text.told, **_sums(text.files)}
    if data_set in DATA_SETS:
        return {DATA_SET: DATA_SETS[data_set].told(), **data_checksums(data_set)}
    if data_set != "arrays" or not options.get("path"):
        return {}
    file = arrays_file(options["path"])
    return {DATA_SET: f"arrays of {file.name}"} | _sums([file] if file.is_file() else [])


def data_checksums(data_set: str) -> dict[str, str]:
    """File name (no path) -> ``sha256:HEX`` of the files that are there; empty for a set that is not one of ours."""
    files = DATA_SETS[data_set].files() if data_set in DATA_SETS else []
    return _sums(file for file in files if file.is_file())


def _sums(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: f"sha256:{_sha256(file)}" for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
