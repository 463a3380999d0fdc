"""A comparison as JSON, for programs: what its tables show, number by number."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from l2t_bench.reports.compare import Comparison
from l2t_bench.reports.conditions import Condition
from l2t_bench.reports.rows import rows_of

SCHEMA = 1
_FRAMES = ("rows", "aggregates", "equivalences", "changed", "only_base", "only_new", "not_comparable")


def as_json(comparison: Comparison, condition: Condition | None = None, tripped: Sequence[str] = ()) -> str:
    """An object with the frames of ``Comparison`` as lists of rows, its notes, and what tripped the condition.

    What a frame has no value for, or one that JSON has not, is ``null``.
    """
    content = {
        "schema": SCHEMA,
        "base": comparison.base,
        "new": comparison.new,
        "same_machine": comparison.same_machine,
        **{name: _rows(getattr(comparison, name)) for name in _FRAMES},
        "notes": list(comparison.notes),
        "condition": None if condition is None else str(condition),
        "tripped": list(tripped),
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{name: _value(value) for name, value in row.items()} for row in rows_of(frame)]


def _value(value: Any) -> Any:
    """As JSON has it: numbers of numpy's are Python's."""
    if value is None or value is pd.NA:
        return None
    plain = value.item() if hasattr(value, "item") else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
