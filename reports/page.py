"""A run as one self-contained HTML page, and as CSV files.

The page asks no host for anything, and its content security policy forbids it to: only the two scripts that are written
here run, by their hashes, so that no text out of a run's files can become one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pandas as pd

from l2t_bench.reports import marks
from l2t_bench.reports.cell_tables import failure_tables
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.document import as_csv, download, render_template, write
from l2t_bench.reports.failure_details import failure_details, repeating
from l2t_bench.reports.frames import csv_frames
from l2t_bench.reports.load import Run, load_run
from l2t_bench.reports.provenance import machines, moment, provenance
from l2t_bench.reports.sections import sections
from l2t_bench.reports.verdict import findings, headlines, rule
from l2t_bench.reports.words import unfinished


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
        unfinished=unfinished(run.cells["status"]),
        rule=rule(results),
        headlines=headlines(found),
        verdict=[(subject, list(group)) for subject, group in groupby(found, lambda one: one.subject)],
        sections=sections(results),
        failure_tables=failure_tables(results),
        failures=failure_details(run),
        repeating=repeating(run),
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


def exactness_markers(results: Results) -> Sequence[tuple[str, str]]:
    """The exactness classes that the run has, with the marker that stands for each."""
    present = set(results.gradients["exactness"])
    known = [name for name in marks.SYMBOLS if name in present]
    return [(name, marks.symbol(name)) for name in known + sorted(present - set(known))]
