"""What took the steps of methods that were free to choose, or did not get what they asked for, as a table."""

from l2t_bench.reports.derive import Results
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.table import Table


def engine_tables(results: Results) -> list[Table]:
    """One row per problem, method and horizon, where a reason was kept; no table where every engine was as asked for.

    A record of an earlier version keeps no engine.
    """
    gradients = results.gradients
    told = gradients[gradients["engine"].str.contains(": ", regex=False)] if len(gradients) else gradients
    if told.empty:
        return []
    rows = [
        (str(problem), method, str(horizon), "; ".join(cells["engine"][cells["method"] == method].unique()))
        for (problem, horizon), cells in told.groupby(["problem", "horizon"])
        for method in in_order(cells["method"])
    ]
    columns = ("problem", "method", "T", "its steps were")
    note = "Of engine=auto, which compiles from so many steps of a problem on, and where an engine could not be had."
    return [Table("What took the steps", columns, tuple(rows), note, text_columns=len(columns), row_header=1)]
