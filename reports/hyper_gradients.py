"""The derivatives of the teacher's objective by the student's optimiser, as a table."""

import pandas as pd

from l2t_bench.reports.derive import Results
from l2t_bench.reports.formats import figure
from l2t_bench.reports.load import HYPER
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.statistics import bootstrap_mean
from l2t_bench.reports.table import Table
from l2t_bench.reports.variants import case_name

_OF_OMEGA_0 = f"{HYPER}d_omega0_norm"  # every exact method finds it: by itself it is no reason for a table


def hyper_gradient_tables(results: Results) -> list[Table]:
    """One row per problem, horizon and method that gave hyper-gradients; no table where none did."""
    gradients = results.gradients
    columns = [str(name) for name in gradients.columns if str(name).startswith(HYPER)]
    asked = [name for name in columns if name != _OF_OMEGA_0]
    found = gradients[gradients[asked].notna().any(axis=1)] if asked else gradients.iloc[:0]
    if found.empty:
        return []
    rows = [
        (case_name(problem, variant), str(horizon), method, *_row(cells[cells["method"] == method], columns))
        for (problem, variant, horizon), cells in found.groupby([*VARIANT, "horizon"])
        for method in in_order(cells["method"])
    ]
    return [
        Table(
            "Hyper-gradients",
            ("problem", "T", "method", "seeds", *(name.removeprefix(HYPER) for name in columns)),
            tuple(rows),
            "Derivatives of the dev objective by the student's optimiser, per unit of each number; of a vector (the lr "
            "of every step, omega_0) its norm, and its sum: the derivative by a shift of all steps alike. Means over "
            "seeds with a 95 % bootstrap interval; the objective is maximised, so a positive one asks for more.",
            text_columns=3,
            row_header=2,
        )
    ]


def _row(cells: pd.DataFrame, columns: list[str]) -> tuple[str, ...]:
    means = [figure(bootstrap_mean(cells[name].dropna().to_numpy(dtype=float))) for name in columns]
    return (str(cells["seed"].nunique()), *means)
