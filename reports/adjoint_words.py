"""What a report says of the methods that have no line in the figure of the adjoints."""

import pandas as pd

from l2t_bench.reports.methods import in_order


def without_adjoint(gradients: pd.DataFrame, adjoints: pd.DataFrame) -> str:
    """``one-step, forward: no adjoint is walked back: none to watch.``, in the words of their own results.

    Empty where every method has an adjoint, and for results of a time before they said it.
    """
    silent = gradients[(gradients["adjoint_said"] != "") & ~gradients["method"].isin(adjoints["method"])]
    return " ".join(
        f"{', '.join(in_order(group['method']))}: {words}." for words, group in silent.groupby("adjoint_said")
    )
