"""``l2t-bench predict``: what a teacher gradient will take on a problem at a horizon, before it is run."""

from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import Plugins, method_asked_for, take_threads

if TYPE_CHECKING:
    from l2t_bench.fitting import Forecast


def predict(
    problem: Annotated[str, typer.Argument(help="A problem with options.", autocompletion=completion.problems)],
    horizon: Annotated[int, typer.Option(help="Steps of the student's run.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "-b", "--backend", help="With options; repeatable. All if left out.", autocompletion=completion.backends
        ),
    ] = None,
    memory_limit: Annotated[str | None, typer.Option(help="What the gradient may take: 8GB.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads, as cells have them.")] = 1,
    plugin: Plugins = None,
) -> None:
    """Peak memory and seconds of each backend on this machine, carried on from short runs by the method's law."""
    from rich.markup import escape
    from rich.table import Table

    from l2t_bench.asked import checked_horizon
    from l2t_bench.cli.console import console
    from l2t_bench.fitting import forecasts
    from l2t_bench.plugins import add_plugins
    from l2t_bench.registry import build_problem, list_backends, load_backend
    from l2t_bench.units import size

    add_plugins(plugin or ())
    take_threads(threads)
    limit = None if memory_limit is None else size(memory_limit)
    steps = checked_horizon(horizon, None, 0)
    built = build_problem(problem)
    backends = [load_backend(method_asked_for(name)) for name in backend or list_backends()]
    table = Table(title=escape(f"{problem}, T={steps}"), title_justify="left", title_style="bold", header_style="dim")
    for column in ("backend", "exactness", "peak above the start", "seconds", "fits" if limit else ""):
        table.add_column(column)
    for forecast in forecasts(backends, built, steps):
        table.add_row(*(escape(cell) for cell in _row(forecast, limit)))
    console().print(table)


def _row(forecast: "Forecast", limit: int | None) -> tuple[str, ...]:
    from l2t_bench.units import told

    if forecast.prediction is None:
        return forecast.method, str(forecast.exactness), "", "", f"refused: {forecast.refused}"
    fits = "" if limit is None else "yes" if forecast.prediction.bytes <= limit else "no"
    seconds = f"{forecast.prediction.seconds:.3g}"
    return forecast.method, str(forecast.exactness), told(forecast.prediction.bytes), seconds, fits
