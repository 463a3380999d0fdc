"""``l2t-bench doctor``: can this machine run and measure what is asked of it?"""

from pathlib import Path
from typing import Annotated

import typer

from l2t_bench.cli.options import Plugins


def doctor(
    runs: Annotated[Path, typer.Option(help="Where runs would be kept.")] = Path("runs"),
    plugin: Plugins = None,
) -> None:
    """Examine the installation, the meters, the disk, the data and every registered name."""
    from rich.markup import escape
    from rich.table import Table

    from l2t_bench.cli.console import console
    from l2t_bench.doctor import examine
    from l2t_bench.plugins import add_plugins

    add_plugins(plugin or ())
    found = examine(runs)
    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table(show_header=False)
    for _ in range(3):
        table.add_column()
    for finding in found:
        advice = f"; {finding.advice}" if finding.advice else ""
        style = styles[finding.state]
        table.add_row(f"[{style}]{finding.state}[/{style}]", escape(finding.name), escape(finding.detail + advice))
    console().print(table)
    if any(finding.state == "fail" for finding in found):
        raise typer.Exit(1)
