"""A backend chosen by what runs have measured: the same questions, answered by their results."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from l2t_bench.errors import UserError
from l2t_bench.gradient import Exactness
from l2t_bench.reports.load import load_run
from l2t_bench.reports.notebook import load_runs
from l2t_bench.selection.candidates import EXACT
from l2t_bench.selection.records import Asked, Candidate, Decision, Quality, least
from l2t_bench.units import told

_MIB = 1 << 20


def select_from_runs(folders: Sequence[str | Path], problem: str, asked: Asked) -> Decision:
    """The method that took least on ``problem`` at ``asked.horizon``, by the medians of its gradient cells.

    ``asked.room`` bounds the peak above the start. Raises ``UserError`` for folders that hold no run, and where no run
    has that problem at that horizon.
    """
    frames = load_runs(folders)
    summary = frames.summary
    rows = summary[(summary["problem"] == problem) & (summary["horizon"] == asked.horizon)]
    if rows.empty:
        known = sorted({f"{row.problem} at T={row.horizon}" for row in summary.itertuples()})
        raise UserError(f"no run has {problem} at T={asked.horizon}; there are {', '.join(known) or 'no gradients'}")
    _check_one_setting(rows)
    candidates = [_with_warnings(_candidate(row, asked), row, frames.gradients) for _, row in rows.iterrows()]
    return Decision(asked, candidates, least(candidates, asked.prefer), _measured_on(folders))


def _measured_on(folders: Sequence[str | Path]) -> Mapping[str, Any]:
    """The environment's record of the first cell there: results of other machines would be other settings' rows."""
    records = (record for folder in folders for record in load_run(folder).environments.values())
    return next(records, {})


def _check_one_setting(rows: pd.DataFrame) -> None:
    """Raises ``UserError`` where a method has several results there: on other machines, or with other settings."""
    method, count = next(iter(rows["method"].value_counts().items()))
    if count > 1:
        raise UserError(
            f"{method} has {count} results there, of several runs, machines or settings: give one run of one of them"
        )


def _with_warnings(known: Candidate, row: Any, gradients: pd.DataFrame) -> Candidate:
    """With what its results warn of, in the words of the first: steps that fell back were not those of its name."""
    own = gradients[(gradients[["problem", "horizon", "method"]] == row[["problem", "horizon", "method"]]).all(axis=1)]
    warned = [text for text in own["warnings"] if text]
    return replace(known, proof=f"{known.proof}; {warned[0]}") if warned and known.proof else known


def _candidate(row: Any, asked: Asked) -> Candidate:
    exactness = Exactness(row["exactness"])
    taken = round(float(row["peak_above_start_mib"]) * _MIB) if pd.notna(row["peak_above_start_mib"]) else None
    known = Candidate(str(row["method"]), exactness, taken, float(row["seconds"]), *_quality(row, exactness, asked))
    if known.rejected or asked.room is None or (taken is not None and taken <= asked.room):
        return known
    why = "its memory was not measured" if taken is None else f"took {told(taken)}, and {told(asked.room)} are allowed"
    return replace(known, rejected=why)


def _quality(row: Any, exactness: Exactness, asked: Asked) -> tuple[str, str]:
    """What its gradient was held to, and why it is not taken."""
    if exactness in EXACT:
        return f"{int(row['seeds'])} seeds measured", ""
    if refusal := asked.accepted.refusal(exactness):
        return "", refusal
    quality = Quality(asked.horizon, float(row["cosine_worst"]), float(row["norm_ratio_worst"]))
    said = quality.said(asked.horizon)
    return (said, "") if asked.accepted.takes(quality) else ("", f"{said}; {asked.accepted}")
