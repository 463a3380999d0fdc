"""``l2t-bench prepare``: bring a data set into the data root."""

from typing import Annotated, Literal

import typer


def prepare(data: Annotated[Literal["mnist"], typer.Argument(help="Which data set.")]) -> None:
    """Download a data set into the data root (L2T_BENCH_DATA). Nothing else writes there."""
    from l2t_bench.cli.console import console
    from l2t_bench.data.mnist import prepare_mnist

    folder = prepare_mnist()
    console().print(f"{data} is in {folder}")
