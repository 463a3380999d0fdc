"""``l2t-bench list``: what there is."""

from typing import Annotated, Literal

import typer

from l2t_bench.cli.options import Plugins

What = Literal["backends", "problems", "suites", "runs"]


def list_names(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Also each name's options with their defaults.")] = False,
    plugin: Plugins = None,
) -> None:
    """List backends, problems and suites, and the runs in the folder runs/."""
    from rich.markup import escape

    from l2t_bench import registry
    from l2t_bench.cli.console import console, error_line
    from l2t_bench.engine.store import list_runs
    from l2t_bench.plugins import add_plugins

    add_plugins(plugin or ())
    names = {
        "backends": registry.list_backends,
        "problems": registry.list_problems,
        "suites": registry.list_suites,
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


def _lack(kind: str, name: str) -> str:
    from l2t_bench.registry import missing_library

    missing = missing_library(kind, name)
    return f"  (not installed: pip install {missing})" if missing else ""


def _options(kind: str, name: str) -> str:
    """The options of a name as it could be written; why it cannot be loaded, where it cannot."""
    from l2t_bench import registry
    from l2t_bench.errors import UserError
    from l2t_bench.names import describe_options

    if kind == "suites":
        return ""
    try:
        cls = registry.backend_class(name) if kind == "backends" else registry.problem_class(name)
    except UserError as error:
        return f"  ({error})"
    written = ",".join(f"{key}={value}" for key, value in describe_options(cls).items())
    return f"[{written}]" if written else ""
