"""Runs in a notebook: tidy DataFrames over any number of them, and their figures as Plotly's."""

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go

from l2t_bench.errors import UserError
from l2t_bench.reports.derive import Results, analyse
from l2t_bench.reports.figures import draw
from l2t_bench.reports.load import load_run

_INK, _PAPER = "#1c2126", "#ffffff"


@dataclass(frozen=True, eq=False)
class Frames:
    """What runs have measured and what follows from it, one row as each table says; ``run`` is the folder's name.

    ``gradients``: a cell and horizon, with cosine, norm ratio and relative error to the exact gradient. ``summary``:
    a method and horizon of a problem, over seeds. ``adjoints``: |w_bar_t| against t. ``students``: a fresh student.
    ``translations``: a fresh student that translates. ``curves``: an outer step. ``selections``: a judged teacher.
    ``teaching``: a teaching cell, by accuracy; ``translating``: by BLEU. ``effective_lrs``: a step of a student.
    ``coefficients``: an entry of Phi_t. ``papers``: a loss beside the paper's number. ``failures``: a cell without a
    result.
    """

    gradients: pd.DataFrame
    summary: pd.DataFrame
    adjoints: pd.DataFrame
    students: pd.DataFrame
    translations: pd.DataFrame
    curves: pd.DataFrame
    selections: pd.DataFrame
    teaching: pd.DataFrame
    translating: pd.DataFrame
    effective_lrs: pd.DataFrame
    coefficients: pd.DataFrame
    papers: pd.DataFrame
    failures: pd.DataFrame


def load_runs(pattern: str | Path | Iterable[str | Path]) -> Frames:
    """The tables of runs: of a folder, of all that a pattern such as ``"runs/*"`` finds, or of several of either.

    Ratios and differences are formed within a run, as its report does. Raises ``UserError`` for a pattern that finds
    nothing, and for a folder that holds no run.
    """
    results = [analyse(load_run(folder)) for folder in _folders(pattern)]
    return Frames(**{each.name: _joined(each.name, results) for each in fields(Frames)})


def load_figures(run: str | Path) -> Mapping[str, go.Figure]:
    """The figures of a run's page by their titles, ready to show. Raises ``UserError`` where there is no run."""
    return {
        f"{group.title}: {panel.title}": _readable(panel.figure)
        for group in draw(analyse(load_run(run)))
        for panel in group.panels
    }


def _folders(pattern: str | Path | Iterable[str | Path]) -> list[Path]:
    patterns = [pattern] if isinstance(pattern, str | Path) else list(pattern)
    found = [folder for each in patterns for folder in _found_by(each)]
    if not found:
        raise UserError(f"{', '.join(map(str, patterns)) or 'no pattern'}: there is no such folder")
    return list(dict.fromkeys(found))


def _found_by(pattern: str | Path) -> list[Path]:
    """What is there by that very name, brackets and all; else the folders that the pattern finds."""
    named = Path(pattern)
    return (
        [named] if named.exists() else [Path(name) for name in sorted(glob.glob(str(pattern))) if Path(name).is_dir()]
    )


def _joined(name: str, results: Iterable[Results]) -> pd.DataFrame:
    parts = []
    for each in results:
        frame = getattr(each, name).copy()
        frame.insert(0, "run", each.run.name)
        parts.append(frame)
    filled = [part for part in parts if len(part)] or parts[:1]
    joined: pd.DataFrame = pd.concat(filled, ignore_index=True)
    return joined


def _readable(figure: go.Figure) -> go.Figure:
    """With colours of its own: on a page, the page's theme gives them."""
    shown = go.Figure(figure)
    shown.update_layout(paper_bgcolor=_PAPER, plot_bgcolor=_PAPER, font={"color": _INK}, margin={"l": 60, "b": 50})
    return shown
