"""A run as one self-contained HTML page, and as CSV files.

The page asks no host for anything, and its content security policy forbids it to: only the two scripts that are written
here run, by their hashes, so that no text out of a run's files can become one.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from l2t_bench.engine.store import write_text
from l2t_bench.errors import UserError
from l2t_bench.reports import marks, text
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.figures import draw
from l2t_bench.reports.hyper_gradients import hyper_gradient_tables
from l2t_bench.reports.load import Run, load_run
from l2t_bench.reports.panels import Panel
from l2t_bench.reports.variants import said
from l2t_bench.reports.verdict import findings, headlines

_TEMPLATES = Path(__file__).parent / "templates"


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
    results = analyse(load_run(run_dir))
    page = results.run.path / "report.html" if out is None else Path(out)
    _write(page, render(results))
    return page


def write_csv(run: Run) -> list[Path]:
    """Write ``gradients.csv``, ``students.csv`` and ``curves.csv`` into the run's folder, and return where they are."""
    written = []
    for name, frame in csv_frames(analyse(run)).items():
        _write(run.path / name, frame.to_csv(index=False, lineterminator="\n"))
        written.append(run.path / name)
    return written


def csv_frames(results: Results) -> dict[str, pd.DataFrame]:
    """The tidy tables that are handed on, by file name."""
    own = {"gradients.csv": results.gradients, "students.csv": results.students, "curves.csv": results.curves}
    return {**own, **({"others.csv": results.others} if len(results.others) else {})}


def _write(path: Path, content: str) -> None:
    try:
        write_text(path, content.encode("utf-8", errors="replace").decode())
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error


def render(results: Results) -> str:
    """The page's HTML."""
    plotly, own = _script(get_plotlyjs()), _script((_TEMPLATES / "report.js").read_text(encoding="utf-8"))
    run, found = results.run, findings(results)
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
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
            *hyper_gradient_tables(results),
            *text.warning_tables(results),
        ],
        other_tables=text.other_tables(results),
        teaching_tables=[*text.teaching_tables(results, detail=True), *text.equivalence_tables(results)],
        failure_tables=text.failure_tables(results),
        figures=draw(results),
        markers=marks.MARKER_PATHS,
        marker_names=exactness_markers(results),
        figure_data=_figure_data,
        provenance=provenance(run),
        downloads={name: _download(frame) for name, frame in csv_frames(results).items() if len(frame)},
        style=Markup((_TEMPLATES / "report.css").read_text(encoding="utf-8")),
        scripts=(plotly, own),
        policy=_policy(plotly, own),
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


def _figure_data(panel: Panel) -> Markup:
    """A plot as JSON that cannot end the element it stands in."""
    data = panel.figure.to_json()
    for character in "<>&\u2028\u2029":
        data = data.replace(character, f"\\u{ord(character):04x}")
    return Markup(data)


def _download(frame: pd.DataFrame) -> str:
    content = frame.to_csv(index=False, lineterminator="\n").encode("utf-8", errors="replace")
    return f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode()}"


def _script(source: str) -> Markup:
    """A script's text as a browser will hash it."""
    return Markup(source.replace("\r\n", "\n").replace("\r", "\n"))


def _policy(*scripts: str) -> str:
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
