"""Records of pytest-benchmark, read with mistrust: those of outer steps become rows, all others are counted.

``make benchmark`` writes one JSON file a session. Each entry of ours says in its ``extra_info`` what it times, in the
form of ``EXTRA``; nothing is taken from its name.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.engine.records import (
    Form,
    first_misfit,
    is_count,
    is_duration,
    is_number,
    is_object,
    is_text,
    list_of,
    or_null,
)
from l2t_bench.errors import UserError

SCHEMA = 1  # of ``extra_info``
OUTER_STEP, TRAINING = "outer step", "student training"
TIME, MEMORY = "time", "memory"
PEERS = "fastest peer"  # what a stated ratio may be against, beside ``TRAINING`` and a method's name
MIB = 2**20
_LARGEST_FILE = 256 << 20
_LONGEST_TEXT = 300


def _are_durations(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_duration, value))


def _is_text_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_text, value.values()))


def _is_name(value: Any) -> bool:
    return is_text(value) and 0 < len(value) <= _LONGEST_TEXT


_WHOLE: Form = {
    "benchmarks": lambda value: isinstance(value, list) and all(map(is_object, value)),
    "machine_info": is_object,
    "commit_info": is_object,
    "datetime": is_text,
    "version": is_text,
}
_STATS: Form = {
    "median": is_duration,
    "min": is_duration,
    "max": is_duration,
    "iqr": is_duration,
    "q1": is_duration,
    "q3": is_duration,
    "rounds": lambda value: is_count(value) and value > 0,
    "data?": _are_durations,
}
EXTRA: Form = {
    "schema": is_count,
    "problem": _is_name,
    "horizon": lambda value: is_count(value) and value > 0,
    "phase": _is_name,
    "backend": _is_name,
    "alone": lambda value: isinstance(value, bool),  # in a process of its own
    "turns": or_null(_is_name),  # entries of one name took turns: their rounds are pairs
    "peer": lambda value: isinstance(value, bool),  # of another library, that does the same
    "seconds_compile?": or_null(is_duration),
    "peak_above_start_bytes?": lambda value: isinstance(value, list) and all(map(is_count, value)),
    "left_out?": _is_text_by_name,  # backends that were not measured here, and why
    "at_most?": list_of(
        {"of": lambda value: value in (TIME, MEMORY), "against": _is_name, "ratio": lambda v: is_number(v) and v > 0}
    ),
}
TIMING_COLUMNS = [
    *("record", "problem", "horizon", "phase", "alone", "method", "peer", "turns"),
    *("median_seconds", "min_seconds", "max_seconds", "iqr_seconds", "q1_seconds", "q3_seconds", "rounds"),
    *("seconds_compile", "peak_above_start_mib", "round_seconds", "at_most"),
]
LEFT_OUT_COLUMNS = ["record", "problem", "horizon", "method", "reason"]


@dataclass(frozen=True, eq=False)
class Record:
    """One session of pytest-benchmark.

    ``timings`` has one row per entry of ours (``TIMING_COLUMNS``): seconds of one call, round_seconds a tuple of those
    of every round where they were kept, peak in MiB above the start, at_most the ratios that the benchmark states.
    ``left_out`` has a row for each backend that was not measured, and why. ``others`` and ``damaged`` count entries of
    other benchmarks and those of ours that cannot be trusted.
    """

    name: str
    taken: str  # when, as pytest-benchmark writes it
    version: str  # of pytest-benchmark
    machine: Mapping[str, Any]
    commit: Mapping[str, Any]
    timings: pd.DataFrame
    left_out: pd.DataFrame
    others: int
    damaged: int
    warnings: tuple[str, ...]


def read_record(file: Path) -> Record:
    """A file of pytest-benchmark's. Raises ``UserError`` for anything else, and for one without an entry of ours."""
    content = _content(file)
    ours, others, warnings = _sorted_out(content["benchmarks"])
    if not ours:
        counted = f"{len(content['benchmarks'])} entr{'y' if len(content['benchmarks']) == 1 else 'ies'}"
        told = f": {warnings[0]}" if warnings else "; `make benchmark` writes such a record"
        raise UserError(f"{file} is a record of pytest-benchmark, but none of its {counted} times an outer step{told}")
    if others:
        warnings.append(f"{others} entr{'y is' if others == 1 else 'ies are'} of other benchmarks, and left out")
    return Record(
        name=file.stem,
        taken=content["datetime"],
        version=content["version"],
        machine=content["machine_info"],
        commit=content["commit_info"],
        timings=pd.DataFrame([_row(file.stem, entry) for entry in ours], columns=TIMING_COLUMNS),
        left_out=_left_out(file.stem, ours),
        others=others,
        damaged=len(content["benchmarks"]) - len(ours) - others,
        warnings=tuple(warnings),
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{file} is too large to be a record of pytest-benchmark")
        content = json.loads(file.read_text(encoding="utf-8"))
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is cut short or not JSON") from error
    misfit = first_misfit(content, _WHOLE) if isinstance(content, dict) else "benchmarks"
    if misfit is not None:
        raise UserError(
            f"{file} is not a record of pytest-benchmark: it has {misfit!r} missing or of another form; "
            "`make benchmark` writes one under .benchmarks/"
        )
    return dict(content)


def _sorted_out(entries: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], int, list[str]]:
    """Sound entries of ours, the count of those of other benchmarks, and what is wrong with the rest."""
    ours, others, seen = [], 0, set()
    wrong: dict[str, list[str]] = {}
    for entry in entries:
        extra = entry.get("extra_info")
        if not isinstance(extra, dict) or not {"problem", "horizon", "backend"} <= set(extra):
            others += 1
            continue
        what = _misfit(entry, extra)
        key = tuple(str(extra.get(name)) for name in ("problem", "horizon", "phase", "backend", "alone"))
        if what is None and key in seen:
            what = "stands there twice: the first counts"
        if what is None:
            seen.add(key)
            ours.append(entry)
        else:
            wrong.setdefault(what, []).append(str(entry.get("name", "an entry without a name"))[:_LONGEST_TEXT])
    return ours, others, [f"{_some(names)}: {what}" for what, names in wrong.items()]


