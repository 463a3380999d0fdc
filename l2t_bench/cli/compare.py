"""``l2t-bench compare``: what a change did."""

from pathlib import Path
from typing import Annotated

import typer

from l2t_bench.cli import completion


def compare(
    base: Annotated[Path, typer.Argument(help="The run's folder to compare with.", autocompletion=completion.runs)],
    new: Annotated[Path, typer.Argument(help="The run's folder that is compared.", autocompletion=completion.runs)],
    fail_on: Annotated[
        str | None, typer.Option(help="Exit with 1 where this holds: 'time>1.10', 'accuracy<-0.5 or failures>0'.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown instead of tables.")] = False,
) -> None:
    """Compare two runs: better, worse, undecided, only in one, not comparable and why.

    Exit code 2 where a result is damaged: the others are compared.
    """
    from rich.markup import escape

    from l2t_bench.cli.console import console, error_line
    from l2t_bench.cli.report import loaded, rich_table
    from l2t_bench.reports.compare import compare as compare_runs
    from l2t_bench.reports.comparison_tables import tables
    from l2t_bench.reports.conditions import parse_condition, tripped
    from l2t_bench.reports.table import markdown as as_markdown

    condition = parse_condition(fail_on) if fail_on is not None else None  # a mistake in it is told before any reading
    runs = [loaded(folder) for folder in (base, new)]
    found = compare_runs(*runs)
    if markdown:
        print(as_markdown(tables(found)))
    else:
        for table in tables(found):
            console().print(rich_table(table))
        for note in found.notes:
            console().print(escape(note))
    if condition is not None and (reasons := tripped(found, condition)):
        for reason in reasons:
            error_line(reason)
        raise typer.Exit(1)
    if any(run.damaged for run in runs):
        raise typer.Exit(2)
