"""``l2t-bench report``: the page, the tables and the files of runs, and of records of pytest-benchmark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
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


class Format(StrEnum):
    """What a report is written as."""

    HTML = "html"
    MARKDOWN = "md"
    CSV = "csv"
    LATEX = "latex"


def report(
    runs: Paths,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where the page, or the text, of a single run goes.")
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Only this: the page, the CSV files, or the tables as Markdown or LaTeX."),
    ] = None,
) -> None:
    """Write a run's page (RUN/report.html) and its CSV files, and print its tables; likewise of benchmarks.

    With --format only one of these; Markdown and LaTeX are printed unless -o names a file. Exit code 2 where a result
    is damaged: the others are shown.
    """
    from l2t_bench.reports.benchmark_load import holds_benchmarks

    if output is not None and len(runs) > 1:
        raise UserError("-o names the page of one run: give one, or leave -o out")
    if output is not None and form is Format.CSV:
        raise UserError("--format csv writes several files into the run's folder: leave -o out")
    damaged = 0
    for path in runs:
        source = _of_benchmarks(path) if holds_benchmarks(path) else _of_run(path)
        _show(source, form, output)
        damaged += source.damaged
    if damaged:
        raise typer.Exit(2)


@dataclass(frozen=True)
class _Source:
    """What a report is made of: a run, or benchmarks."""

    tables: "Callable[[], Sequence[Table]]"  # for a terminal
    document: "Callable[[], Sequence[Table]]"  # in full
    write_page: Callable[[Path | None], Path]
    write_csv: Callable[[], list[Path]]
    damaged: int  # results that cannot be trusted


def _of_run(folder: Path) -> _Source:
    from l2t_bench.reports.derive import analyse
    from l2t_bench.reports.page import write_frames, write_page
    from l2t_bench.reports.text import document_tables, tables_of

    results = analyse(loaded(folder))
    return _Source(
        lambda: tables_of(results),
        lambda: document_tables(results),
        lambda output: write_page(results, output),
        lambda: write_frames(results),
        results.run.damaged,
    )


def _of_benchmarks(path: Path) -> _Source:
    from l2t_bench.cli.console import error_line
    from l2t_bench.reports.benchmark_derive import analyse_benchmarks
    from l2t_bench.reports.benchmark_load import load_benchmarks
    from l2t_bench.reports.benchmark_page import write_benchmark_csv, write_benchmark_report
    from l2t_bench.reports.benchmark_tables import benchmark_tables

    results = analyse_benchmarks(load_benchmarks(path))
    for warning in results.benchmarks.warnings:
        error_line(f"warning: {results.benchmarks.name}: {warning}")
    return _Source(
        lambda: benchmark_tables(results),
        lambda: benchmark_tables(results),
        lambda output: write_benchmark_report(results, output),
        lambda: write_benchmark_csv(results),
        results.benchmarks.damaged,
    )


def _show(source: _Source, form: Format | None, output: Path | None) -> None:
    """Print or write what was asked for, and say where files are."""
    if form in (Format.MARKDOWN, Format.LATEX):
        _write_text(_as_text(source, form), output)
        return
    if form is None:
        _print_tables(source)
    written = [] if form is Format.HTML else source.write_csv()
    page = None if form is Format.CSV else source.write_page(output)
    _say_where(written, page)


def _as_text(source: _Source, form: Format) -> str:
    from l2t_bench.reports.latex import latex
    from l2t_bench.reports.table import markdown

    return (latex if form is Format.LATEX else markdown)(source.document())


def _write_text(text: str, output: Path | None) -> None:
    from l2t_bench.reports.document import write

    if output is None:
        print(text)
    else:
        write(output, text)


def _print_tables(source: _Source) -> None:
    from l2t_bench.cli.console import console

    out = console()
    for table in source.tables():
        out.print(rich_table(table))
    out.print()


def _say_where(written: Sequence[Path], page: Path | None) -> None:
    from rich.markup import escape

    from l2t_bench.cli.console import console

    out = console()
    if written:
        out.print(f"tables: {escape(', '.join(map(str, written)))}")
    if page is not None:
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
