"""``l2t-bench report``: the page and the tables of runs, and of records of pytest-benchmark."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion
from l2t_bench.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from l2t_bench.reports.load import Run
    from l2t_bench.reports.table import Table

Paths = Annotated[
    list[Path],
    typer.Argument(
        help="Folders of runs; JSON files of pytest-benchmark, or folders with some, such as .benchmarks.",
        metavar="RUN...",
        autocompletion=completion.runs,
    ),
]


def report(
    runs: Paths,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the page of a single run goes.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown instead.")] = False,
) -> None:
    """Write a run's page (RUN/report.html) and its CSV files, and print its tables; likewise of benchmarks.

    Exit code 2 where a result is damaged: the others are shown.
    """
    from l2t_bench.reports.benchmark_load import holds_benchmarks

    if output is not None and len(runs) > 1:
        raise UserError("-o names the page of one run: give one, or leave -o out")
    damaged = 0
    for path in runs:
        show = _show_benchmarks if holds_benchmarks(path) else _show_run
        damaged += show(path, output, markdown)
    if damaged:
        raise typer.Exit(2)


def _show_run(folder: Path, output: Path | None, markdown: bool) -> int:
    """How many results of the run are damaged."""
    from l2t_bench.reports.page import write_csv, write_report
    from l2t_bench.reports.text import summary_tables

    found = loaded(folder)
    _show(summary_tables(found), markdown, lambda: (write_csv(found), write_report(folder, output)))
    return found.damaged


def _show_benchmarks(path: Path, output: Path | None, markdown: bool) -> int:
    """How many files and entries below the path are damaged."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.reports.benchmark_derive import analyse_benchmarks
    from l2t_bench.reports.benchmark_load import load_benchmarks
    from l2t_bench.reports.benchmark_page import write_benchmark_csv, write_benchmark_report
    from l2t_bench.reports.benchmark_tables import benchmark_tables

    results = analyse_benchmarks(load_benchmarks(path))
    for warning in results.benchmarks.warnings:
        error_line(f"warning: {results.benchmarks.name}: {warning}")
    _show(
        benchmark_tables(results),
        markdown,
        lambda: (write_benchmark_csv(results), write_benchmark_report(results, output)),
    )
    return results.benchmarks.damaged


def _show(tables: Sequence["Table"], markdown: bool, write: Callable[[], tuple[list[Path], Path]]) -> None:
    """Print tables and, unless as Markdown, write the files and say where they are."""
    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.reports.table import markdown as as_markdown

    if markdown:
        print(as_markdown(tables))
        return
    out = console()
    for table in tables:
        out.print(rich_table(table))
    written, page = write()
    out.print(f"\ntables: {escape(', '.join(map(str, written)))}")
    out.print(f"page:   {escape(str(page))}")


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
        is_text = position < table.text_columns
        drawn.add_column(
            escape(column), justify="left" if is_text else "right", overflow="fold"
        )  # a name is kept whole
    for row in table.rows:
        drawn.add_row(*(escape(cell) for cell in row))
    return drawn
