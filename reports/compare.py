"""What a change did: two runs compared cell by cell."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from l2t_bench.reports import derive, load
from l2t_bench.reports.comparison_cells import (
    NEWLY_FAILING,
    cells_alone,
    changed_cells,
    comparable_cells,
    matched_cells,
)
from l2t_bench.reports.comparison_rows import (
    KEYS,
    accuracy_rows,
    measured_in_both,
    ordered,
    ratio_rows,
    relative_to_baseline,
    without_row,
)
from l2t_bench.reports.comparison_words import seed_list, subject
from l2t_bench.reports.load import Run
from l2t_bench.reports.rows import rows_of

MACHINE = ("cpu", "gpu", "cores", "threads", "platform")  # what times depend on, in an environments/ENV.json
_UNCOMPARED_COLUMNS = [*KEYS, "quantity", "seeds", "reason"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run ``new`` against a run ``base``.

    ``rows`` has one row per problem, method, horizon and quantity: base, new, value, low, high, n, unit, left_out
    (pairs without two usable values), verdict (``better``, ``worse``, ``~`` or ``n too small``).
    ``time`` and ``memory`` are in seconds and MiB, geometric means over the paired seeds, and ``value`` is new/base;
    ``accuracy`` is a fraction, its ``value`` the difference new - base in percentage points. Between machines, base
    and new are ratios to the baseline method on the same machine.
    ``only_base``, ``only_new``: cells with a result in one run alone: kind, problem, method, seed, round, status.
    ``changed``: cells whose status differs: kind, problem, method, seed, round, base, new, change.
    ``not_comparable``: what both have and cannot be compared: problem, method, horizon (missing for all of them),
    quantity, seeds (text, empty for all of them), reason.
    """

    base: str
    new: str
    rows: pd.DataFrame
    only_base: pd.DataFrame
    only_new: pd.DataFrame
    changed: pd.DataFrame
    not_comparable: pd.DataFrame
    notes: tuple[str, ...]
    same_machine: bool

    @property
    def newly_failing(self) -> pd.DataFrame:
        """The cells of ``changed`` that had a result in base and have none in new."""
        return self.changed[self.changed["change"] == NEWLY_FAILING]


def compare(base: Run, new: Run) -> Comparison:
    """Two runs, paired by problem, method, horizon, seed and round (and student seed, for accuracy).

    Times and memory of different machines are compared as ratios to the baseline method that both runs have.
    """
    base_name, new_name = _names(base, new)
    cells = matched_cells(base, new)
    both = cells[cells["_merge"] == "both"]
    sound, uncompared = comparable_cells(both)
    differing, unrecorded = _machine_differences(base, new)
    gradients = measured_in_both(load.gradients(base), load.gradients(new), sound, "gradient")
    students = measured_in_both(load.students(base), load.students(new), sound, "teaching")
    compared = []
    for column, quantity in derive.QUANTITIES.items():
        relative, without_baseline = relative_to_baseline(gradients, column) if differing else (gradients, [])
        rows = ratio_rows(relative, column)
        uncompared += without_row(gradients, rows, without_baseline, quantity, base_name, new_name)
        compared.append(rows)
    accuracies = accuracy_rows(students)
    uncompared += without_row(students, accuracies, [], "accuracy", base_name, new_name)
    rows = ordered(pd.concat([*compared, accuracies], ignore_index=True))
    not_comparable = _collected(uncompared)
    notes = [
        *_machine_notes(differing, unrecorded),
        *_plan_notes(base, new),
        *_left_out_notes(rows),
        *_uncompared_notes(not_comparable),
    ]
    return Comparison(
        base=base_name,
        new=new_name,
        rows=rows,
        only_base=cells_alone(cells, "base"),
        only_new=cells_alone(cells, "new"),
        changed=changed_cells(both),
        not_comparable=not_comparable,
        notes=tuple(notes),
        same_machine=not differing,
    )


def _names(base: Run, new: Run) -> tuple[str, str]:
    if base.name != new.name:
        return base.name, new.name
    return f"{base.name} (base)", f"{new.name} (new)"


def _collected(uncompared: list[dict[str, Any]]) -> pd.DataFrame:
    """What could not be compared, seeds of one reason in one row."""
    frame = pd.DataFrame(uncompared, columns=[*KEYS, "quantity", "seed", "reason"])
    keys = [*KEYS, "quantity", "reason"]
    rows = [
        {**dict(zip(keys, values, strict=True)), "seeds": seed_list(group["seed"].dropna())}
        for values, group in frame.groupby(keys, dropna=False, sort=False)
    ]
    return pd.DataFrame(rows, columns=_UNCOMPARED_COLUMNS).astype({"horizon": "Int64"})


# -- machines


def _machine_differences(base: Run, new: Run) -> tuple[list[str], list[str]]:
    """In what the runs' machines differ, and what cannot be told because a run does not say it."""
    ours, theirs = (run.meta.get("environment") or {} for run in (base, new))
    differing = [
        f"{key}: {_said(ours[key])}, {_said(theirs[key])}"
        for key in MACHINE
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]
    return differing, [key for key in MACHINE if key not in ours or key not in theirs]


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


# -- notes


def _machine_notes(differing: list[str], unrecorded: list[str]) -> list[str]:
    notes = []
    if differing:
        notes.append(
            f"The runs' machines differ ({'; '.join(differing)}): times and memory are compared as ratios to the "
            "baseline method on the same machine."
        )
    if unrecorded:
        notes.append(f"Not recorded by both runs, and taken to be the same: {', '.join(unrecorded)}.")
    return notes


def _plan_notes(base: Run, new: Run) -> list[str]:
    notes = [
        f"The runs' {key}s differ: {base.meta.get(key)} and {new.meta.get(key)}."
        for key in ("suite", "profile")
        if base.meta.get(key) != new.meta.get(key)
    ]
    for run in (base, new):
        left = int((run.cells["status"] == "missing").sum())
        if left:
            notes.append(f"{run.name} has no result yet for {left} of its {len(run.cells)} cells.")
    return notes


def _left_out_notes(rows: pd.DataFrame) -> list[str]:
    left_out = int(rows["left_out"].sum())
    return [f"{left_out} pairs without two usable values are left out."] if left_out else []


def _uncompared_notes(not_comparable: pd.DataFrame) -> list[str]:
    return [
        f"Not compared, and held to no condition ({reason}): {'; '.join(dict.fromkeys(map(subject, rows_of(group))))}."
        for reason, group in not_comparable.groupby("reason", sort=False)
    ]
