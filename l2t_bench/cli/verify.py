"""``l2t-bench verify``: run the proof ladder of a backend, or of a user's own problem."""

import math
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import Plugins, ProblemFile, method_asked_for, problem_asked_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from l2t_bench.problem import TeachingProblem
    from l2t_bench.verification.ladder import Section


def verify(
    backend: Annotated[
        str | None,
        typer.Argument(
            help="A backend with options, or FILE.py:CLASS; all of them if left out.",
            autocompletion=completion.backends,
        ),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Argument(
            help="A problem with options; samples and digits if left out.", autocompletion=completion.problems
        ),
    ] = None,
    problem_file: ProblemFile = None,
    seed: Annotated[int, typer.Option(help="The student's seed.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, of a problem by name.")] = "cpu",
    plugin: Plugins = None,
) -> None:
    """Hold a backend to the proof ladder, in float64: each check with its figure and its bound.

    With --problem-file: which backends are right on your own problem, and which refuse it and why.
    """
    from l2t_bench.cli.console import console
    from l2t_bench.plugins import add_plugins
    from l2t_bench.registry import list_backends, usable_device
    from l2t_bench.resident import keep_free_memory

    keep_free_memory()
    add_plugins(plugin or ())
    usable_device(device)
    given = problem or problem_file
    own = problem_asked_for(problem, problem_file, dtype="float64", device=device) if given else None
    failed = False
    for name in [method_asked_for(backend)] if backend else list_backends():
        for section in _sections(name, own, seed, device):
            _print_section(console(), section)
            failed = failed or section.failed
    if failed:
        raise typer.Exit(1)


def _sections(backend: str, problem: "TeachingProblem | None", seed: int, device: str) -> "Iterator[Section]":
    from l2t_bench.registry import load_backend
    from l2t_bench.verification.ladder import verify as climb

    return climb(load_backend(backend), problem, seed=seed, device=device)


def _print_section(out: "Console", section: "Section") -> None:
    from rich.markup import escape
    from rich.table import Table

    title = f"{section.backend} on {section.problem}"
    if section.refused:
        out.print(f"[bold]{escape(title)}[/bold]: [yellow]refused[/yellow]: {escape(section.refused)}\n")
        return
    table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="dim")
    for column in ("", "check"):
        table.add_column(column)
    for column in ("figure", "bound"):
        table.add_column(column, justify="right")
    table.add_column("")
    styles = {"pass": "green", "FAIL": "bold red", "info": "cyan", "skip": "yellow"}
    for check in section.checks:
        style = styles[check.outcome]
        table.add_row(
            f"[{style}]{check.outcome}[/{style}]",
            escape(check.name),
            _number(check.figure),
            _number(check.bound),
            f"[dim]{escape(check.note)}[/dim]",
        )
    out.print(table)
    sys.stdout.flush()


def _number(value: float) -> str:
    return "" if math.isnan(value) else "0" if value == 0 else f"{value:.2g}"