def _some(names: Sequence[str]) -> str:
    """The first of them, and how many more: a record of another version has hundreds of one kind."""
    more = len(names) - 1
    return f"{names[0]}{f' and {more} more' if more else ''}"


def _misfit(entry: Mapping[str, Any], extra: Mapping[str, Any]) -> str | None:
    """Why an entry of ours is not taken."""
    if extra.get("schema") != SCHEMA:
        return f"its extra_info has schema {extra.get('schema')!r}, this version reads {SCHEMA}"
    if (misfit := first_misfit(extra, EXTRA)) is not None:
        return f"its extra_info has {misfit!r} missing or of another form"
    stats = entry.get("stats")
    if not isinstance(stats, dict):
        return "it has no stats"
    if (misfit := first_misfit(stats, _STATS)) is not None:
        return f"its stats have {misfit!r} missing or of another form"
    return (
        None if len(stats.get("data", ())) in (0, stats["rounds"]) else "its stats have more or fewer data than rounds"
    )


def _row(record: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    extra, stats = entry["extra_info"], entry["stats"]
    peaks: Sequence[int] = extra.get("peak_above_start_bytes") or ()
    compiling = extra.get("seconds_compile")
    return {
        "record": record,
        **{name: extra[name] for name in ("problem", "horizon", "phase", "alone", "peer")},
        "method": extra["backend"],
        "turns": extra["turns"] or "",
        **{f"{name}_seconds": float(stats[name]) for name in ("median", "min", "max", "iqr", "q1", "q3")},
        "rounds": stats["rounds"],
        "seconds_compile": math.nan if compiling is None else float(compiling),
        "peak_above_start_mib": float(np.median(peaks)) / MIB if peaks else math.nan,
        "round_seconds": tuple(map(float, stats.get("data", ()))),
        "at_most": tuple(extra.get("at_most", ())),
    }


def _left_out(record: str, entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        (record, entry["extra_info"]["problem"], entry["extra_info"]["horizon"], method, reason[:_LONGEST_TEXT])
        for entry in entries
        for method, reason in entry["extra_info"].get("left_out", {}).items()
    ]
    return pd.DataFrame(list(dict.fromkeys(rows)), columns=LEFT_OUT_COLUMNS)
