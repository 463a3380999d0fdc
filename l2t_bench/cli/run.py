"""``l2t-bench run``: run a suite's cells and report on them."""

import re
from pathlib import Path
from typing import Annotated

import typer

from l2t_bench.engine.runner import Event, Plan, Rerun

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def run(
    suite: Annotated[str, typer.Argument(help="A suite's name; see `l2t-bench list suites`.")],
    backend: Annotated[
        list[str] | None, typer.Option("-b", "--backend", help="Only these backends, with options; may be repeated.")
    ] = None,
    profile: Annotated[str | None, typer.Option(help="How large the grid is: smoke, quick, ...")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds of each gradient cell.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of each cell.")] = 1,
    timeout: Annotated[str, typer.Option(help="Longest time of one cell: 90s, 10m, 2h.")] = "20m",
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/SUITE[-PROFILE] if left out.")] = None,
    rerun: Annotated[Rerun, typer.Option(help="Which finished cells to run again.")] = Rerun.NONE,
) -> None:
    """Run a suite. The same command again runs what is missing; finished cells are kept."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.cli.report import show
    from l2t_bench.engine.cell import FAILURES
    from l2t_bench.engine.preflight import preflight
    from l2t_bench.engine.runner import run as run_plan
    from l2t_bench.engine.suite import Request
    from l2t_bench.registry import load_suite

    chosen = load_suite(suite)
    wanted = profile or chosen.default_profile
    request = Request(seeds, tuple(backend or ()), device, threads)
    cells = tuple(chosen.cells(wanted, request))
    if backend or device != "cpu":
        preflight(backend or (), sorted({cell.problem for cell in cells}), device)
    folder = out or Path("runs") / (chosen.name if wanted == chosen.default_profile else f"{chosen.name}-{wanted}")
    plan = Plan(chosen.name, wanted, cells, seconds(timeout), rerun)
    try:
        counts = _with_progress(plan, folder, run_plan)
    except KeyboardInterrupt:  # before typer sees it, which would say nothing
        error_line(f"interrupted: what is finished is kept in {folder}; the same command goes on from there")
        raise typer.Exit(130) from None
    show(folder)
    if any(status in FAILURES for status in counts):
        raise typer.Exit(1)


def seconds(text: str) -> float:
    """``"90s"``, ``"10m"``, ``"2h"`` or a plain number of seconds. Raises ``UserError`` for anything else."""
    from l2t_bench.errors import UserError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UserError(f"a duration is written 90s, 10m or 2h, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def _with_progress(plan: Plan, folder: Path, run_plan: object) -> dict[str, int]:
    """The run with a live bar on a terminal, a plain line per ended cell elsewhere."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from l2t_bench.cli.console import console

    out = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("starting", total=len(plan.cells))
        running: dict[str, str] = {}

        def on_event(event: Event) -> None:
            if event.status is None:
                running[event.cell.cell_id] = event.cell.label
            else:
                running.pop(event.cell.cell_id, None)
                style = {"ok": "green", "refused": "yellow"}.get(event.status, "red")
                out.print(
                    f"[dim]{event.done:>3}/{event.total}[/dim] [{style}]{event.status:<8}[/{style}] "
                    f"{escape(event.cell.label)} [dim]{event.seconds:.1f} s[/dim]"
                )
            progress.update(bar, completed=event.done, description=escape("; ".join(running.values())))

        counts: dict[str, int] = run_plan(plan, folder, on_event)  # type: ignore[operator]
    return counts
