"""Arguments and options that several verbs have."""

from pathlib import Path
from typing import Annotated

import typer

from l2t_bench.cli import completion

RunFolderArgument = Annotated[
    Path, typer.Argument(help="The run's folder.", metavar="RUN", autocompletion=completion.runs)
]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", help="A Python file with backends, problems or suites; repeatable.")
]
