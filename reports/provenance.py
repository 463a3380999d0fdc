"""Where a run's results come from: its machines, when it began, versions, data."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from l2t_bench.reports.load import GB, Run
from l2t_bench.reports.variants import said


def machines(run: Run) -> list[str]:
    """Each machine that results come from, in half a line: processor, cores, threads of a cell, device."""
    threads: dict[tuple[str, ...], list[Any]] = {}
    for environment in measured_on(run):
        cores, device = environment.get("cores"), environment.get("device")
        parts = [
            environment.get("gpu"),
            environment.get("cpu"),
            cores and f"{cores} core{'s' * (cores != 1)}",
            device and f"device {device}",
        ]
        threads.setdefault(tuple(str(part) for part in parts if part), []).append(environment.get("threads"))
    return [", ".join([*parts, *_threads(counts)]) for parts, counts in threads.items()]


def _threads(counts: Sequence[Any]) -> list[str]:
    known = sorted({count for count in counts if isinstance(count, int)})
    return [f"{' or '.join(map(str, known))} thread{'s' * (known != [1])} per cell"] if known else []


def measured_on(run: Run) -> list[Mapping[str, Any]]:
    """The environments of the cells that have a result, in their order."""
    names = dict.fromkeys(run.cells.loc[run.cells["status"] == "ok", "environment"])
    return [run.environments[name] for name in names if name in run.environments]


def moment(stamp: str | None) -> str:
    """``2026-01-02T03:04:05Z`` as people write it; anything else as it is."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)", stamp or "")
    return f"{match[1]} {match[2]} UTC" if match else stamp or ""


_MACHINE = ("platform", "cpu", "cores", "threads", "device", "gpu", "python", "torch")


def provenance(run: Run) -> list[tuple[str, str]]:
    """What a result needs beside it to be understood, as rows of a table."""
    meta, environments = run.meta, measured_on(run)
    versions = sorted({str(cell["identity"].get("suite_version", "?")) for cell in meta["cells"]})
    rows = [
        ("suite", f"{meta['suite']}, version {', '.join(versions)}"),
        ("profile", meta.get("profile")),
        ("seeds", meta.get("seeds")),
        ("data", _each(run.cells["data"])),
        ("started", moment(meta.get("created"))),
        ("time in cells", f"{run.cells['seconds'].sum() / 60:.1f} minutes"),
        *((key, _each(environment.get(key) for environment in environments)) for key in _MACHINE),
        ("libraries", _each(_versions(environment.get("libraries")) for environment in environments)),
        ("commit", _each(map(_commit, environments))),
        ("precision", ", ".join(sorted({str(name) for name in run.cells["dtype"] if name}))),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _each(values: Iterable[Any]) -> str:
    """What the environments say, each answer once."""
    return said((value for value in values if value not in (None, "")), joined_by="; ")


def _versions(libraries: object) -> str:
    if not isinstance(libraries, dict):
        return ""
    return ", ".join(f"{name} {version}" for name, version in libraries.items() if version)


def _commit(environment: Mapping[str, Any]) -> str:
    commit = environment.get("commit")
    return f"{commit}{', with changes that are not committed' if environment.get('dirty') else ''}" if commit else ""


def host_gigabytes(run: Run) -> list[float]:
    """The memory of each machine whose host held the gradients, in whole 10^9 bytes."""
    sizes = [each.get("memory_bytes") for each in measured_on(run) if str(each.get("device", "cpu")) == "cpu"]
    return sorted({float(size // GB) for size in sizes if isinstance(size, int) and size >= GB})
