"""Several runs become one: copying their cells, with checks. The sources are not touched."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_text
from l2t_bench.engine.cell import is_cell_id
from l2t_bench.engine.records import DamagedError, inside, read_cell
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study, read_study, write_study
from l2t_bench.errors import UserError

_LISTS = ("suites", "backends", "problems", "seeds")  # of a study: what cells it has
Plans = Mapping[Path, dict[str, Any]]
Name = tuple[str, str]  # a suite and a cell_id


@dataclass(frozen=True)
class Merged:
    """How many cells came together, how many of them have a result, and results that no plan names any more."""

    cells: int
    results: int
    unplanned: int


def merge(runs: Sequence[Path], out: Path) -> Merged:
    """Copy the cells of ``runs`` into the new run ``out``, and what an earlier plan of theirs has left.

    A cell that several runs have a result of must be the same in all. ``run.toml`` is written where one study gives
    just these cells. Raises ``UserError`` for runs that disagree, a damaged result, a folder that holds no run, and an
    ``out`` that exists; then nothing is written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: name a new folder with -o")
    plans = {run: RunFolder(run).read_plan() for run in runs}
    planned: dict[str, dict[str, Any]] = {}
    for cell in (cell for plan in plans.values() for cell in plan["cells"]):
        planned.setdefault(cell["cell_id"], cell)
    homes = _homes(plans)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
    try:
        _copy(homes, place)
        _copy_environments(plans, place)
        _write_plan(plans, list(planned.values()), place)
        _write_study(plans, place, out)
        place.chmod(0o755)
        place.replace(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    results = sum(name in planned for _, name in homes)
    return Merged(len(planned), results, len(homes) - results)


def _homes(plans: Plans) -> dict[Name, Path]:
    """Every cell that has a sound result, with the run that it is taken from, the first of equals."""
    homes: dict[Name, Path] = {}
    records: dict[Name, dict[str, Any]] = {}
    for run in plans:
        for suite, cell_id in _results(run):
            name = suite, cell_id
            try:
                record = read_cell(run, suite, cell_id)
            except DamagedError as error:
                advice = "repeat that run's command, or delete the file to merge without it"
                raise UserError(f"{run}: cell {cell_id}: cell.json {error}: {advice}") from error
            if records.setdefault(name, record) != record:
                raise UserError(f"{run} and {homes[name]} disagree about cell {cell_id}: merge runs that do not")
            homes.setdefault(name, run)
    return homes


def _results(run: Path) -> Iterator[Name]:
    """The cells of a run that have ended, planned or not, by name."""
    for file in sorted((run / "cells").glob("*/*/cell.json")):
        if is_cell_id(file.parent.name):
            yield file.parent.parent.name, file.parent.name


def _copy(homes: Mapping[Name, Path], place: Path) -> None:
    for (suite, cell_id), run in homes.items():
        source = inside(run, "cells", suite, cell_id)
        shutil.copytree(source, place / "cells" / suite / cell_id, symlinks=True)


def _copy_environments(plans: Plans, place: Path) -> None:
    """Their names are hashes of what they hold: the same name is the same file."""
    (place / "environments").mkdir(parents=True)
    for run in plans:
        for file in sorted((run / "environments").glob("*.json")):
            shutil.copy(file, place / "environments" / file.name)


def _write_plan(plans: Plans, cells: Sequence[dict[str, Any]], place: Path) -> None:
    RunFolder(place).write_plan(
        {
            "suites": _together(plans, "suites"),
            "profiles": _together(plans, "profiles"),
            "created": min(plan["created"] for plan in plans.values()),
            "plugins": _together(plans, "plugins"),
            "merged": [run.resolve().name for run in plans],
            "cells": cells,
        }
    )


def _together(plans: Plans, key: str) -> list[str]:
    return sorted({entry for plan in plans.values() for entry in plan.get(key, [])})


# -- the study of all


def _write_study(plans: Plans, place: Path, out: Path) -> None:
    """``run.toml``, as it will read where ``place`` is to go; none where no one study gives the merged cells."""
    with suppress(UserError):  # a source without a run.toml that can be read
        study = common_study([read_study(run / "run.toml") for run in plans])
        if study is not None:
            write_text(place / "run.toml", write_study(study, out))


def common_study(studies: Sequence[Study]) -> Study | None:
    """The one study whose cells are those of all; ``None`` where there is none.

    There is one where they are the same but for one of suites, backends, problems and seeds, and each names its own:
    of studies that differ in two, one would have cells that none of them has. Where cells were run is no part of them:
    of several launchers it names none.
    """
    if any((study.launcher, study.launchers) != (studies[0].launcher, studies[0].launchers) for study in studies):
        studies = [replace(study, launcher="local", launchers={}) for study in studies]
    first = studies[0]
    apart = [name for name in _LISTS if len({getattr(study, name) for study in studies}) > 1]
    same: dict[str, Any] = {name: getattr(first, name) for name in apart}
    if any(replace(study, **same) != first for study in studies):
        return None
    if not apart:
        return first
    lists = [getattr(study, apart[0]) for study in studies]
    if len(apart) > 1 or not all(lists):
        return None
    joined: dict[str, Any] = {apart[0]: tuple(dict.fromkeys(entry for entries in lists for entry in entries))}
    return replace(first, **joined)
