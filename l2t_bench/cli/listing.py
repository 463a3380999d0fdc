"""``l2t-bench list``: what there is."""

from typing import Annotated, Literal

import typer

What = Literal["backends", "problems", "suites"]


def list_names(
    what: Annotated[What | None, typer.Argument(help="What to list; everything if left out.")] = None,
    options: Annotated[bool, typer.Option("--options", help="Also each name's options with their defaults.")] = False,
) -> None:
    """List backends, problems and suites."""
    from rich.markup import escape

    from l2t_bench import registry
    from l2t_bench.cli.console import console

    names = {
        "backends": registry.list_backends,
        "problems": registry.list_problems,
        "suites": registry.list_suites,
    }
    out = console()
    for kind in [what] if what else names:
        out.print(f"[bold]{kind}[/bold]")
        for name in names[kind]():
            out.print(f"  {escape(name)}{escape(_options(kind, name)) if options else ''}", soft_wrap=True)


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
