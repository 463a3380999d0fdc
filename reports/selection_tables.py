"""Which teacher was kept, and what held-out students reached on dev under it, the untrained one and the last."""

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import DASH, fixed
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name
from l2t_bench.reports.words import judged_by

_COLUMNS = ("learned by", "teachers", "untrained", "kept", "last")
_NOTE = (
    "Mean ± standard deviation over held-out students, on dev, under the teacher as it stood before an outer step; "
    "before step 0 it is untrained. Of those that were judged, the one with the highest mean minus standard "
    "deviation is kept."
)


def selection_tables(results: Results) -> list[Table]:
    """One table per problem and variant whose teachers were chosen among."""
    return [_table(case_name(*case), group) for case, group in results.selections.groupby(VARIANT)]


def _table(case: str, group: pd.DataFrame) -> Table:
    several = group["seed"].nunique() > 1
    rows = [
        _row(f"{method}, seed {seed}" if several else method, own.sort_values("outer_step"))
        for method in in_order(group["method"])
        for seed, own in group[group["method"] == method].groupby("seed")
    ]
    title = f"The teacher that was kept on {case}, {judged_by(group['measure'].iloc[0])}"
    return Table(title, _COLUMNS, tuple(rows), _NOTE)


def _row(name: str, own: pd.DataFrame) -> tuple[str, ...]:
    judged = list(rows_of(own))
    first, last = judged[0], judged[-1]
    kept = next((row for row in judged if row["selected"]), None)
    untrained = _told(first) if first["outer_step"] == 0 else DASH
    return (name, str(len(judged)), untrained, DASH if kept is None else _of_step(kept), _of_step(last))


def _of_step(row: Row) -> str:
    return f"before step {row['outer_step']}: {_told(row)}"


def _told(row: Row) -> str:
    decimals = 1 if row["measure"] == "bleu" else 3
    return f"{fixed(row['mean'], decimals)} ± {fixed(row['std'], decimals)}"
