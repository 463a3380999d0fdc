"""Runs a plan's cells by a launcher, each in a process of its own, and says what comes of them. Never imports torch."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from l2t_bench.durable import kept_aside, write_text
from l2t_bench.engine.attempt import told
from l2t_bench.engine.cell import FAILURES, Cell, is_result, seal_of
from l2t_bench.engine.lock import held
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import kill_all, run_token
from l2t_bench.engine.records import DamagedError, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study, read_study, write_study
from l2t_bench.errors import UserError
from l2t_bench.launchers.contract import Launcher, News, Work
from l2t_bench.launchers.ledger import ledger_of
from l2t_bench.registry import code_now, load_launcher

_STUDY = "run.toml"


class Rerun(StrEnum):
    """Which finished cells are run again."""

    NONE = "none"
    FAILED = "failed"
    STALE = "stale"  # the code has changed since
    ALL = "all"


@dataclass(frozen=True)
class Event:
    """A cell has begun or ended; ``done`` of ``total`` have ended, those kept from before included."""

    cell: Cell
    status: str | None  # None: begun
    done: int
    total: int
    seconds: float = 0.0
    note: str = ""  # what the user should know of a file that was found in its place
    warnings: tuple[str, ...] = ()  # of a cell that has ended: what must be known to trust its result


def run(
    plan: Plan,
    out: Path,
    on_event: Callable[[Event], None],
    *,
    rerun: Rerun = Rerun.NONE,
    fail_fast: bool = False,
) -> dict[str, int]:
    """Run what is missing of ``plan`` in folder ``out``, where its study's launcher runs it; its cells by status.

    Raises ``UserError`` for a launcher that cannot be had, a folder that cannot be used, that another run holds or that
    is removed meanwhile, ``DiskFullError`` where results cannot be kept. An interrupt ends the cells in flight and
    leaves what is finished.
    """
    launcher = launcher_of(plan.study)
    folder = RunFolder(out)
    folder.open()
    with held(out):
        _end_what_was_left(folder)
        folder.tidy()
        waiting = missing(folder, plan.cells, rerun)
        done = len(plan.cells) - len(waiting)
        for cell, note in _set_aside(folder, plan, waiting):
            on_event(Event(cell, None, done, len(plan.cells), note=note))
        _write_plan(folder, plan)
        with closing(_news(launcher, Work(folder, tuple(waiting), plan.study))) as news:
            for each in news:
                done += each.status is not None
                warned = _warnings_of(folder, each.cell) if each.status is not None else ()
                on_event(Event(each.cell, each.status, done, len(plan.cells), each.seconds, warnings=warned))
                if fail_fast and each.status in FAILURES:
                    break
        statuses = [str(folder.status(cell) or "missing") for cell in plan.cells]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def launcher_of(study: Study) -> Launcher:
    """Where a study's cells are run. Raises ``UserError`` for one not known, not installed, or not to be had here."""
    return load_launcher(study.launcher, study.launchers.get(study.launcher, {}))


def _news(launcher: Launcher, work: Work) -> Generator[News, None, None]:
    """As the launcher's; where there is nothing to run, nothing is started for it."""
    if work.cells:
        yield from launcher.launch(work)


def _warnings_of(folder: RunFolder, cell: Cell) -> tuple[str, ...]:
    """What a cell's measurements warn of, in order, each text once."""
    record = folder.record(cell)
    return () if record is None else tuple(dict.fromkeys(_warnings_in(record["measurements"])))


def _warnings_in(measured: Any) -> Iterator[str]:
    """Texts in lists that are named ``warnings``, wherever a task has put them: of a horizon, of an outer step."""
    if isinstance(measured, dict):
        for name, value in measured.items():
            if name == "warnings" and isinstance(value, list):
                yield from (text for text in value if isinstance(text, str))
            else:
                yield from _warnings_in(value)
    elif isinstance(measured, list):
        for value in measured:
            yield from _warnings_in(value)


def _end_what_was_left(folder: RunFolder) -> None:
    """End what an earlier run that was killed has left going: jobs of a scheduler first, they start processes."""
    if (ledger := ledger_of(folder)) is not None:
        try:
            load_launcher(ledger.launcher, ledger.settings).end_left(folder)
        except UserError as error:
            raise UserError(f"{folder.path}: jobs of an earlier run may still be going: {error}") from error
    kill_all(run_token(folder.path))


def missing(folder: RunFolder, cells: Sequence[Cell], rerun: Rerun = Rerun.NONE) -> list[Cell]:
    """The cells of a plan that a run would run."""
    code = code_now()
    ids = {cell.cell_id: cell for cell in cells}

    @cache
    def to_run(cell_id: str) -> bool:
        cell = ids[cell_id]
        if _wanted(cell, folder.record(cell), rerun, code):
            return True
        needed = ids.get(cell.needs)
        return needed is not None and (to_run(cell.needs) or _built_on_another(folder, cell, needed))

    return [cell for cell in cells if to_run(cell.cell_id)]


def _built_on_another(folder: RunFolder, cell: Cell, needed: Cell) -> bool:
    """Whether what a cell needs was run again since, and the run was cut before the cell itself was."""
    record, now = folder.record(cell), folder.record(needed)
    built_on = record and record.get("needed")
    return now is not None and built_on is not None and built_on != seal_of(now)


def _wanted(cell: Cell, record: dict[str, Any] | None, rerun: Rerun, code: Callable[[str, str, str], str]) -> bool:
    if record is None or not is_result(record) or rerun is Rerun.ALL:
        return True
    if rerun is Rerun.STALE:
        return bool(record["code"] != code(cell.method, cell.problem, cell.task))
    return rerun is Rerun.FAILED and record["status"] in FAILURES


def _set_aside(folder: RunFolder, plan: Plan, waiting: Sequence[Cell]) -> Iterator[tuple[Cell, str]]:
    """What is damaged, of another version or not ours is kept beside what will take its place. A line for each."""
    try:
        for kept in (folder.set_plan_aside(), _set_study_aside(folder.path / _STUDY)):
            if kept:
                yield plan.cells[0], kept
        for cell in waiting:
            if kept := folder.set_aside(cell):
                yield cell, kept
    except OSError as error:
        raise told(error) from error


def _set_study_aside(file: Path) -> str:
    """As ``RunFolder.set_plan_aside``, for ``run.toml``."""
    try:
        read_study(file)
    except UserError:
        return f"{_STUDY} is no study that can be read; kept as {kept_aside(file)}" if file.exists() else ""
    return ""


def _write_plan(folder: RunFolder, plan: Plan) -> None:
    """``plan.json`` and ``run.toml``; when the run was first begun stays."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with suppress(FileNotFoundError, DamagedError):
        created = str(read_json(folder.path / "plan.json").get("created", created))
    content = {
        "suites": sorted({cell.suite for cell in plan.cells}),
        "profiles": sorted({cell.profile for cell in plan.cells}),
        "created": created,
        "plugins": [Path(name).name for name in (*plan.study.plugins, *plan.study.files)],
        "cells": [{"cell_id": cell.cell_id, "identity": cell.identity, "task": cell.task} for cell in plan.cells],
    }
    try:
        folder.write_plan(content)
        write_text(folder.path / _STUDY, write_study(plan.study, folder.path))
    except OSError as error:
        raise told(error) from error
