"""The break-even of compilation as a table of strings."""

import math
from collections.abc import Callable, Mapping

import pandas as pd

from l2t_bench.reports.formats import number
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

NEVER = "never"
_Cell = Callable[[Row], str]


def break_even_tables(found: pd.DataFrame, *, units: str) -> list[Table]:
    """A table of each problem and variant that compiled steps. ``units``: what is paired, ``seeds`` or ``rounds``."""
    return [
        _table(f"When compiling has paid on {case_name(problem, variant)}", group, units)
        for (problem, variant), group in found.groupby(["problem", "variant"])
    ]


def _table(title: str, found: pd.DataFrame, units: str) -> Table:
    columns = dict(_COLUMNS)
    longer = (found["seconds_compile_longest"] > found["seconds_compile"]).any()
    if longer:
        columns |= _LONGEST
    rows = tuple(tuple(cell(row) for cell in columns.values()) for row in rows_of(found))
    note = (
        "From so many outer steps on, of T student steps each, compiling once has paid for itself; never: it saves "
        f"nothing. Saved: the median over {units} of what an outer step saves against the same method in plain torch; "
        "in brackets the outer steps by the pair that saves most and by the one that saves least."
    )
    others = found[found["timed_as"] != found["method"]]
    if len(others):
        note += (
            f" {', '.join(others['method'].unique())}: has stayed in plain torch; the times are those of "
            f"{', '.join(others['timed_as'].unique())}."
        )
    if longer:
        note += " Longest: the compilation that took longest, commonly the first, which found nothing on the disk."
    return Table(title, tuple(columns), rows, note, text_columns=3, row_header=1)


def steps_told(count: float) -> str:
    """A number of steps; ``never`` for no such number."""
    return NEVER if math.isinf(count) else f"{count:,.0f}"


def _steps_between(row: Row) -> str:
    least, most = steps_told(row["outer_steps_least"]), steps_told(row["outer_steps_most"])
    own = steps_told(row["outer_steps"])
    return own if least == most == own else f"{own} ({least}–{most})"


_COLUMNS: Mapping[str, _Cell] = {
    "T": lambda row: str(row["horizon"]),
    "method": lambda row: str(row["method"]),
    "against": lambda row: str(row["against"]),
    "saved, s": lambda row: number(row["seconds_saved"]),
    "compile, s": lambda row: number(row["seconds_compile"]),
    "outer steps": _steps_between,
    "student steps": lambda row: steps_told(row["student_steps"]),
}
_LONGEST: Mapping[str, _Cell] = {
    "longest, s": lambda row: number(row["seconds_compile_longest"]),
    "outer steps then": lambda row: steps_told(row["outer_steps_longest"]),
}
