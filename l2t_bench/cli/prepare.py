"""``l2t-bench prepare``: bring a data set into the data root."""

from pathlib import Path
from typing import Annotated

import typer


def _data_sets(incomplete: str) -> list[str]:
    """What the shell completes."""
    from l2t_bench.data.catalogue import DATA_SETS

    return [name for name in DATA_SETS if name.startswith(incomplete)]


def prepare(
    data: Annotated[
        str,
        typer.Argument(
            help="Which data set: digits, mnist, cifar10, cifar100, iwslt14 or iwslt14-mixer.",
            autocompletion=_data_sets,
        ),
    ],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Take its files from this folder, or iwslt14 from its archive, without network.",
            metavar="DIR",
        ),
    ] = None,
) -> None:
    """Bring a data set into the data root (L2T_BENCH_DATA): downloaded, or from a folder. Nothing else writes there."""
    from l2t_bench.data.catalogue import prepare as prepare_data

    prepared = prepare_data(data, source)
    print(f"{data}: {prepared.note}\n  {prepared.place}")
