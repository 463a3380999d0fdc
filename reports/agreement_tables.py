"""Do the teachers' curves rise, and do those of exact gradients coincide? As tables that are ready to print."""

import pandas as pd

from l2t_bench.reports.agreement import FIRST
from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import DASH, fixed, number
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_COLUMNS = ("learned by", "gradient", "from", "to", "rise", "against", f"apart, first {FIRST}", "apart, all")
_NOTE = (
    "The dev objective along the outer steps: means of the first and of the last ones. Apart: the largest difference "
    "to the exact gradient that it is held against, from the same seeds. Exact gradients differ by rounding alone, "
    "which outer steps make larger."
)


def agreement_tables(results: Results) -> list[Table]:
    """One table per problem and variant with more than one learned loss."""
    return [
        Table(f"The teachers' curves on {case_name(*case)}", _COLUMNS, _rows(group), _NOTE, text_columns=2)
        for case, group in results.agreements.groupby(VARIANT)
        if group["method"].nunique() > 1
    ]


def _rows(group: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    several = group["seed"].nunique() > 1
    return tuple(_row(row, several) for row in rows_of(group))


def _row(row: Row, several: bool) -> tuple[str, ...]:
    return (
        f"{row['method']}, seed {row['seed']}" if several else str(row["method"]),
        str(row["exactness"]) or DASH,
        fixed(row["begun"], 4),
        fixed(row["ended"], 4),
        fixed(row["rise"], 4),
        str(row["against"]) if row["method"] != row["against"] and row["against"] else DASH,
        number(row["first_apart"], 2),
        number(row["apart"], 2),
    )
