"""Whether teachers that learned by different gradients went the same way: their curves of the dev objective."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from l2t_bench.reports.load import Run
from l2t_bench.reports.methods import VARIANT, in_order, reference_method

FIRST = 5  # outer steps: later ones differ by what rounding has grown to
_CASE = [*VARIANT, "seed"]
_COLUMNS = [*_CASE, "method", "exactness", "against", "first_apart", "apart", "begun", "ended", "rise"]


def exactness_by_method(run: Run) -> dict[str, str]:
    """Of the methods that have trained a teacher, by what their cells say."""
    trained = run.cells[(run.cells["status"] == "ok") & run.cells["kind"].isin(["teacher", "teaching"])]
    told = zip(trained["method"], trained["measurements"], strict=True)
    return {method: measured["exactness"] for method, measured in told if "exactness" in measured}


def curve_agreements(curves: pd.DataFrame, exactness: Mapping[str, str]) -> pd.DataFrame:
    """One row per problem, variant, seed and method.

    ``first_apart`` and ``apart``: the largest |difference| of the dev objective to that of ``against``, an exact
    method, in the first ``FIRST`` outer steps and in all. ``begun``, ``ended``, ``rise``: means of the first and the
    last ``FIRST`` outer steps (of a fifth of them where there are fewer than five times as many), and their difference.
    """
    rows = [
        dict(zip(_CASE, case, strict=True)) | row
        for case, group in curves.groupby(_CASE, sort=False)
        for row in _rows(group, exactness)
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _rows(group: pd.DataFrame, exactness: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    ordered = group.sort_values("outer_step").groupby("method")["value"]
    lines = {str(method): line.to_numpy(float) for method, line in ordered}
    against = reference_method({method: exactness.get(method, "") for method in lines}) or ""
    for method in in_order(lines):
        named = {"method": method, "exactness": exactness.get(method, ""), "against": against}
        other = lines[against] if against and method != against else None
        yield named | _apart(lines[method], other) | _rise(lines[method])


def _apart(line: np.ndarray, other: np.ndarray | None) -> dict[str, float]:
    if other is None:
        return {"first_apart": math.nan, "apart": math.nan}
    common = min(len(line), len(other))
    gaps = np.abs(line[:common] - other[:common])
    return {"first_apart": float(gaps[:FIRST].max()), "apart": float(gaps.max())}


def _rise(line: np.ndarray) -> dict[str, float]:
    few = max(1, min(FIRST, len(line) // FIRST))
    begun, ended = float(line[:few].mean()), float(line[-few:].mean())
    return {"begun": begun, "ended": ended, "rise": ended - begun}
