"""``l2t-bench list``: what there is."""

from typing import Annotated, Literal

import typer

What = Literal["backends", "problems", "suites", "runs"]


def list_names(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Also each name's options with their defaults.")] = False,
    plugin: Annotated[list[str] | None, typer.Option(help="A Python file with backends or suites.")] = None,
) -> None:
    """List backends, problems and suites, and the runs in the folder runs/."""
    from rich.markup import escape

    from l2t_bench import registry
    from l2t_bench.cli.console import console

    registry.add_plugins(plugin or ())
    names = {
        "backends": registry.list_backends,
        "problems": registry.list_problems,
        "suites": registry.list_suites,
        "runs": _runs,
    }
    out = console()
    for kind in [what] if what else names:
        out.print(f"[bold]{kind}[/bold]")
        for name in names[kind]():
            told = (_options(kind, name) if options else "") + _lack(kind, name)
            out.print(f"  {escape(name + told)}", soft_wrap=True)


def _lack(kind: str, name: str) -> str:
    from l2t_bench.registry import missing_library

    missing = missing_library(name) if kind == "backends" else None
    return f"  (not installed: pip install {missing})" if missing else ""


def _runs() -> list[str]:
    """The folders in ``runs/`` that hold a run."""
    from pathlib import Path

    return sorted(str(file.parent) for file in Path("runs").glob("*/plan.json"))


def _options(kind: str, name: str) -> str:
    """The options of a name as it could be written; why it cannot be loaded, where it cannot."""
    from l2t_bench import registry
    from l2t_bench.errors import UserError
    from l2t_bench.names import describe_options

    if kind in ("suites", "runs"):
        return ""
    try:
        cls = registry.backend_class(name) if kind == "backends" else registry.problem_class(name)
    except UserError as error:
        return f"  ({error})"
    written = ",".join(f"{key}={value}" for key, value in describe_options(cls).items())
    return f"[{written}]" if written else ""
