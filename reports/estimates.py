"""Estimates in the rows of tables: written into columns, and read from them again."""

from collections.abc import Mapping
from typing import Any

from l2t_bench.reports.statistics import Estimate


def estimate_of(row: Mapping[Any, Any]) -> Estimate:
    """The estimate of a row of intervals."""
    return Estimate(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def named(name: str, estimate: Estimate) -> dict[str, float]:
    """An estimate as columns of a summary; ``estimate_in`` reads them."""
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        f"{name}_n": estimate.n,
    }


def estimate_in(row: Mapping[str, object], name: str) -> Estimate:
    """The estimate that a summary's row holds under ``name``."""
    value, low, high, n = (row[key] for key in (name, f"{name}_low", f"{name}_high", f"{name}_n"))
    return Estimate(float(str(value)), float(str(low)), float(str(high)), int(float(str(n))))
