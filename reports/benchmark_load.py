"""The records of pytest-benchmark below a path, as a run of its own kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from l2t_bench.errors import UserError
from l2t_bench.reports.benchmark_record import Record, read_record


@dataclass(frozen=True, eq=False)
class Benchmarks:
    """What was found at ``path``, a JSON file or a folder with some: its records, the newest first.

    Nothing is set against what another record has: they are of other sessions, machines or code.
    """

    path: Path
    records: tuple[Record, ...]
    unreadable: Mapping[str, str]  # files that are no such record, and why

    @property
    def name(self) -> str:
        """The file's name without its ending, or the folder's."""
        return self.path.stem if self.path.is_file() else self.path.resolve().name

    @property
    def damaged(self) -> int:
        """How many files and entries cannot be trusted."""
        return len(self.unreadable) + sum(record.damaged for record in self.records)

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that is to be said of what was read."""
        several = len(self.records) > 1
        own = [f"{f'{each.name}: ' * several}{warning}" for each in self.records for warning in each.warnings]
        return (*self.unreadable.values(), *own)

    @property
    def timings(self) -> pd.DataFrame:
        """Those of all records."""
        return pd.concat([record.timings for record in self.records], ignore_index=True)

    @property
    def left_out(self) -> pd.DataFrame:
        """Those of all records."""
        return pd.concat([record.left_out for record in self.records], ignore_index=True)

    def place(self, name: str) -> Path:
        """Where a file of the report goes: into the folder, or beside the file and with its name in front."""
        return self.path.with_name(f"{self.path.stem}-{name}") if self.path.is_file() else self.path / name


def holds_benchmarks(path: Path) -> bool:
    """Whether a path is to be read as records of pytest-benchmark: any file, and a folder of JSON that is no run."""
    if path.is_file():
        return True
    return path.is_dir() and not _is_run(path) and bool(_files(path))


def load_benchmarks(path: Path | str) -> Benchmarks:
    """The records at ``path``: a file, or all files ``*.json`` of a folder and those of the folders in it.

    Raises ``UserError`` where there is none. Beside a sound record, files that are none become warnings.
    """
    place = Path(path)
    if place.is_file():
        return Benchmarks(place, (read_record(place),), {})
    records, unreadable = [], {}
    for file in _files(place):
        try:
            records.append(read_record(file))
        except UserError as error:
            unreadable[str(file.relative_to(place))] = str(error)
    if not records:
        raise UserError(next(iter(unreadable.values()), f"{place} holds no record of pytest-benchmark"))
    return Benchmarks(place, tuple(sorted(records, key=lambda each: each.taken, reverse=True)), unreadable)


def _files(folder: Path) -> list[Path]:
    """pytest-benchmark keeps a folder for each kind of machine."""
    return sorted(file for file in [*folder.glob("*.json"), *folder.glob("*/*.json")] if not _is_run(file.parent))


def _is_run(folder: Path) -> bool:
    return (folder / "plan.json").exists() or (folder / "cells").is_dir()
