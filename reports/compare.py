"""What a change did: two runs compared cell by cell."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from l2t_bench.reports import gradient_derive, load, load_teaching
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
    aggregate_rows,
    equivalence_rows,
    measured_in_both,
    ordered,
    ratio_rows,
    relative_to_baseline,
    without_row,
)
from l2t_bench.reports.comparison_words import seed_list, subject
from l2t_bench.reports.load import Run
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.variants import HARDWARE, said

_UNCOMPARED_COLUMNS = [*KEYS, "quantity", "seeds", "reason"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run ``new`` against a run ``base``.

    ``rows`` has one row per problem, variant, method, horizon and quantity: base, new, value, low, high, n, unit,
    left_out (pairs without two usable values), verdict (``better``, ``worse``, ``~`` or ``n too small``).
    ``time`` and ``memory`` are in seconds and MiB, geometric means over the paired seeds, and ``value`` is new/base;
    ``accuracy`` is a fraction, its ``value`` the difference new - base in percentage points. Between machines, base
    and new are ratios to the baseline method on the same machine.
    ``only_base``, ``only_new``: cells with a result in one run alone: kind, problem, variant, method, seed, round,
    status. ``changed``: cells whose status differs: the same, with base, new and change for the status.
    ``not_comparable``: what both have and cannot be compared: problem, variant, method, horizon (missing for all of
    them), quantity, seeds (text, empty for all of them), reason.
    ``aggregates`` and ``equivalences``: the ratios over problems, and the accuracies held to the margin that the suite
    states, as ``aggregate_rows`` and ``equivalence_rows`` give them.
    """

    base: str
    new: str
    rows: pd.DataFrame
    only_base: pd.DataFrame
    only_new: pd.DataFrame
    changed: pd.DataFrame
    not_comparable: pd.DataFrame
    aggregates: pd.DataFrame
    equivalences: pd.DataFrame
    notes: tuple[str, ...]
    same_machine: bool

    @property
    def newly_failing(self) -> pd.DataFrame:
        """The cells of ``changed`` that had a result in base and have none in new."""
        return self.changed[self.changed["change"] == NEWLY_FAILING]


def compare(base: Run, new: Run) -> Comparison:
    """Two runs, paired by problem, method, horizon, seed and round (and student seed, for accuracy).

    Cells of other settings are not compared. Where any pair of timed cells was measured on two machines, all times and
    memory are compared as ratios to the baseline method on the same machine, that both runs have.
    """
    base_name, new_name = _names(base, new)
    cells = matched_cells(base, new)
    both = cells[cells["_merge"] == "both"]
    sound, uncompared = comparable_cells(both)
    timed = sound[sound["kind"] == "gradient"]
    differing, unrecorded = _machine_differences(timed)
    gradients = measured_in_both(load.gradients(base), load.gradients(new), sound, "gradient")
    students = measured_in_both(load_teaching.students(base), load_teaching.students(new), sound, "teaching")
    compared = []
    for column, quantity in gradient_derive.QUANTITIES.items():
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
        *_library_notes(timed),
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
        aggregates=aggregate_rows(rows),
        equivalences=equivalence_rows(students),
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


def _machine_differences(timed: pd.DataFrame) -> tuple[list[str], list[str]]:
    """In what the machines of matched cells differ, and what cannot be told because a run does not say it."""
    pairs = list(zip(timed["machine_base"], timed["machine_new"], strict=True))
    differing = []
    for key in HARDWARE:
        known = [(ours[key], theirs[key]) for ours, theirs in pairs if key in ours and key in theirs]
        if apart := [pair for pair in known if pair[0] != pair[1]]:
            ours, theirs = (said((pair[side] for pair in apart), " and ") for side in (0, 1))
            differing.append(f"{key}: {ours}, {theirs}")
    return differing, [key for key in HARDWARE if any(key not in machine for pair in pairs for machine in pair)]


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


def _library_notes(timed: pd.DataFrame) -> list[str]:
    """Another torch may be what is to be compared: it is no other machine, and it is said."""
    ours, theirs = (
        said(machine["torch"] for machine in timed[f"machine_{side}"] if "torch" in machine) for side in ("base", "new")
    )
    return [f"The runs' versions of torch differ: {ours} and {theirs}."] if ours and theirs and ours != theirs else []


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
