"""The words of a comparison that its notes, its tables and the sentences of conditions share."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from l2t_bench.reports.formats import fixed
from l2t_bench.reports.rows import Row
from l2t_bench.reports.variants import case_name


def subject(row: Row) -> str:
    """What a row is about: ``time of rmd on digits/mlp, T = 20``."""
    horizon: str = "" if pd.isna(row["horizon"]) else f", T = {row['horizon']}"
    return f"{row['quantity']} of {row['method']} on {case_name(row['problem'], row['variant'])}{horizon}"


def change(row: Row) -> str:
    """A row's ratio ``1.23 [1.20, 1.27]``, or its percentage points of accuracy ``+0.40 [−0.10, +0.90]``.

    Without an interval where there is none.
    """
    show = _signed if row["quantity"] == "accuracy" else (lambda value: fixed(value, _ratio_decimals(row["value"])))
    value = show(row["value"])
    return value if math.isnan(row["low"]) else f"{value} [{show(row['low'])},\u00a0{show(row['high'])}]"


def _signed(points: float) -> str:
    shown = f"{points:+.2f}"
    return "0.00" if float(shown) == 0 else shown.replace("-", "−")


def _ratio_decimals(value: float) -> int:
    return 2 if value >= 0.1 else min(8, 1 - math.floor(math.log10(value)))


def seed_list(seeds: Iterable[Any]) -> str:
    """Each seed once, in order: ``0, 1, 4``."""
    return ", ".join(str(seed) for seed in sorted({int(seed) for seed in seeds}))
