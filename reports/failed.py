"""The methods that have no gradient where they were to have one, and how they failed: at the border of figures."""

import pandas as pd

from l2t_bench.reports.methods import VARIANT, in_order
from l2t_bench.reports.words import status_words

COLUMNS = [*VARIANT, "horizon", "method", "status"]


def failed_methods(cells: pd.DataFrame, gradients: pd.DataFrame) -> pd.DataFrame:
    """One row per problem, variant, horizon and method of which every cell that has ended ended without a result.

    ``cells`` are those of a ``Run``, ``gradients`` what they measured. The horizons are those that the cells were to
    measure; where they do not say it, those that others of the same problem and variant have.
    """
    planned = cells[(cells["kind"] == "gradient") & (cells["status"] != "missing")]
    rows = []
    for (problem, variant), group in planned.groupby(VARIANT):
        measured = gradients[(gradients["problem"] == problem) & (gradients["variant"] == variant)]
        for method in in_order(set(group["method"]) - set(measured["method"])):
            own = group[group["method"] == method]
            status = status_words(own["status"])
            rows += [
                {"problem": problem, "variant": variant, "horizon": horizon, "method": method, "status": status}
                for horizon in _asked(own) or sorted(set(measured["horizon"]))
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _asked(own: pd.DataFrame) -> list[int]:
    """The horizons in the settings of a method's cells."""
    asked = (settings.get("horizons") for settings in own["settings"])
    found = {each for horizons in asked if isinstance(horizons, list) for each in horizons if isinstance(each, int)}
    return sorted(found)
