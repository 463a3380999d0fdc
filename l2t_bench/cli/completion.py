"""What the shell completes: names of backends, problems, suites, runs and cells. Never an error, never torch."""

from collections.abc import Callable
from pathlib import Path

import typer

from l2t_bench.errors import L2TError


def backends(incomplete: str) -> list[str]:
    from l2t_bench.registry import list_backends

    return _beginning(list_backends, incomplete)


def problems(incomplete: str) -> list[str]:
    from l2t_bench.registry import list_problems

    return _beginning(list_problems, incomplete)


def suites(incomplete: str) -> list[str]:
    from l2t_bench.registry import list_suites

    return _beginning(list_suites, incomplete)


def launchers(incomplete: str) -> list[str]:
    from l2t_bench.registry import list_launchers

    return _beginning(list_launchers, incomplete)


def runs(incomplete: str) -> list[str]:
    from l2t_bench.engine.store import list_runs

    return _beginning(list_runs, incomplete)


def cells(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the run that stands before it on the line."""
    from l2t_bench.engine.overview import look

    run = ctx.params.get("run")
    return _beginning(lambda: [cell.cell_id for cell in look(Path(run)).cells] if run else [], incomplete)


def _beginning(names: Callable[[], list[str]], incomplete: str) -> list[str]:
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except (L2TError, OSError):
        return []
