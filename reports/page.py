"""A run as one self-contained HTML page, and as CSV files.

The page asks no host for anything, and its content security policy forbids it to: only the two scripts that are written
here run, by their hashes, so that no text out of a run's files can become one.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from l2t_bench.reports import marks, text
from l2t_bench.reports.agreement_tables import agreement_tables
from l2t_bench.reports.break_even_tables import break_even_tables
from l2t_bench.reports.coefficients_figure import coefficient_tables
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.document import as_csv, download, render_template, write
from l2t_bench.reports.figures import draw
from l2t_bench.reports.hyper_gradients import hyper_gradient_tables
from l2t_bench.reports.load import Run, load_run
from l2t_bench.reports.paper_tables import paper_tables
from l2t_bench.reports.translation_tables import translation_tables
from l2t_bench.reports.variants import said
from l2t_bench.reports.verdict import findings, headlines


@dataclass(frozen=True)
class Chip:
    """How many cells ended in one way."""

    status: str
    count: int
    tone: str  # good, plain, bad or open


def write_report(run_dir: Path | str, out: Path | str | None = None) -> Path:
    """Write the page of a run, finished or not, and return where it is: ``out``, or the run's ``report.html``.

    Raises ``UserError`` for a path that holds no run, and for one that cannot be written.
    """
    return write_page(analyse(load_run(run_dir)), out)


def write_page(results: Results, out: Path | str | None = None) -> Path:
    """``write_report`` of a run that is analysed already."""
    page = results.run.path / "report.html" if out is None else Path(out)
    write(page, render(results))
    return page


def write_csv(run: Run) -> list[Path]:
    """Write the tables of ``csv_frames`` into the run's folder, and return where they are."""
    return write_frames(analyse(run))


def write_frames(results: Results) -> list[Path]:
    """``write_csv`` of a run that is analysed already."""
    written = []
    for name, frame in csv_frames(results).items():
        written.append(results.run.path / name)
        write(written[-1], as_csv(frame))
    return written


def csv_frames(results: Results) -> dict[str, pd.DataFrame]:
    """The tidy tables that are handed on, by file name."""
    own = {"gradients.csv": results.gradients, "students.csv": results.students, "curves.csv": results.curves}
    others = {
        "translations.csv": results.translations,
        "paper.csv": results.papers,
        "teachers.csv": results.agreements,
        "effective-lr.csv": results.effective_lrs,
        "coefficients.csv": results.coefficients,
        "break-even.csv": results.break_even,
        "others.csv": results.others,
    }
    return own | {name: frame for name, frame in others.items() if len(frame)}


def render(results: Results) -> str:
    """The page's HTML."""
    run, found = results.run, findings(results)
    return render_template(
        "report.html.j2",
        run=run,
        meta=run.meta,
        machines=machines(run),
        started=moment(run.meta.get("created")),
        chips=chips(run.cells),
        waiting=int((run.cells["status"] == "missing").sum()),
        headlines=headlines(found),
        verdict=[(subject, list(group)) for subject, group in groupby(found, lambda one: one.subject)],
        gradient_tables=[
            *text.gradient_tables(results, detail=True),
            *text.aggregate_tables(results),
            *break_even_tables(results.break_even, units="seeds"),
            *hyper_gradient_tables(results),
            *text.warning_tables(results),
        ],
        other_tables=text.other_tables(results),
        paper_tables=paper_tables(results, detail=True),
        teaching_tables=[
            *text.teaching_tables(results, detail=True),
            *translation_tables(results),
            *text.equivalence_tables(results),
            *agreement_tables(results),
            *coefficient_tables(results),
        ],
        failure_tables=text.failure_tables(results),
        figures=draw(results),
        marker_names=exactness_markers(results),
        provenance=provenance(run),
        downloads={name: download(frame) for name, frame in csv_frames(results).items() if len(frame)},
    )


def chips(cells: pd.DataFrame) -> list[Chip]:
    """The counts by status, good news first."""
    tones = {"ok": "good", "refused": "plain", "missing": "open"}
    counts = cells["status"].value_counts()
    ordered = sorted(counts.index, key=lambda status: (list(tones).index(status) if status in tones else 9, status))
    return [Chip(status, int(counts[status]), tones.get(status, "bad")) for status in ordered]


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


def exactness_markers(results: Results) -> list[tuple[str, str]]:
    """The exactness classes that the run has, with the marker that stands for each."""
    present = set(results.gradients["exactness"])
    known = [name for name in marks.SYMBOLS if name in present]
    return [(name, marks.symbol(name)) for name in known + sorted(present - set(known))]
