"""The files of a run: written so that a cut never leaves half of one under its name.

``plan.json``, ``run.toml``, ``environments/ENV.json``, and ``cells/SUITE/CELL/`` with each cell's files, ``cell.json``
last: a cell without a sound one has not been run. A cell that has a result and is measured again is so in
``CELL.again``, which takes the place of ``CELL`` when it is done: until then, the result is there. ``CELL.begun`` holds
what an attempt that was cut has left to the next.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from l2t_bench.durable import HALF_WRITTEN, kept_aside, sync_folder, write_json
from l2t_bench.engine.cell import SCHEMA, Cell, Outcome, Status, cell_record, is_result
from l2t_bench.engine.records import (
    PLAN,
    DamagedError,
    OtherSchemaError,
    first_misfit,
    is_plain_name,
    read_cell,
    read_json,
)
from l2t_bench.errors import UserError

_PLAN = "plan.json"
_AGAIN, _REPLACED, _BEGUN = ".again", ".replaced", ".begun"  # a cell's name ends in a hash: none ends in these


def empty(place: Path) -> None:
    """Remove what an earlier attempt at a cell left in its folder, and half-written files."""
    for name in ("cell.json", "curves.jsonl", "samples.json"):
        (place / name).unlink(missing_ok=True)
    for half in place.glob(HALF_WRITTEN):
        half.unlink()


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
        try:
            ours = self._plan_misfit() is None
        except OtherSchemaError as error:
            raise UserError(f"{self._plan} {error}: name another folder with --out") from error
        except (FileNotFoundError, DamagedError):
            ours = False
        if foreign and not ours and not self._holds_results():
            raise UserError(f"{self.path} is not empty and holds no run: name another folder with --out")
        for name in ("cells", "environments"):
            if (self.path / name).exists() and not (self.path / name).is_dir():
                raise UserError(f"{self.path / name} is a file where a folder belongs: move it away")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UserError(f"{self.path} cannot be written: name another folder with --out")

    @property
    def _plan(self) -> Path:
        return self.path / _PLAN

    def _plan_misfit(self) -> str | None:
        """The first key of ``plan.json`` that is not as a run writes it. Raises as ``read_json`` does."""
        return first_misfit(read_json(self._plan), PLAN)

    def _holds_results(self) -> bool:
        """Whether anything in ``cells`` is a sound result: a run is known by these too."""
        for file in self.path.glob("cells/*/*/cell.json"):
            with suppress(DamagedError, FileNotFoundError):
                read_cell(self.path, file.parts[-3], file.parts[-2])
                return True
        return False

    def set_plan_aside(self) -> str:
        """Rename a ``plan.json`` that no run has written: nothing overwrites it. A line that says so, if one was."""
        try:
            misfit = self._plan_misfit()
            wrong = f"has {misfit!r} missing or of another form" if misfit else ""
        except FileNotFoundError:
            return ""
        except DamagedError as error:
            wrong = str(error)
        return f"{_PLAN} {wrong}; kept as {kept_aside(self._plan)}" if wrong else ""

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

    def check_there(self) -> None:
        """Raises ``UserError`` where the run was removed while it is going: nothing is written in its place.

        What came of its cells by then would look like results of theirs.
        """
        if not self._plan.is_file():
            raise UserError(f"{self.path} was removed while its cells were run; the same command begins them anew")

    def cell_folder(self, cell: Cell) -> Path:
        """Where a cell's files are. Raises ``UserError`` for a suite whose name would lead out of the run's folder."""
        return self.files_of(cell.suite, cell.cell_id)

    def files_of(self, suite: str, cell_id: str) -> Path:
        """``cell_folder`` of a cell that only its id is known of."""
        if not is_plain_name(suite):
            raise UserError(f"{suite!r} cannot be a suite's name: it would lead out of the run's folder")
        return self.path / "cells" / suite / cell_id

    def attempt_folder(self, cell: Cell) -> Path:
        """Where a cell is measured: in its own folder, or beside it where that holds a result."""
        own = self.cell_folder(cell)
        record = self.record(cell)
        return own.with_name(own.name + _AGAIN) if record is not None and is_result(record) else own

    def begun_folder(self, cell: Cell) -> Path:
        """Where an attempt at a cell leaves what the next one goes on from."""
        own = self.cell_folder(cell)
        return own.with_name(own.name + _BEGUN)

    def write_cell(self, cell: Cell, outcome: Outcome, place: Path | None = None) -> None:
        """Written last of a cell's files, in ``place`` or its own folder: a cell without it has not been run.

        Raises as ``check_there``, as ``write_environment`` does.
        """
        self.check_there()
        write_json((place or self.cell_folder(cell)) / "cell.json", cell_record(cell, outcome))

    def publish(self, cell: Cell, place: Path) -> None:
        """Have what was measured in ``place`` stand as the cell's result; the one before goes."""
        own = self.cell_folder(cell)
        if place == own:
            return
        for damaged in own.glob("cell.damaged-*.json"):
            shutil.copy2(damaged, place)
        replaced = own.with_name(own.name + _REPLACED)
        own.rename(replaced)
        place.rename(own)
        sync_folder(own.parent)
        shutil.rmtree(replaced, ignore_errors=True)

    def discard(self, cell: Cell, place: Path) -> None:
        """Drop an attempt that came to nothing, where there is a result that stands."""
        if place != self.cell_folder(cell):
            shutil.rmtree(place, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what a run that was killed left half done. Only for the holder of the run's lock."""
        for replaced in self.path.glob(f"cells/*/*{_REPLACED}"):
            own = replaced.with_name(replaced.name.removesuffix(_REPLACED))
            if not own.exists():  # killed between the two renames
                replaced.rename(own)
        for pattern in (f"cells/*/*{_REPLACED}", f"cells/*/*{_AGAIN}"):
            for left in self.path.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        for folder in (self.path, self.path / "environments"):
            for half in folder.glob(HALF_WRITTEN):
                half.unlink(missing_ok=True)

    def record(self, cell: Cell, place: Path | None = None) -> dict[str, Any] | None:
        """The result of a cell, or of the attempt in ``place``; ``None`` for a missing, damaged or another's."""
        try:
            return read_cell(self.path, cell.suite, cell.cell_id, place.name if place else "")
        except (DamagedError, FileNotFoundError):
            return None

    def set_aside(self, cell: Cell) -> str:
        """Rename a ``cell.json`` that is no sound result: nothing overwrites it. A line that says so, if one was."""
        place = self.cell_folder(cell)
        file = place / "cell.json"
        for folder in (place.parent, place):
            if folder.exists() and not folder.is_dir():
                raise UserError(f"{folder} is a file where a folder belongs: move it away")
        try:
            read_cell(self.path, cell.suite, cell.cell_id)
        except FileNotFoundError:
            return ""
        except DamagedError as error:
            return f"{cell.label}: cell.json {error}; kept as {kept_aside(file)}, measured again"
        return ""

    def status(self, cell: Cell, place: Path | None = None) -> Status | None:
        """The status of a cell, or of the attempt in ``place``; ``None`` for one without a sound result."""
        record = self.record(cell, place)
        return None if record is None else Status(record["status"])

    def write_environment(self, content: Mapping[str, Any]) -> str:
        """Keep an environment under a name that is a hash of it, once; the name."""
        self.check_there()
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
        file = self.path / "environments" / f"{name}.json"
        if not file.is_file():
            write_json(file, {"schema": SCHEMA, **content})
        return name
