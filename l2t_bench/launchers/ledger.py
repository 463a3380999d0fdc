"""What a run has handed to a scheduler: in ``RUN/launcher`` while it is going, so that a later process can end it.

``jobs.json`` is written before the first job is handed in, and has the label that all of them carry; ``orders/`` is as
``engine.order`` says. The folder goes when the last job is over.
"""

import secrets
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_json
from l2t_bench.engine.cell import SCHEMA, Cell
from l2t_bench.engine.records import DamagedError, first_misfit, is_object, is_text, is_texts, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError

_FOLDER = "launcher"
_FORM = {"launcher": is_text, "settings": is_object, "label": is_text, "jobs": is_texts}


@dataclass(frozen=True)
class Ledger:
    """The jobs of one process that runs a folder."""

    folder: Path  # RUN/launcher
    launcher: str
    settings: Mapping[str, Any]  # that the launcher was made of
    label: str  # of all jobs, and of no others
    jobs: tuple[str, ...] = ()  # the scheduler's ids, as far as they were written down

    @property
    def orders(self) -> Path:
        return self.folder / "orders"

    def order_of(self, cell: Cell) -> Path:
        return self.orders / f"{cell.cell_id}.json"

    def write(self, jobs: Iterable[str]) -> None:
        content = {"launcher": self.launcher, "settings": dict(self.settings), "label": self.label, "jobs": list(jobs)}
        write_json(self.folder / "jobs.json", {"schema": SCHEMA, **content})

    def withdraw(self) -> None:
        """Take all orders back: tasks that the scheduler cannot end, or starts later, end by themselves."""
        shutil.rmtree(self.orders, ignore_errors=True)

    def close(self) -> None:
        """No job is left: nothing is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)


def new_ledger(run: RunFolder, launcher: str, settings: Mapping[str, Any]) -> Ledger:
    """An empty one, on the disk, with a label of its own."""
    ledger = Ledger(run.path.resolve() / _FOLDER, launcher, settings, f"l2t_bench_{secrets.token_hex(4)}")
    ledger.close()  # what is there is of jobs that are over
    ledger.write(())
    return ledger


def ledger_of(run: RunFolder) -> Ledger | None:
    """That of an earlier process which did not see its jobs end; ``None`` for none. Raises ``UserError``."""
    folder = run.path.resolve() / _FOLDER
    try:
        content = read_json(folder / "jobs.json")
        misfit = first_misfit(content, _FORM)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        misfit = str(error)
    if misfit:
        raise UserError(
            f"{folder / 'jobs.json'} cannot be read ({misfit}): it names jobs that may still be running; "
            "see that none is, and delete the folder"
        )
    return Ledger(folder, content["launcher"], content["settings"], content["label"], tuple(content["jobs"]))
