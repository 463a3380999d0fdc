"""The implicit family apart: what its gradients are worth as solutions of their own equation."""

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import fixed, number
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import rows_of
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_RESIDUAL, _CURVATURE = "diagnostic_residual", "diagnostic_smallest_ritz"
_NOTE = (
    "Implicit methods take omega_T for a stationary point of the training loss: another quantity than the gradient of "
    "the run, however well it is solved. Residual: of their linear system, relative; the median and the largest over "
    "seeds. Curvature: the smallest Ritz value of the training loss's Hessian that was met; where it is negative, "
    "omega_T is no minimum, and what the gradient stands for is open. Cosine and norm ratio to the exact gradient."
)
_COLUMNS = ("T", "method", "seeds", "residual", "largest", "curvature", "smallest", "cosine", "norm ratio")


def stationary_tables(results: Results) -> list[Table]:
    """One table per problem and variant that has a stationary method."""
    gradients = results.gradients[results.gradients["exactness"] == "stationary"]
    gradients = gradients.reindex(columns=[*dict.fromkeys([*gradients.columns, _RESIDUAL, _CURVATURE])])
    return [
        Table(f"The implicit family on {case_name(*case)}", _COLUMNS, _rows(group), _NOTE, text_columns=2, row_header=1)
        for case, group in gradients.groupby(VARIANT)
    ]


def _rows(group: pd.DataFrame) -> tuple[tuple[str, ...], ...]:
    ordered = {method: place for place, method in enumerate(in_order(group["method"]))}
    summed = (
        group.astype({_RESIDUAL: float, _CURVATURE: float})
        .groupby(["horizon", "method"])
        .agg(
            seeds=("seed", "nunique"),
            residual=(_RESIDUAL, "median"),
            largest=(_RESIDUAL, "max"),
            curvature=(_CURVATURE, "median"),
            smallest=(_CURVATURE, "min"),
            cosine=("cosine", "median"),
            norm_ratio=("norm_ratio", "median"),
        )
        .reset_index()
    )
    summed = summed.sort_values(["horizon", "method"], key=lambda column: column.map(ordered).fillna(column))
    return tuple(
        (
            str(row["horizon"]),
            str(row["method"]),
            str(row["seeds"]),
            *(number(row[name], 2) for name in ("residual", "largest", "curvature", "smallest")),
            fixed(row["cosine"], 4),
            number(row["norm_ratio"]),
        )
        for row in rows_of(summed)
    )
