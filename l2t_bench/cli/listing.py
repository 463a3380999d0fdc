"""``l2t-bench list``: what there is."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import Plugins

if TYPE_CHECKING:
    from l2t_bench.verification.capabilities import Cell

What = Literal["backends", "problems", "losses", "suites", "launchers", "runs"]


def list_names(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Also each name's options with their defaults.")] = False,
    capabilities: Annotated[
        bool,
        typer.Option("--capabilities", help="What each backend does with what a user may bring, found by small runs."),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --capabilities: as a Markdown page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --capabilities: each cell as a record.")] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "-b",
            "--backend",
            help='With --capabilities: this backend, with options such as "rmd[hvp=for]"; repeatable.',
            autocompletion=completion.backends,
        ),
    ] = None,
    plugin: Plugins = None,
) -> None:
    """List backends, problems, fixed losses, suites and launchers, and the runs in the folder runs/."""
    from rich.markup import escape

    from l2t_bench import registry
    from l2t_bench.cli.console import console, error_line
    from l2t_bench.engine.store import list_runs
    from l2t_bench.errors import UserError
    from l2t_bench.plugins import add_plugins

    add_plugins(plugin or ())
    if capabilities and what not in (None, "backends"):
        raise UserError("--capabilities are of backends: l2t-bench list backends --capabilities")
    if (markdown or as_json) and not capabilities:
        raise UserError("--markdown and --json go with --capabilities")
    if backend and not capabilities:
        raise UserError("-b goes with --capabilities")
    if capabilities:
        _print_capabilities(_probed(backend), markdown, as_json)
        return
    names = {
        "backends": registry.list_backends,
        "problems": registry.list_problems,
        "losses": registry.list_losses,
        "suites": registry.list_suites,
        "launchers": registry.list_launchers,
        "runs": list_runs,
    }
    out = console()
    for kind in [what] if what else names:
        out.print(f"[bold]{kind}[/bold]")
        for name in names[kind]():
            told = "" if kind == "runs" else (_options(kind, name) if options else "") + _lack(kind, name)
            out.print(f"  {escape(name + told)}", soft_wrap=True)
        for line in [] if kind == "runs" else registry.left_out(kind):
            error_line(f"warning: {line}")


def _probed(asked: list[str] | None) -> list[str]:
    """The backends asked for, each once; by itself those of the table. Raises ``UserError`` for one that cannot be."""
    from l2t_bench.names import absolute, with_file
    from l2t_bench.registry import load_backend
    from l2t_bench.verification.capabilities import with_variants

    if not asked:
        return with_variants()
    names = list(dict.fromkeys(with_file(name, absolute) for name in asked))
    for name in names:
        load_backend(name)  # a mistake is said before anything runs
    return names


def _print_capabilities(backends: list[str], markdown: bool, as_json: bool) -> None:
    """Try everything, with a bar on standard error where that is a terminal; exit code 1 where something is wrong."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.progress import track

    from l2t_bench.verification.capabilities import Verdict, as_markdown
    from l2t_bench.verification.capabilities import capabilities as probe
    from l2t_bench.verification.probes import PROBES

    errors, total = Console(stderr=True), len(backends) * len(PROBES)
    cells = list(
        track(probe(backends), "probing", total, console=errors, transient=True, disable=not errors.is_terminal)
    )
    if as_json:
        print(json.dumps([asdict(cell) for cell in cells], indent=1))
    elif markdown:
        print(as_markdown(cells))
    else:
        _print_table(cells)
    if any(cell.verdict is Verdict.WRONG for cell in cells):
        raise typer.Exit(1)


def _print_table(cells: "list[Cell]") -> None:
    from rich.markup import escape
    from rich.table import Table

    from l2t_bench.cli.console import console
    from l2t_bench.verification.capabilities import notes, table

    styles = {"exact": "green", "runs": "cyan", "no": "yellow", "WRONG": "bold red", "absent": "dim"}
    header, rows = table(cells)
    drawn = Table(header_style="dim")
    for name in header:
        drawn.add_column(escape(name))
    for brought, *verdicts in rows:
        drawn.add_row(escape(brought), *(f"[{styles[each]}]{each}[/{styles[each]}]" for each in verdicts))
    out = console()
    out.print(drawn)
    for note in notes(cells):
        out.print(escape(note), soft_wrap=True)


def _lack(kind: str, name: str) -> str:
    from l2t_bench.registry import missing_library

    missing = missing_library(kind, name)
    return f"  (not installed: pip install {missing})" if missing else ""


def _options(kind: str, name: str) -> str:
    """The options of a name as it could be written; why it cannot be loaded, where it cannot."""
    from l2t_bench import registry
    from l2t_bench.errors import UserError
    from l2t_bench.names import describe_options

    if kind in ("suites", "launchers"):
        return ""
    class_of = {"backends": registry.backend_class, "problems": registry.problem_class, "losses": registry.loss_class}
    try:
        cls = class_of[kind](name)
    except UserError as error:
        return f"  ({error})"
    written = ",".join(f"{key}={value}" for key, value in describe_options(cls).items())
    return f"[{written}]" if written else ""
