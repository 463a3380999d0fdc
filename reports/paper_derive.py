"""What was measured beside the paper's numbers: one row per student and loss of a suite that repeats a table of it."""

import math
from typing import Any

import pandas as pd

from l2t_bench.paper.numbers import PaperTable, paper_tables
from l2t_bench.reports.estimates import named
from l2t_bench.reports.load import Run
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.statistics import NOTHING, students_mean
from l2t_bench.reports.variants import said

_CASE = ["suite", "profile", "problem", "variant"]
_ESTIMATE = list(named("here", NOTHING))
COLUMNS = [
    *_CASE,
    *("table", "row", "method", "loss", "measure", "measured_in", "paper"),
    *_ESTIMATE,
    *("difference", "teachers", "students", "unit"),
    *("seconds_outer_step", "peak_mib", "outer_steps", "kept_outer_steps", "largest_change"),
    *("horizon", "data", "settings", "status", "message"),
]


def scores(students: pd.DataFrame, translations: pd.DataFrame) -> pd.DataFrame:
    """What the paper's tables tell of each fresh student, as ``score``: test error in %, or test BLEU."""
    classified = students[["cell_id", "seed"]].assign(score=100 * (1 - students["test_accuracy"].astype(float)))
    translated = translations[["cell_id", "seed"]].assign(score=translations["test_bleu"].astype(float))
    return pd.concat([each for each in (classified, translated) if len(each)] or [classified], ignore_index=True)


def beside_the_paper(run: Run, scored: pd.DataFrame, teachings: pd.DataFrame) -> pd.DataFrame:
    """Mean ``scores`` over teachers where a loss has several, else over students; the paper's numbers beside them.

    ``difference`` is ours minus the paper's, in the unit that the table is ``measured_in``. Of several teachers the
    costs are means. A loss without a result has its status and message.
    """
    cells = run.cells[(run.cells["kind"] == "teaching") & run.cells["suite"].isin(list(paper_tables()))]
    rows: list[dict[str, Any]] = []
    for case, group in cells.groupby(_CASE, sort=False):
        table = paper_tables()[str(case[0])]
        for method in in_order(group["method"]):
            own = group[group["method"] == method]
            row = dict(zip(_CASE, case, strict=True)) | _named_in(table, str(case[2]), method, own, teachings)
            rows.append(row | _measured(own, scored, teachings, row["paper"]))
    return pd.DataFrame(rows, columns=COLUMNS)


def _named_in(
    table: PaperTable, problem: str, method: str, own: pd.DataFrame, teachings: pd.DataFrame
) -> dict[str, Any]:
    """What the paper calls the student and the loss, with its number; NaN where it has none."""
    losses = teachings.loc[teachings["cell_id"].isin(own["cell_id"]), "loss"]
    loss = str(losses.iloc[0]) if len(losses) else _loss_without_result(own)
    return {
        "table": table.name,
        "row": table.rows.get(problem, problem),
        "method": method,
        "loss": loss,
        "measure": table.measure,
        "measured_in": table.unit,
        "paper": table.values.get((problem, loss), math.nan) if _papers_own(method) else math.nan,
    }


def _loss_without_result(own: pd.DataFrame) -> str:
    """A cell that reads a teacher was to be taught a learned loss; one that reads a warm start need not be."""
    return "learned" if own["needs"].astype(str).str.startswith("teacher-").any() else str(own["method"].iloc[0])


def _papers_own(method: str) -> bool:
    """A Phi that does not change is learned too, and is not the paper's."""
    return method != "static-teacher"


def _measured(own: pd.DataFrame, scored: pd.DataFrame, teachings: pd.DataFrame, paper: float) -> dict[str, Any]:
    taught = scored[scored["cell_id"].isin(own["cell_id"])]
    costs = teachings[teachings["cell_id"].isin(own["cell_id"])]
    teachers = int(taught["seed"].nunique())
    here = students_mean(taught, taught["score"])
    failed = own[own["status"] != "ok"]
    return {
        **named("here", here),
        "difference": here.value - paper,
        "teachers": teachers,
        "students": len(taught),
        "unit": "teachers" if teachers > 1 else "students",
        **{name: costs[name].astype(float).mean() for name in ("seconds_outer_step", "peak_mib", "largest_change")},
        **{name: costs[name].max() if len(costs) else None for name in ("outer_steps", "horizon")},
        "kept_outer_steps": said(f"{int(step):,}" for step in sorted(costs["selected_outer_step"].dropna())),
        "data": next((data for data in own["data"] if data), ""),
        "settings": own["settings"].iloc[0].get("problem", ""),
        "status": "ok" if failed.empty else str(failed["status"].iloc[0]),
        "message": "" if failed.empty else str(failed["message"].iloc[0]),
    }
