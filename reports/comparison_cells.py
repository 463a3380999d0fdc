"""The cells of two runs side by side: those of one run alone, those that changed, and those that can be compared."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd

from l2t_bench.reports import statistics, variants
from l2t_bench.reports.load import Run
from l2t_bench.reports.rows import Row, rows_of

NEWLY_FAILING, FIXED, FAILING_OTHERWISE = "newly failing", "fixed", "failing otherwise"
_MEASURED_BY: Mapping[str, str] = {"gradient": "time, memory", "teaching": "accuracy"}
_CELL = ["kind", "problem", "method", "seed", "round"]
_TOLD = ["kind", "problem", "variant", "method", "seed", "round"]
_IN_BOTH = ["cell_id", "suite", "profile", "status", "dtype", "device", "settings", "machine"]
_ALONE: Mapping[str, str] = {"base": "left_only", "new": "right_only"}  # what pandas calls a row of one side


def matched_cells(base: Run, new: Run) -> pd.DataFrame:
    """Every cell that came to some end in either run, with its status and conditions in both.

    Cells are matched by kind, problem, method, seed and round; where a run has several of one such name, by the
    conditions that tell these apart too, which ``variant`` names. Columns: kind, problem, variant, method, seed, round;
    cell_id, suite, profile, status, dtype, device, settings and machine each with ``_base`` and with ``_new``; and
    ``_merge``: ``both``, ``left_only`` for base alone, ``right_only`` for new alone.
    """
    ended = []
    for run in (base, new):
        cells = statistics.with_round(run.cells)
        ended.append(cells[cells["status"] != "missing"])
    if any(cells.duplicated(_CELL).any() for cells in ended):
        told = variants.labels(pd.concat(ended, ignore_index=True), machines=False)
    else:
        told = pd.Series("", index=range(sum(map(len, ended))), dtype=object)
    sides = [
        cells.assign(variant=told.iloc[start : start + len(cells)].to_numpy())[[*_TOLD, *_IN_BOTH]]
        for cells, start in zip(ended, (0, len(ended[0])), strict=True)
    ]
    return sides[0].merge(sides[1], on=_TOLD, how="outer", suffixes=("_base", "_new"), indicator=True)


def cells_alone(cells: pd.DataFrame, side: Literal["base", "new"]) -> pd.DataFrame:
    """The matched cells of one run alone: kind, problem, variant, method, seed, round, status."""
    alone = cells.loc[cells["_merge"] == _ALONE[side], [*_TOLD, f"status_{side}"]]
    return alone.rename(columns={f"status_{side}": "status"}).reset_index(drop=True)


def changed_cells(both: pd.DataFrame) -> pd.DataFrame:
    """The matched cells whose status differs: kind, problem, variant, method, seed, round, base, new, change."""
    changed = both[both["status_base"] != both["status_new"]]
    words = np.select(
        [changed["status_base"] == "ok", changed["status_new"] == "ok"],
        [NEWLY_FAILING, FIXED],
        default=FAILING_OTHERWISE,
    )
    told = changed.assign(change=pd.Series(words, index=changed.index, dtype=object))
    told = told.rename(columns={"status_base": "base", "status_new": "new"})
    return told[[*_TOLD, "base", "new", "change"]].reset_index(drop=True)


def comparable_cells(both: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The matched cells that are ok in both runs and measured the same, and a record of each that did not.

    Not the same are another dtype, device or setting: a result of these would look like an effect of the code. The
    cells are rows of ``both``; a record has problem, variant, method, seed, quantity and reason.
    """
    ok = both[(both["status_base"] == "ok") & (both["status_new"] == "ok")]
    reasons = [_mismatch(row) for row in rows_of(ok)]
    uncompared = [
        {key: row[key] for key in ("problem", "variant", "method", "seed")}
        | {"quantity": _MEASURED_BY.get(row["kind"], "all"), "reason": reason}
        for row, reason in zip(rows_of(ok), reasons, strict=True)
        if reason
    ]
    return ok.loc[[not reason for reason in reasons]], uncompared


def _mismatch(row: Row) -> str:
    """In what two cells differ, where both say it."""
    parts = []
    for name in ("dtype", "device"):
        base, new = (str(row[f"{name}_{side}"]).partition(":")[0] for side in ("base", "new"))  # cuda:1 is cuda
        if base and new and base != new:
            parts.append(f"{name} {base} and {new}")
    settings = [
        variants.experiment({"kind": row["kind"], "settings": row[f"settings_{side}"]}) for side in ("base", "new")
    ]
    parts += [
        f"{name} {' and '.join(own.get(name, 'not set') for own in settings)}" for name in variants.differing(settings)
    ]
    return ", ".join(parts)
