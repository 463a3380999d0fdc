"""``l2t-bench run``: run suites' cells and report on them."""

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import Plugins, method_asked_for
from l2t_bench.engine.runner import Event, Rerun, missing

if TYPE_CHECKING:
    from l2t_bench.engine.cell import Cell
    from l2t_bench.engine.planning import Plan
    from l2t_bench.engine.study import Study


def run(
    suites: Annotated[
        list[str] | None,
        typer.Argument(
            help="Suites by name; see `l2t-bench list suites`.",
            metavar="[SUITE]...",
            autocompletion=completion.suites,
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A study as a TOML file; other options go before it.")] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "-b",
            "--backend",
            help="Only these backends, with options, FILE.py:CLASS or backend.toml; may be repeated.",
            autocompletion=completion.backends,
        ),
    ] = None,
    problem: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--problem",
            help="These problems instead of the suite's; repeatable.",
            autocompletion=completion.problems,
        ),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="How large the grid is: smoke, quick, ...")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many seeds of each cell.")] = None,
    rounds: Annotated[int | None, typer.Option(help="How often each timed cell is run.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of each cell.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Longest time of one cell: 90s, 10m, 2h.")] = None,
    memory_limit: Annotated[str | None, typer.Option(help="Most memory of one cell, host and device: 8GB.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder; runs/SUITE[-PROFILE] if left out.")] = None,
    rerun: Annotated[Rerun, typer.Option(help="Which finished cells to run again.")] = Rerun.NONE,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first cell that fails.")] = False,
    plugin: Plugins = None,
    launcher: Annotated[
        str | None,
        typer.Option(help="Where cells are run: local, slurm, ...", autocompletion=completion.launchers),
    ] = None,
    launcher_config: Annotated[
        Path | None, typer.Option(help="A TOML file with the launcher's table, such as [slurm].")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run, and what it takes.")] = False,
) -> None:
    """Run suites. The same command again runs what is missing; finished cells are kept."""
    from l2t_bench.engine.cell import FAILURES
    from l2t_bench.engine.kept import is_of_another_plan
    from l2t_bench.engine.planning import check, plan
    from l2t_bench.engine.runner import launcher_of
    from l2t_bench.engine.store import RUNS, RunFolder
    from l2t_bench.engine.study import folder_name, read_launchers, seed_list
    from l2t_bench.errors import UserError
    from l2t_bench.units import seconds, size

    study = _study(
        config,
        suites=suites,
        backends=backend and [method_asked_for(spec, device=device or "cpu", threads=threads or 1) for spec in backend],
        problems=problem,
        profile=profile,
        seeds=None if seeds is None else seed_list(seeds),
        rounds=rounds,
        device=device,
        threads=threads,
        timeout=None if timeout is None else seconds(timeout),
        memory_limit=None if memory_limit is None else size(memory_limit),
        plugins=[str(Path(name).resolve()) for name in plugin or ()],
        launcher=launcher,
        launchers=launcher_config and read_launchers(launcher_config),
    )
    if launcher_config and study.launcher not in study.launchers:
        raise UserError(f"{launcher_config} has no table [{study.launcher}]: --launcher must name one that it has")
    elsewhere = not dry_run and launcher_of(study).elsewhere  # before anything is done, a launcher that cannot be had
    planned = plan(study)
    folder = out or RUNS / folder_name(study)
    waiting = missing(RunFolder(folder), planned.cells, rerun)
    _say_what_is_kept(planned, folder, waiting, elsewhere=elsewhere)
    if waiting:
        check(replace(study, device="cpu") if elsewhere else study)
    if dry_run:
        _show_forecast(planned, folder, waiting)
        return
    changed = bool(waiting) or is_of_another_plan(RunFolder(folder), planned.cells)
    counts = _execute(planned, folder, rerun, fail_fast)
    reported = _report(folder, changed=changed)
    if not reported or any(status in FAILURES for status in counts):
        raise typer.Exit(1)


def _study(config: Path | None, **given: object) -> "Study":
    """The study in ``config``, if any, with what was given on the command line in place of its own."""
    from l2t_bench.engine.study import Study, read_study

    start = read_study(config).as_json() if config else {"suites": ()}
    return Study.of({**start, **{key: value for key, value in given.items() if value not in (None, [], (), {})}})


