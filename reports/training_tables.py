"""How a run's teachers were trained, and by what of it that departs from the paper's training."""

from collections.abc import Mapping
from typing import Any

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import DASH
from l2t_bench.reports.load import results_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import said
from l2t_bench.reports.words import plural

_NEEDED = ("teacher_lr", "teacher_betas", "teacher_schedule", "students", "clip", "select_every", "select_students")
_COLUMNS = ("problem", "outer steps", "students", "T", "student lr", "Adam on theta", "|d_theta| at most", "kept")
_NOTE = (
    "Students: of one outer step. Student lr: at its beginning; how it goes on, and how sharp the objective is (beta), "
    "the problem's options say. The paper's training is one student an outer step, Adam at 0.0001 (0.9, 0.999) "
    "constant, nothing clipped and the last teacher kept; all else is a departure that was found to teach better."
)


def training_tables(results: Results) -> list[Table]:
    """A row for each problem and way of training; nothing for a run without teachers, or whose settings do not say."""
    trained = [*results_of(results.run, "teacher"), *_with_own_teacher(results)]
    ways: dict[tuple[str, ...], list[str]] = {}
    for cell in trained:
        if all(name in cell["settings"] for name in _NEEDED):
            ways.setdefault(_way(cell["settings"]), []).append(str(cell["problem"]))
    rows = tuple((said(problems), *way) for way, problems in ways.items())
    return [Table("How teachers were trained", _COLUMNS, rows, _NOTE)] if rows else []


def _with_own_teacher(results: Results) -> list[dict[str, Any]]:
    """Teaching cells that have trained the teacher themselves."""
    taught = results_of(results.run, "teaching")
    return [cell for cell in taught if not cell.get("needs") and cell["measurements"].get("outer_steps")]


def _way(settings: Mapping[str, Any]) -> tuple[str, ...]:
    beta1, beta2 = settings["teacher_betas"]
    every, students = settings["select_every"], settings["select_students"]
    return (
        f"{settings['outer_steps']}",
        f"{settings['students']}",
        f"{settings['horizon']:,}",
        f"{settings['lr']:g}",
        f"{settings['teacher_lr']:g} ({beta1:g}, {beta2:g}) {settings['teacher_schedule']}",
        f"{settings['clip']:g}" if settings["clip"] else DASH,
        f"of every {every}, by {plural(students, 'student')} on dev" if every else "the last",
    )
