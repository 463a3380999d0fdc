"""Several runs become one: copying their cells, with checks. The sources are not touched."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_bench.engine.records import DamagedError, read_cell
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError


@dataclass(frozen=True)
class Merged:
    """How many cells came together, and how many of them have a result."""

    cells: int
    results: int


def merge(runs: Sequence[Path], out: Path) -> Merged:
    """Copy the cells of ``runs`` into the new run ``out``.

    A cell that several runs have a result of must be the same in all. Raises ``UserError`` where it is not, for a
    damaged result, a folder that holds no run, and an ``out`` that exists; then nothing is written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: name a new folder with -o")
    plans = {run: RunFolder(run).read_plan() for run in runs}
    chosen = _choose(plans)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
    try:
        results = _copy(plans, chosen, place)
        place.chmod(0o755)
        place.replace(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Merged(len(chosen), results)


def _choose(plans: dict[Path, dict[str, Any]]) -> dict[str, tuple[Path | None, dict[str, Any]]]:
    """Every planned cell with the run that has a sound result of it, the first of equals."""
    chosen: dict[str, tuple[Path | None, dict[str, Any]]] = {}
    records: dict[str, dict[str, Any]] = {}
    for run, plan in plans.items():
        for planned in plan["cells"]:
            name = planned["cell_id"]
            chosen.setdefault(name, (None, planned))
            try:
                record = read_cell(run, planned["identity"]["suite"], name)
            except FileNotFoundError:
                continue
            except DamagedError as error:
                advice = "repeat that run's command, or delete the file to merge without it"
                raise UserError(f"{run}: cell {name}: cell.json {error}: {advice}") from error
            if name in records and records[name] != record:
                raise UserError(f"{run} and {chosen[name][0]} disagree about cell {name}: merge runs that do not")
            if name not in records:
                chosen[name], records[name] = (run, planned), record
    return chosen


def _copy(plans: dict[Path, dict[str, Any]], chosen: dict[str, tuple[Path | None, dict[str, Any]]], place: Path) -> int:
    """Fill ``place``; the number of results."""
    results = 0
    for name, (run, planned) in chosen.items():
        if run is not None:
            suite = planned["identity"]["suite"]
            shutil.copytree(run / "cells" / suite / name, place / "cells" / suite / name, symlinks=True)
            results += 1
    (place / "environments").mkdir(parents=True)
    for run in plans:
        for file in sorted((run / "environments").glob("*.json")):
            shutil.copy(file, place / "environments" / file.name)
    folder = RunFolder(place)
    folder.write_plan(
        {
            "suites": sorted({suite for plan in plans.values() for suite in plan["suites"]}),
            "profiles": sorted({profile for plan in plans.values() for profile in plan.get("profiles", [])}),
            "created": min(plan["created"] for plan in plans.values()),
            "cells": [planned for _, planned in chosen.values()],
        }
    )
    return results
