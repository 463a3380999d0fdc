"""``l2t-bench select``: which backend for a problem, a horizon and a limit, by short runs or by a run's results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import (
    Plugins,
    ProblemArgument,
    ProblemFile,
    check_new_file,
    method_asked_for,
    problem_asked_for,
    take_threads,
)

if TYPE_CHECKING:
    from rich.table import Table

    from l2t_bench.selection.records import Candidate, Decision


def select(
    horizon: Annotated[int, typer.Option(help="Steps of the student's run.")],
    problem: ProblemArgument = None,
    problem_file: ProblemFile = None,
    memory_limit: Annotated[
        str | None, typer.Option(help="Of the process's peak, on host or device: 20GB. What is free if left out.")
    ] = None,
    min_cosine: Annotated[
        float | None, typer.Option(help="Accept approximate gradients that are so near to the exact one.")
    ] = None,
    max_norm_ratio: Annotated[float, typer.Option(help="Of those: how long, or short, they may be beside it.")] = 1.1,
    prefer: Annotated[Literal["time", "memory"], typer.Option(help="What the chosen one takes least of.")] = "time",
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "-b", "--backend", help="Only these; repeatable. All if left out.", autocompletion=completion.backends
        ),
    ] = None,
    from_runs: Annotated[
        list[Path] | None, typer.Option(help="Decide by results: a run's folder; repeatable. Nothing is run.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, of a problem by name.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long the short runs may take in all.")] = 300.0,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Write backend.toml here, a new file.")] = None,
    plugin: Plugins = None,
) -> None:
    """Choose a backend: what can do the problem, fits, is as exact as it says on the real student, and takes least.

    Every candidate that is not taken is explained in a line. `-b backend.toml` of other verbs takes the file.
    """
    from rich.markup import escape

    from l2t_bench.asked import checked_horizon
    from l2t_bench.cli.console import console
    from l2t_bench.durable import write_text
    from l2t_bench.errors import UserError
    from l2t_bench.plugins import add_plugins
    from l2t_bench.registry import load_backend
    from l2t_bench.selection.elsewhere import choice_of
    from l2t_bench.selection.from_results import select_from_runs
    from l2t_bench.selection.records import Accepted, Asked
    from l2t_bench.selection.selecting import select_backend
    from l2t_bench.units import byte_count

    add_plugins(plugin or ())
    name = problem or str(problem_file)
    take_threads(threads)
    accepted = Accepted(min_cosine, max_norm_ratio)
    if out is not None:
        check_new_file(out)
    if from_runs:
        limit = None if memory_limit is None else byte_count(memory_limit)
        steps = checked_horizon(horizon, None, 0)
        decision = select_from_runs(from_runs, name, Asked(steps, limit, accepted, prefer))
    else:
        with console().status("") as shown:
            decision = select_backend(
                problem_asked_for(problem, problem_file, device=device),
                horizon=horizon,
                memory_limit=memory_limit,
                accepted=accepted,
                prefer=prefer,
                backends=[load_backend(method_asked_for(spec, device=device, threads=threads)) for spec in backend]
                if backend
                else None,
                seconds=seconds,
                progress=lambda question: shown.update(escape(question)),
            )
    console().print(_table(f"{name}, T={horizon}", decision))
    choice = choice_of(decision, name, device, threads)
    console().print(f"{choice.method}: {choice.why}", markup=False, soft_wrap=True)
    if out is not None:
        try:
            write_text(out, choice.to_toml())
        except OSError as error:
            raise UserError(f"{out} cannot be written: {error.strerror}") from error
        console().print(f"written: {out}", markup=False)


def _table(title: str, decision: "Decision") -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="dim")
    for column in ("backend", "exactness", "peak above the start", "seconds", "why"):
        table.add_column(column)
    for each in sorted(decision.candidates, key=lambda each: (bool(each.rejected), each.seconds or 0.0)):
        style = "bold" if each is decision.chosen else "dim" if each.rejected else ""
        table.add_row(*(escape(cell) for cell in _row(each, decision)), style=style)
    return table


def _row(candidate: "Candidate", decision: "Decision") -> tuple[str, ...]:
    from l2t_bench.units import told

    size = "" if candidate.bytes is None else told(candidate.bytes)
    seconds = "" if candidate.seconds is None else f"{candidate.seconds:.3g}"
    chosen = "chosen: " if candidate is decision.chosen else ""
    why = candidate.rejected or f"{chosen}{candidate.proof}"
    return candidate.method, str(candidate.exactness or ""), size, seconds, why
