"""``l2t-bench merge``: several runs become one."""

from pathlib import Path
from typing import Annotated

import typer

from l2t_bench.cli import completion


def merge(
    runs: Annotated[
        list[Path], typer.Argument(help="The runs' folders.", metavar="RUN...", autocompletion=completion.runs)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new run's folder.")],
) -> None:
    """Copy the cells of several runs, of one machine or more, into a new run. They must not disagree."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.engine.merge import merge as join

    merged = join(runs, output)
    print(f"{output}: {merged.cells} cells, {merged.results} with a result")
    if merged.unplanned:
        told = "results of earlier plans are copied too, and stay out of status and reports"
        error_line(f"warning: {merged.unplanned} {told}: no plan.json names them")
