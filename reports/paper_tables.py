"""The paper's tables, what was measured beside them, and what had to be assumed: tables that are ready to print."""

from collections.abc import Sequence

import pandas as pd

from l2t_bench.paper.assumed import Assumption, assumed_for
from l2t_bench.reports.derive import Results
from l2t_bench.reports.estimates import estimate_in
from l2t_bench.reports.formats import DASH, fixed, number, signed
from l2t_bench.reports.methods import STATIC
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import TOO_SMALL
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import said

_DETAIL = ("outer steps", "max |Δθ|", "profile", "data")
_NOTE = (
    "Here: the mean over n fresh students, of several teachers over these, with a 95 % bootstrap interval; "
    "the difference to the paper's number means something only where profile and data are the "
    "paper's. Outer step: seconds of its teacher gradients, the median; peak: all that the process held."
)
_CHANGE = (
    " Outer steps, k of n: of the teachers that held-out students judged, the one before step k was kept; before 0 it "
    "is untrained. max |Δθ|: the largest change of an entry of the teacher, by its last outer step."
)


def paper_tables(results: Results, *, detail: bool = False) -> list[Table]:
    """The rows of the paper's tables that the run repeats, one table for each student, and what was assumed for them.

    ``detail`` adds columns that a terminal has no room for.
    """
    cases = ["table", "row", "problem", "profile", "variant"]
    found = [_table(group, detail) for _, group in results.papers.groupby(cases, sort=False)]
    taken = dict.fromkeys(each for suite in results.papers["suite"].unique() for each in assumed_for(str(suite)))
    return [*found, assumed_table(list(taken))] if found else []


def _table(group: pd.DataFrame, detail: bool) -> Table:
    first = next(rows_of(group))
    apart = f" ({first['variant']})" if first["variant"] else ""
    told = [f"profile {first['profile']}{apart}", *filter(None, [said(filter(None, group["data"]))])]
    title = f"{first['table']}, {_student(first)}: {', '.join(told)}"
    note = f"Measured: {first['measure']}, in {first['measured_in']}. {_NOTE}" + (_CHANGE if detail else "")
    if first["profile"] != "paper":
        note += f" Not the paper's experiment: {first['settings']}, T={_count(group['horizon'].max())}."
    columns = _columns(first["measured_in"]) + (_DETAIL if detail else ())
    return Table(title, columns, tuple(_row(row)[: len(columns)] for row in rows_of(group)), note)


def _columns(unit: str) -> tuple[str, ...]:
    return ("loss", f"paper, {unit}", f"here, {unit}", "difference", "n", "outer step, s", "peak MiB")


def _student(row: Row) -> str:
    """``ResNet-8 on cifar100``: one row of the paper has several data sets."""
    return str(row["row"]) if row["row"] == row["problem"] else f"{row['row']} on {row['problem'].partition('/')[0]}"


def _row(row: Row) -> tuple[str, ...]:
    found = estimate_in(row, "here")
    here, difference, count = str(row["status"]), DASH, DASH
    if row["status"] == "ok":
        interval = f" [{fixed(found.low, 2)},\u00a0{fixed(found.high, 2)}]" if found.enough else ""
        here, difference = f"{fixed(found.value, 2)}{interval}", signed(row["difference"], 2)
        count = f"{found.n} {row['unit']}{'' if found.enough else f', {TOO_SMALL}'}"
    learned = row["loss"] == "learned"
    return (
        f"learned by {row['method']}" if learned and row["method"] != STATIC else str(row["method"]),
        fixed(row["paper"], 2),
        here,
        difference,
        count,
        number(row["seconds_outer_step"]),
        fixed(row["peak_mib"], 0),
        _outer_steps(row) if learned else DASH,
        number(row["largest_change"], 2),
        str(row["profile"]),
        str(row["data"]) or DASH,
    )


def _outer_steps(row: Row) -> str:
    """How many were taken, and before which the teacher that was kept stood, where that is not the last."""
    taken, kept = _count(row["outer_steps"]), str(row["kept_outer_steps"])
    return taken if kept in ("", taken) else f"{kept} of {taken}"


def _count(value: float | None) -> str:
    return DASH if value is None or pd.isna(value) else f"{int(value):,}"


def assumed_table(taken: Sequence[Assumption]) -> Table:
    """What the paper does not say, and how profile ``paper`` takes it."""
    rows = tuple((each.what, each.taken, each.why) for each in taken)
    return Table("Assumed, not in the paper", ("what", "taken", "why"), rows, "Of profile paper.", text_columns=3)
