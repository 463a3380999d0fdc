"""The files of a run: written so that a cut never leaves half of one under its name."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import SCHEMA, Cell, Outcome, cell_record
from l2t_bench.errors import UserError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write by temporary file, fsync and rename. Raises ``ValueError`` for numbers that JSON does not have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        json.dump(content, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class RunFolder:
    """A run's folder: ``run.json``, and ``cells/SUITE/CELL/`` with each cell's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Make the folder. Raises ``UserError`` where it cannot be one, or is something else's."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder: name another with --out")
        if self.path.is_dir() and any(self.path.iterdir()) and not self._manifest.is_file():
            raise UserError(f"{self.path} is not empty and holds no run: name another folder with --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path} cannot be made: {error.strerror}") from error

    @property
    def _manifest(self) -> Path:
        return self.path / "run.json"

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        write_json(self._manifest, {"schema": SCHEMA, **content})

    def cell_folder(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.suite / cell.cell_id

    def write_cell(self, cell: Cell, outcome: Outcome) -> None:
        """Written last of a cell's files: a cell without it has not been run."""
        write_json(self.cell_folder(cell) / "cell.json", cell_record(cell, outcome))

    def status(self, cell: Cell) -> str | None:
        """The status of a finished cell; ``None`` for one that is missing, damaged, or another's."""
        try:
            record = json.loads((self.cell_folder(cell) / "cell.json").read_text())
        except (OSError, ValueError):
            return None
        sound = isinstance(record, dict) and record.get("schema") == SCHEMA and record.get("cell_id") == cell.cell_id
        return str(record["status"]) if sound and "status" in record else None
