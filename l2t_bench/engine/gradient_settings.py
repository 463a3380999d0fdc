"""The settings of gradient cells, apart from what carries them out: a plan is made, and checked, without torch."""

from collections.abc import Mapping
from typing import Any

from l2t_bench.errors import UserError

TASK = "l2t_bench.engine.gradient_cell:measure"


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raises ``UserError`` unless there are positive horizons, and for each how often it is timed, at least once."""
    for name in ("horizons", "repeats"):
        values = settings.get(name)
        if not isinstance(values, list | tuple) or not values or not all(_is_positive(value) for value in values):
            raise UserError(f"{name} must be a list of positive whole numbers, not {values!r}")
    horizons, repeats = settings["horizons"], settings["repeats"]
    if len(horizons) != len(repeats):
        raise UserError(f"repeats must have a number for each of the horizons {list(horizons)}, not {list(repeats)}")
    if len(set(horizons)) < len(horizons):
        raise UserError(f"a horizon stands twice in {list(horizons)}")


def _is_positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