def _execute(plan: "Plan", folder: Path, rerun: Rerun, fail_fast: bool) -> dict[str, int]:
    """The run; where it cannot go on, a line that says so, and the exit code."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.engine.process import DiskFullError
    from l2t_bench.engine.runner import run as run_plan

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # under nohup a hang-up stays ignored
            signal.signal(number, _as_interrupt)
    try:
        return _with_progress(plan, lambda on_event: run_plan(plan, folder, on_event, rerun=rerun, fail_fast=fail_fast))
    except KeyboardInterrupt:  # before typer sees it, which would say nothing
        error_line(f"interrupted: what is finished is kept in {folder}; the same command goes on from there")
        raise typer.Exit(130) from None
    except DiskFullError as full:
        error_line(f"{full}; what is finished is kept in {folder}, the same command goes on from there")
        raise typer.Exit(1) from None


def _say_what_is_kept(plan: "Plan", folder: Path, waiting: "Sequence[Cell]", *, elsewhere: bool) -> None:
    """Results that are kept although they were measured under other conditions than the command asks for."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.engine.kept import measured_otherwise
    from l2t_bench.engine.store import RunFolder

    to_run = {cell.cell_id for cell in waiting}
    kept = [cell for cell in plan.cells if cell.cell_id not in to_run]
    for line in measured_otherwise(RunFolder(folder), kept, elsewhere=elsewhere):
        error_line(f"warning: {line}")


def _show_forecast(plan: "Plan", folder: Path, waiting: "Sequence[Cell]") -> None:
    """Every cell with how it stands; then by problem and method, what is there and what the others will take."""
    from rich.markup import escape
    from rich.table import Table

    from l2t_bench.cli.console import console
    from l2t_bench.engine.forecast import forecast
    from l2t_bench.engine.store import RunFolder
    from l2t_bench.units import duration

    out, kept, to_run = console(), RunFolder(folder), {cell.cell_id for cell in waiting}
    for cell in plan.cells:
        state = "to run" if cell.cell_id in to_run else str(kept.status(cell))
        out.print(f"{state:<8} {escape(cell.label)}", soft_wrap=True)
    table = Table(title=f"{len(plan.cells)} cells, {len(waiting)} to run", title_justify="left", header_style="dim")
    for column in ("kind", "problem", "method"):
        table.add_column(column)
    for column in ("cells", "there", "each", "peak MiB", "known from"):
        table.add_column(column, justify="right")
    with out.status("looking at what cells take") as status:

        def on_asked(done: int, total: int, cell: "Cell") -> None:
            status.update(f"looking at what cells take, {done + 1} of {total}: {escape(cell.label)}")

        lines = forecast(plan.cells, folder, waiting, plan.study.memory_limit, on_asked)
    for line in lines:
        seconds = "?" if line.seconds is None else duration(line.seconds)
        peak = "?" if line.peak_bytes is None else f"{line.peak_bytes / 2**20:.0f}"
        table.add_row(
            *(escape(word) for word in (line.kind, line.problem, line.method)),
            *(str(line.cells), str(line.cells - line.to_run), seconds, peak, line.source),
        )
    out.print(table)
    total = sum((line.seconds or 0) * line.to_run for line in lines)
    unknown = sum(line.to_run for line in lines if line.seconds is None)
    print(f"about {duration(total)}{f', and {unknown} cells of unknown length' if unknown else ''}; into {folder}")


def _as_interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


def _report(folder: Path, *, changed: bool) -> bool:
    """The tables and the page, by a process of their own: pandas would make this one large, and it may run for days.

    Whether they could be made.
    """
    page = folder / "report.html"
    if not changed and page.is_file():
        print(f"nothing was missing; page: {page}; `l2t-bench report {folder}` prints the tables")
        return True
    sys.stdout.flush()
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", "report", str(folder)]
    return subprocess.run(command, check=False).returncode == 0


def _with_progress(plan: "Plan", work: Callable[[Callable[[Event], None]], dict[str, int]]) -> dict[str, int]:
    """The run with a live bar on a terminal, a plain line per ended cell elsewhere."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from l2t_bench.cli.console import console, error_line
    from l2t_bench.errors import but_for_numbers

    out = console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task("starting", total=len(plan.cells))
        running: dict[str, str] = {}
        said: set[str] = set()

        def on_event(event: Event) -> None:
            if event.note:
                error_line(f"warning: {event.note}")
                return
            if event.status is None:
                running[event.cell.cell_id] = event.cell.label
            else:
                running.pop(event.cell.cell_id, None)
                style = {"ok": "green", "refused": "yellow"}.get(event.status, "red")
                out.print(
                    f"[dim]{event.done:>3}/{event.total}[/dim] [{style}]{event.status:<8}[/{style}] "
                    f"{escape(event.cell.label)} [dim]{event.seconds:.1f} s[/dim]"
                )
                for warning in event.warnings:  # of the first cell that has it: the report names all of them
                    if (kind := but_for_numbers(warning)) not in said:
                        said.add(kind)
                        error_line(f"warning: {event.cell.label}: {warning}")
            progress.update(bar, completed=event.done, description=escape("; ".join(running.values())))

        return work(on_event)
