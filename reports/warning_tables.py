"""What the methods warned of, as tables that are ready to print."""

from l2t_bench.reports.derive import Results
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.table import Table


def warning_tables(results: Results) -> list[Table]:
    """What the methods warned of; no table where there is nothing."""
    return [*gradient_warning_tables(results), *teaching_warning_tables(results)]


def teaching_warning_tables(results: Results) -> list[Table]:
    """One row per teacher that learned from gradients that were warned of."""
    teaching = results.teaching
    warned = teaching[teaching["steps_warned"] > 0] if len(teaching) else teaching
    if warned.empty:
        return []
    rows = [
        (cell["problem"], cell["method"], f"{cell['steps_warned']} of {cell['outer_steps']}", cell["warning"])
        for cell in warned.to_dict("records")
    ]
    columns = ("problem", "method", "outer steps", "warning")
    note = "Outer steps with a student whose gradient was warned of, in the words of the first."
    return [Table("Warnings while teaching", columns, tuple(rows), note, text_columns=len(columns), row_header=1)]


def gradient_warning_tables(results: Results) -> list[Table]:
    """One row per problem, method and horizon."""
    gradients = results.gradients
    warned = gradients[gradients["warnings"] != ""]
    if warned.empty:
        return []
    rows = [
        (str(problem), method, str(horizon), str(group["seed"].nunique()), str(group["warnings"].iloc[0]))
        for (problem, horizon), cells in warned.groupby(["problem", "horizon"])
        for method in in_order(cells["method"])
        for group in (cells[cells["method"] == method],)
    ]
    columns = ("problem", "method", "T", "seeds", "warning")
    return [
        Table(
            "Warnings", columns, tuple(rows), "In the words of the first seed.", text_columns=len(columns), row_header=1
        )
    ]
