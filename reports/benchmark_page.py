"""Records of pytest-benchmark as one self-contained HTML page, and as CSV files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from l2t_bench.reports.benchmark_derive import BenchmarkResults
from l2t_bench.reports.benchmark_figures import draw_benchmarks
from l2t_bench.reports.benchmark_record import Record
from l2t_bench.reports.benchmark_tables import (
    alone_tables,
    headlines,
    left_out_tables,
    paid_tables,
    stated_tables,
    timing_tables,
)
from l2t_bench.reports.document import as_csv, download, render_template, write
from l2t_bench.reports.page import Chip
from l2t_bench.reports.provenance import moment


def write_benchmark_report(results: BenchmarkResults, out: Path | str | None = None) -> Path:
    """Write the page and return where it is: ``out``, else beside the file or in the folder that was read.

    Raises ``UserError`` for a place that cannot be written.
    """
    page = results.benchmarks.place("report.html") if out is None else Path(out)
    write(page, render_benchmarks(results))
    return page


def write_benchmark_csv(results: BenchmarkResults) -> list[Path]:
    """Write the tables of ``benchmark_frames`` beside the file or into the folder, and return where they are."""
    written = []
    for name, frame in benchmark_frames(results).items():
        written.append(results.benchmarks.place(name))
        write(written[-1], as_csv(frame))
    return written


def benchmark_frames(results: BenchmarkResults) -> dict[str, pd.DataFrame]:
    """The tidy tables that are handed on, by file name; those that have a row."""
    timings = results.timings
    frames = {
        "timings.csv": timings.drop(columns=["round_seconds", "at_most", "alone", "peak_above_start_mib"]),
        "rounds.csv": rounds(timings),
        "alone.csv": results.alone,
        "stated.csv": results.stated,
        "break-even.csv": results.break_even.rename(columns={"variant": "record"}),
        "left-out.csv": results.left_out,
    }
    return {name: frame for name, frame in frames.items() if len(frame)}


def rounds(timings: pd.DataFrame) -> pd.DataFrame:
    """One row per timing and round that was kept: record, problem, horizon, phase, method, round, seconds."""
    keys = ["record", "problem", "horizon", "phase", "method"]
    kept = timings[timings["round_seconds"].map(len) > 0]
    long = kept[[*keys, "round_seconds"]].explode("round_seconds", ignore_index=True)
    long = long.assign(round=long.groupby(keys, sort=False).cumcount(), seconds=long["round_seconds"].astype(float))
    return long[[*keys, "round", "seconds"]]


def render_benchmarks(results: BenchmarkResults) -> str:
    """The page's HTML."""
    benchmarks = results.benchmarks
    return render_template(
        "benchmarks.html.j2",
        name=benchmarks.name,
        facts=[_fact(record) for record in benchmarks.records],
        chips=chips(results),
        warnings=benchmarks.warnings,
        headlines=headlines(results),
        sections=[
            ("stated", "Wanted", stated_tables(results)),
            ("timings", "Times", timing_tables(results)),
            ("alone", "In processes of their own", alone_tables(results)),
            ("break-even", "Break-even", paid_tables(results)),
            ("left-out", "Left out", left_out_tables(results)),
        ],
        figures=draw_benchmarks(results),
        provenance=[(record.name, record_provenance(record)) for record in benchmarks.records],
        downloads={name: download(frame) for name, frame in benchmark_frames(results).items()},
    )


def chips(results: BenchmarkResults) -> list[Chip]:
    """How many entries there are of each kind."""
    records = results.benchmarks.records
    counts = [
        Chip("timed", len(results.benchmarks.timings), "good"),
        Chip("of other benchmarks", sum(record.others for record in records), "plain"),
        Chip("left out", len(results.left_out), "plain"),
        Chip("damaged", results.benchmarks.damaged, "bad"),
    ]
    return [chip for chip in counts if chip.count]


def _fact(record: Record) -> str:
    own = record.machine.get("l2t_bench")
    threads = own.get("threads") if isinstance(own, dict) else None
    parts = [
        record.name,
        moment(record.taken),
        _cpu(record.machine),
        f"{threads} thread{'s' * (threads != 1)}" if threads else "",
    ]
    return " · ".join(filter(None, map(str, parts)))


def record_provenance(record: Record) -> list[tuple[str, str]]:
    """Where and with what a record was taken, as rows of a table: machine, commit, versions."""
    machine, commit = record.machine, record.commit
    own = machine.get("l2t_bench")
    ours: Mapping[str, Any] = own if isinstance(own, dict) else {}
    libraries = ours.get("libraries")
    rows = [
        ("taken", moment(record.taken)),
        ("cpu", _cpu(machine)),
        ("cores", _inside(machine, "cpu", "count")),
        ("platform", " ".join(str(machine[key]) for key in ("system", "release", "machine") if machine.get(key))),
        ("python", " ".join(str(machine[k]) for k in ("python_implementation", "python_version") if machine.get(k))),
        ("threads", ours.get("threads")),
        ("torch", ours.get("torch")),
        ("libraries", ", ".join(f"{k} {v}" for k, v in libraries.items() if v) if isinstance(libraries, dict) else ""),
        ("commit", _commit(commit)),
        ("pytest-benchmark", record.version),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _cpu(machine: Mapping[str, Any]) -> Any:
    return _inside(machine, "cpu", "brand_raw") or machine.get("processor")


def _inside(machine: Mapping[str, Any], part: str, key: str) -> Any:
    held = machine.get(part)
    return held.get(key) if isinstance(held, dict) else None


def _commit(commit: Mapping[str, Any]) -> str:
    """``1e2fc4c0925 on work, 2026-01-02 03:04 UTC, with changes that are not committed``."""
    if not commit.get("id"):
        return ""
    branch, when = commit.get("branch"), moment(str(commit.get("time") or ""))
    changed = "with changes that are not committed" if commit.get("dirty") else ""
    told = f"{str(commit['id'])[:12]}{f' on {branch}' if branch else ''}"
    return ", ".join(filter(None, (told, when, changed)))
