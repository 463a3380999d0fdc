"""``l2t-bench compare``: what a change did."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion

if TYPE_CHECKING:
    from l2t_bench.reports.compare import Comparison


class Format(StrEnum):
    """What a comparison is printed as."""

    TEXT = "text"
    MARKDOWN = "md"
    JSON = "json"


def compare(
    base: Annotated[Path, typer.Argument(help="The run's folder to compare with.", autocompletion=completion.runs)],
    new: Annotated[Path, typer.Argument(help="The run's folder that is compared.", autocompletion=completion.runs)],
    fail_on: Annotated[
        str | None, typer.Option(help="Exit with 1 where this holds: 'time>1.10', 'accuracy<-0.5 or failures>0'.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="Tables, Markdown for a pull request, or JSON.")
    ] = Format.TEXT,
) -> None:
    """Compare two runs: better, worse, undecided, only in one, not comparable and why.

    Exit code 1 where --fail-on holds; 2 for a mistake in it, and where a result is damaged: the others are compared.
    """
    from l2t_bench.cli.console import error_line
    from l2t_bench.cli.report import loaded
    from l2t_bench.reports.compare import compare as compare_runs
    from l2t_bench.reports.comparison_json import as_json
    from l2t_bench.reports.conditions import outcome, parse_condition, tripped

    condition = parse_condition(fail_on) if fail_on is not None else None  # a mistake in it is told before any reading
    runs = [loaded(folder) for folder in (base, new)]
    found = compare_runs(*runs)
    reasons = [] if condition is None else tripped(found, condition)
    if form is Format.JSON:
        print(as_json(found, condition, reasons))
    else:
        _print_tables(found, as_markdown=form is Format.MARKDOWN)
        if form is Format.MARKDOWN and condition is not None:
            print(outcome(condition, reasons))
    for reason in reasons:
        error_line(reason)
    if reasons:
        raise typer.Exit(1)
    if any(run.damaged for run in runs):
        raise typer.Exit(2)


def _print_tables(found: "Comparison", *, as_markdown: bool) -> None:
    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.cli.report import rich_table
    from l2t_bench.reports.comparison_tables import tables
    from l2t_bench.reports.table import markdown

    if as_markdown:
        print(markdown(tables(found)))
        return
    for table in tables(found):
        console().print(rich_table(table))
    for note in found.notes:
        console().print(escape(note))
