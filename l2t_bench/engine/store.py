"""The files of a run: written so that a cut never leaves half of one under its name.

``plan.json``, ``run.toml``, ``environments/ENV.json``, and ``cells/SUITE/CELL/`` with each cell's files, ``cell.json``
last: a cell without a sound one has not been run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import SCHEMA, Cell, Outcome, Status, cell_record
from l2t_bench.engine.records import PLAN, DamagedError, OtherSchemaError, first_misfit, read_cell, read_json
from l2t_bench.errors import UserError

_PLAN = "plan.json"


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write by temporary file, fsync and rename. Raises ``ValueError`` for numbers that JSON does not have."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def write_text(path: Path, content: str) -> None:
    """Write by temporary file, fsync and rename; what was there stays where that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A rename outlives a power cut once its folder is on the disk."""
    with suppress(OSError):  # some file systems have no such call
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


RUNS = Path("runs")  # where runs are kept that nobody gives another place


def list_runs() -> list[str]:
    """The folders in ``runs/`` that hold a run."""
    return sorted(str(file.parent) for file in RUNS.glob(f"*/{_PLAN}"))


class RunFolder:
    """Where the files of one run are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Make the folder. Raises ``UserError`` where it cannot be one, is something else's, or cannot be written."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is not a folder: name another with --out")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = any(not entry.name.startswith(".") for entry in self.path.iterdir())
        except OSError as error:
            raise UserError(f"{self.path} cannot be used: {error.strerror}; name another folder with --out") from error
        if foreign and not self._plan.is_file() and not (self.path / "cells").is_dir():
            raise UserError(f"{self.path} is not empty and holds no run: name another folder with --out")
        try:
            read_json(self._plan)
        except OtherSchemaError as error:
            raise UserError(f"{self._plan} {error}: name another folder with --out") from error
        except (FileNotFoundError, DamagedError):
            pass  # it is written anew
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UserError(f"{self.path} cannot be written: name another folder with --out")

    @property
    def _plan(self) -> Path:
        return self.path / _PLAN

    def write_plan(self, content: Mapping[str, Any]) -> None:
        write_json(self._plan, {"schema": SCHEMA, **content})

    def read_plan(self) -> dict[str, Any]:
        """What the run's last command planned. Raises ``UserError`` for a folder that holds no run."""
        advice = "name a folder that `l2t-bench run` has written, such as runs/quick"
        if not self.path.is_dir():
            raise UserError(f"there is no folder {self.path}: {advice}")
        try:
            plan = read_json(self._plan)
        except FileNotFoundError:
            raise UserError(f"{self.path} holds no run (it has no {_PLAN}): {advice}") from None
        except OtherSchemaError as error:
            raise UserError(f"{self._plan} {error}: use the version that wrote it") from error
        except DamagedError as error:
            raise UserError(f"{self._plan} {error}: repeat the run's command, finished cells are kept") from error
        misfit = first_misfit(plan, PLAN)
        if misfit is not None:
            raise UserError(f"{self._plan}: {misfit!r} is missing or not of the form that a run writes")
        return plan

    def cell_folder(self, cell: Cell) -> Path:
        return self.path / "cells" / cell.suite / cell.cell_id

    def write_cell(self, cell: Cell, outcome: Outcome) -> None:
        """Written last of a cell's files: a cell without it has not been run."""
        write_json(self.cell_folder(cell) / "cell.json", cell_record(cell, outcome))

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """The result of a finished cell; ``None`` for one that is missing, damaged, or another's."""
        try:
            return read_cell(self.path, cell.suite, cell.cell_id)
        except (DamagedError, FileNotFoundError):
            return None

    def set_aside(self, cell: Cell) -> str:
        """Rename a ``cell.json`` that is no sound result: nothing overwrites it. A line that says so, if one was."""
        file = self.cell_folder(cell) / "cell.json"
        try:
            read_cell(self.path, cell.suite, cell.cell_id)
        except FileNotFoundError:
            return ""
        except DamagedError as error:
            kept = next(
                name for number in count(1) if not (name := file.with_name(f"cell.damaged-{number}.json")).exists()
            )
            file.rename(kept)
            return f"{cell.label}: cell.json {error}; kept as {kept.name}, measured again"
        return ""

    def status(self, cell: Cell) -> Status | None:
        """The status of a finished cell; ``None`` for one without a sound result."""
        record = self.record(cell)
        return None if record is None else Status(record["status"])

    def write_environment(self, content: Mapping[str, Any]) -> str:
        """Keep an environment under a name that is a hash of it, once; the name."""
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        file = self.path / "environments" / f"{name}.json"
        if not file.is_file():
            write_json(file, {"schema": SCHEMA, **content})
        return name
