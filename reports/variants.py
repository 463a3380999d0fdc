"""Under which conditions cells were measured: what tells apart the variants of one experiment, and its machines.

Two results are set against each other only where both are of one variant: the same settings on the same machine.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from l2t_bench.reports.rows import Row, rows_of

HARDWARE = ("cpu", "gpu", "cores", "threads", "platform")  # what times depend on, whatever the libraries
MACHINE = (*HARDWARE, "torch")
_DECLARED = ("suite", "suite_version", "profile", "dtype", "device")
_SIZES: Mapping[str, tuple[str, ...]] = {"gradient": ("horizons", "repeats")}  # what is measured, not how: rows of T

K = TypeVar("K", bound=Hashable)
Name = tuple[str, str]  # where a fact comes from, and what it is called: a setting may be called threads too
Facts = dict[Name, str]


def machine_of(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What of an ``environments/ENV.json`` makes results comparable: those of ``MACHINE`` that it has."""
    return {key: environment[key] for key in MACHINE if key in environment}


def experiment(row: Row) -> dict[str, str]:
    """The settings of a cell that say how it measures, as text by name."""
    left_out = _SIZES.get(row["kind"], ())
    return {name: _text(value) for name, value in row["settings"].items() if name not in left_out}


def labels(cells: pd.DataFrame, *, machines: bool = True) -> pd.Series:
    """What sets each cell apart from the others of its kind and problem: ``profile smoke, threads 4``; else nothing.

    ``cells`` has the columns of ``Run.cells``. A cell that has not been measured is taken to be of the machine of the
    others where they have one. ``horizons`` and ``repeats`` are named only where two cells measure the same.
    """
    told: dict[Any, str] = {}
    for _, group in cells.groupby(["kind", "problem"], dropna=False):
        told |= zip(group.index, _group_labels(list(rows_of(group)), machines), strict=True)
    return pd.Series([told[index] for index in cells.index], index=cells.index, dtype=object)


def case_name(problem: object, variant: object) -> str:
    """How titles name a problem measured under conditions of its own: ``digits/mlp (threads 4)``."""
    return f"{problem} ({variant})" if variant else str(problem)


def said(values: Iterable[Any], joined_by: str = ", ") -> str:
    """Each value once, in the order of their coming."""
    return joined_by.join(dict.fromkeys("none" if value is None else str(value) for value in values))


def differing(facts: Sequence[Mapping[K, Any]]) -> list[K]:
    """The names whose values are not the same everywhere, in the order of their coming."""
    names = dict.fromkeys(name for each in facts for name in each)
    return [name for name in names if len({json.dumps(each.get(name), sort_keys=True) for each in facts}) > 1]


def _group_labels(rows: Sequence[Row], machines: bool) -> list[str]:
    facts = [_declared(row) | _named("setting", experiment(row)) for row in rows]
    if machines:
        facts = [own | machine for own, machine in zip(facts, _machines(rows), strict=True)]
    told = _labels(facts)
    if not _measure_the_same(rows, told):
        return told
    sizes = [_named("setting", {name: _text(value) for name, value in row["settings"].items()}) for row in rows]
    return _labels([own | size for own, size in zip(facts, sizes, strict=True)])


def _declared(row: Row) -> Facts:
    return _named("identity", {name.replace("_", " "): str(row[name]) for name in _DECLARED})


def _machines(rows: Sequence[Row]) -> list[Facts]:
    """What the machines differ in; of one that is not known, that it is not."""
    known = [row["machine"] for row in rows if row["machine"]]
    names = differing(known)
    unmeasured = all(row["machine"] or row["status"] != "ok" for row in rows)
    if not known or (not names and unmeasured):
        return [{} for _ in rows]
    return [
        _named("machine", {name: _text(row["machine"].get(name)) for name in names} if row["machine"] else _UNKNOWN)
        for row in rows
    ]


_UNKNOWN = {"machine": "not known"}


def _named(source: str, facts: Mapping[str, str]) -> Facts:
    return {(source, name): value for name, value in facts.items()}


def _labels(facts: Sequence[Facts]) -> list[str]:
    named = differing(facts)
    return [", ".join(filter(None, (_label(name, own.get(name)) for name in named))) for own in facts]


def _label(name: Name, value: str | None) -> str:
    source, told = name
    if value is None:  # a machine that is not known lacks all that the others have, and says so itself
        return f"no {told}" if source == "setting" else ""
    return f"{told} {value}"


def _measure_the_same(rows: Sequence[Row], told: Sequence[str]) -> bool:
    """Whether two of the cells would give a table the same row twice."""
    seen: dict[tuple[Any, ...], list[set[str] | None]] = {}
    for row, label in zip(rows, told, strict=True):
        earlier = seen.setdefault((row["method"], row["seed"], row["round"], label), [])
        horizons = _horizons(row)
        if any(horizons is None or other is None or horizons & other for other in earlier):
            return True
        earlier.append(horizons)
    return False


def _horizons(row: Row) -> set[str] | None:
    """The horizons of a gradient cell; ``None`` where they cannot be told, or mean nothing."""
    horizons = row["settings"].get("horizons") if row["kind"] in _SIZES else None
    return set(map(str, horizons)) if isinstance(horizons, list) else None


def _text(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
