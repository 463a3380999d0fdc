"""``l2t-bench report``: the page and the tables of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli.options import RunFolderArgument

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from l2t_bench.reports.load import Run
    from l2t_bench.reports.table import Table


def report(
    run: RunFolderArgument,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the page goes.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown instead.")] = False,
) -> None:
    """Write a run's page (RUN/report.html) and its CSV files, and print its tables.

    Exit code 2 where a result is damaged: the others are shown.
    """
    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.reports.page import write_csv, write_report
    from l2t_bench.reports.table import markdown as as_markdown
    from l2t_bench.reports.text import summary_tables

    found, out = loaded(run), console()
    tables = summary_tables(found)
    if markdown:
        print(as_markdown(tables))
    else:
        for table in tables:
            out.print(rich_table(table))
        written = write_csv(found)
        page = write_report(run, output)
        out.print(f"\ntables: {escape(', '.join(map(str, written)))}")
        out.print(f"page:   {escape(str(page))}")
    if found.damaged:
        raise typer.Exit(2)


def loaded(folder: Path) -> "Run":
    """A run for a report; what is wrong with it goes to standard error."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.reports.load import load_run

    run = load_run(folder)
    for warning in run.warnings:
        error_line(f"warning: {run.name}: {warning}")
    return run


def rich_table(table: "Table") -> "RichTable":
    """A report's table for the terminal."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    drawn = RichTable(
        title=escape(table.title),
        title_justify="left",
        title_style="bold",
        header_style="dim",
        caption=escape(table.note) or None,
        caption_justify="left",
    )
    for position, column in enumerate(table.columns):
        drawn.add_column(escape(column), justify="left" if position < table.text_columns else "right")
    for row in table.rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn
