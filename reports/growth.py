"""How time and memory of a teacher gradient grow with the horizon: a line through what was measured.

By theory an outer step takes what it takes once and so much for each of the T steps of the student; what a method keeps
of a run grows likewise, in T or not at all. How far a measurement is off that line is told beside it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from l2t_bench.reports.gradient_derive import QUANTITIES
from l2t_bench.reports.load import GB, MIB
from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.rows import rows_of

MEMORIES_GB = (1.0, 8.0, 24.0, 80.0)  # a small share of a machine, a laptop, and two common cards
_UNITS: Mapping[str, str] = {"time": "s", "memory": "MiB"}
_ALIKE = 0.1  # as a share: sizes nearer to each other need no column each
_ANY = 10**7  # steps: so slow a growth is not told from none

COLUMNS = [
    *VARIANT,
    *("method", "exactness", "quantity", "unit"),
    *("horizons", "least_horizon", "most_horizon", "fixed", "per_step", "misfit"),
]


def growth(summary: pd.DataFrame) -> pd.DataFrame:
    """The law ``fixed + per_step * T`` of each method's medians, one row per problem, variant, method and quantity.

    ``unit``: s of ``time``, MiB above the start of ``memory``. ``horizons``: how many were measured, two at least, from
    ``least_horizon`` to ``most_horizon``. ``misfit``: the largest |law / measured - 1|.
    """
    rows = []
    for (problem, variant), group in summary.groupby(VARIANT):
        for method in in_order(group["method"]):
            own = group[group["method"] == method]
            for column, quantity in QUANTITIES.items():
                measured = own[own[column] > 0]
                if measured["horizon"].nunique() < 2:
                    continue
                fixed, per_step, misfit = line_of(measured["horizon"].to_numpy(float), measured[column].to_numpy(float))
                rows.append(
                    {"problem": problem, "variant": variant, "method": method}
                    | {"exactness": own["exactness"].iloc[0], "quantity": quantity, "unit": _UNITS[quantity]}
                    | {"horizons": measured["horizon"].nunique()}
                    | {"least_horizon": measured["horizon"].min(), "most_horizon": measured["horizon"].max()}
                    | {"fixed": fixed, "per_step": per_step, "misfit": misfit}
                )
    return pd.DataFrame(rows, columns=COLUMNS)


def line_of(horizons: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """``fixed``, ``per_step``, both 0 or more, by least squares of the relative errors; and the largest of these.

    Source: Lawson and Hanson, Solving Least Squares Problems, 1974, ch. 23 (by scipy).
    """
    scaled = np.column_stack([1 / values, horizons / values])
    (fixed, per_step), _ = nnls(scaled, np.ones(len(values)))
    return float(fixed), float(per_step), float(np.max(np.abs(scaled @ [fixed, per_step] - 1)))


def largest_horizon(fixed: float, per_step: float, limit: float) -> float:
    """The largest T at which ``fixed + per_step * T`` stays within ``limit``; 0: none; ``inf``: ten million or more."""
    if fixed > limit:
        return 0.0
    steps = math.inf if per_step == 0 else math.floor((limit - fixed) / per_step)
    return math.inf if steps >= _ANY else float(steps)


def fitting_horizons(laws: pd.DataFrame, gigabytes: Sequence[float]) -> pd.DataFrame:
    """The largest T whose peak above the start stays within each memory, by the laws of ``growth``.

    One row per problem, variant, method and memory: exactness, ``memory_gb`` (10^9 bytes), ``largest_horizon`` rounded
    down to two digits (0: none, ``inf``: any, as memory does not grow with T), and the law's ``misfit``.
    """
    rows = [
        {key: row[key] for key in (*VARIANT, "method", "exactness", "misfit")}
        | {"memory_gb": memory}
        | {"largest_horizon": rounded_down(largest_horizon(row["fixed"], row["per_step"], memory * GB / MIB))}
        for row in rows_of(laws[laws["quantity"] == "memory"])
        for memory in gigabytes
    ]
    return pd.DataFrame(rows, columns=[*VARIANT, "method", "exactness", "memory_gb", "largest_horizon", "misfit"])


def memories_with(machines: Sequence[float]) -> list[float]:
    """The memories, in 10^9 bytes, that a largest T is told for: common ones, and of machines what is like none."""
    others = [own for own in machines if all(abs(own / common - 1) > _ALIKE for common in MEMORIES_GB)]
    return sorted({*MEMORIES_GB, *others})


def rounded_down(steps: float) -> float:
    """To two digits: 12,999 is 12,000."""
    if steps < 100 or math.isinf(steps):
        return steps
    unit = 10.0 ** (math.floor(math.log10(steps)) - 1)
    return math.floor(steps / unit) * unit
