"""What a report says of the methods that have no line in the figure of the adjoints."""

import pandas as pd

from l2t_bench.reports.methods import in_order


def without_adjoint(gradients: pd.DataFrame, adjoints: pd.DataFrame) -> str:
    """``evolution: no adjoint is walked back: none to watch.``, in the words of their own results.

    Empty where every method has walked an adjoint back, and for results of a time before they said it.
    """
    walked = adjoints.loc[adjoints["t"] < adjoints["horizon"], "method"]
    silent = gradients[(gradients["adjoint_said"] != "") & ~gradients["method"].isin(walked)]
    return " ".join(
        f"{', '.join(in_order(group['method']))}: {words}." for words, group in silent.groupby("adjoint_said")
    )
