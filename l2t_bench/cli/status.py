"""``l2t-bench status`` and ``l2t-bench show``: how a run stands, and what became of one cell."""

from typing import Annotated

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import RunFolderArgument

_STYLES = {"ok": "green", "refused": "yellow", "missing": "dim", "running": "cyan"}


def status(
    run: RunFolderArgument,
) -> None:
    """Show how a run stands: cells by status, and those that failed. Works while it is going on.

    Exit code 2 where a result is damaged.
    """
    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.engine.overview import look

    found, out = look(run), console()
    done = sum(count for name, count in found.counts.items() if name not in ("missing", "running", "damaged"))
    going = f", process {found.held_by} is running it" if found.held_by else ""
    out.print(f"{escape(str(run))}: {done} of {len(found.cells)} cells done{going}; begun {found.created}")
    for name, count in found.counts.items():
        out.print(f"  [{_STYLES.get(name, 'red')}]{name:<12}[/] {count}")
    if found.stale:
        out.print(f"  [yellow]{'stale':<12}[/] {found.stale}  measured with other code: --rerun stale")
    for cell in found.cells:
        if cell.status not in ("ok", "missing"):
            told = f"  {escape(cell.message)}" if cell.message else ""
            out.print(f"[{_STYLES.get(cell.status, 'red')}]{cell.status}[/] {escape(cell.label)}{told}", soft_wrap=True)
    if "damaged" in found.counts:
        raise typer.Exit(2)


def show(
    run: RunFolderArgument,
    cell: Annotated[
        str,
        typer.Argument(
            help="A cell's id or description, or a part that no other cell has.", autocompletion=completion.cells
        ),
    ],
) -> None:
    """Show what became of one cell: its record, its phases and the end of its output."""
    import json

    from rich.markup import escape

    from l2t_bench.cli.console import console
    from l2t_bench.engine.overview import find, how_to_repeat, last_lines, record_of

    found, out = find(run, cell), console()
    out.print(f"[bold]{escape(found.label)}[/bold]  {escape(found.cell_id)}", soft_wrap=True)
    out.print(f"[{_STYLES.get(found.status, 'red')}]{found.status}[/] {escape(found.message)}", soft_wrap=True)
    record = record_of(run, found)
    for name, phase in record.get("phases", {}).items():
        peak = phase.get("host_peak_bytes")
        out.print(f"  {name:<15} {phase['seconds']:9.3f} s" + (f"  peak {peak / 2**20:7.1f} MiB" if peak else ""))
    for key in ("identity", "measurements", "data", "environment", "code"):
        if record.get(key):
            out.print(f"[dim]{key}[/dim] {escape(json.dumps(record[key], indent=1))}", soft_wrap=True)
    for log in ("stdout.log", "stderr.log"):
        if lines := last_lines(run, found, log):
            out.print(f"[dim]{log}[/dim]")
            out.print(escape("\n".join(lines)), soft_wrap=True)
    if found.status not in ("ok", "refused"):
        out.print(f"again: {escape(how_to_repeat(run))}", soft_wrap=True)
    if found.status == "damaged":
        raise typer.Exit(2)
