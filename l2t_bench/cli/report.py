"""``l2t-bench report``: the page and the tables of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from l2t_bench.reports.text import Table


def report(
    folder: Annotated[Path, typer.Argument(help="The run's folder.", metavar="RUN")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the page goes.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown instead.")] = False,
) -> None:
    """Write a run's page (RUN/report.html) and its CSV files, and print its tables."""
    from l2t_bench.reports.load import load_run
    from l2t_bench.reports.text import markdown as as_markdown
    from l2t_bench.reports.text import summary_tables

    if markdown:
        print(as_markdown(summary_tables(load_run(folder))))
        return
    show(folder, output)


def show(folder: Path, output: Path | None = None) -> None:
    """Print the tables, write the files, say where they are."""
    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.reports.load import load_run
    from l2t_bench.reports.page import write_csv, write_report
    from l2t_bench.reports.text import summary_tables

    finished = load_run(folder)
    out = console()
    for warning in finished.warnings:
        out.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    for table in summary_tables(finished):
        out.print(rich_table(table))
    tables = write_csv(finished)
    page = write_report(folder, output)
    out.print(f"\ntables: {escape(', '.join(str(path) for path in tables))}")
    out.print(f"page:   {escape(str(page))}")


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
