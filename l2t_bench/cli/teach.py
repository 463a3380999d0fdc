"""``l2t-bench teach``: train students under a teacher from a file, and say what they reach."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2t_bench.cli.options import Plugins, ProblemArgument, ProblemFile, problem_asked_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from l2t_bench.measures import Measure
    from l2t_bench.problem import TeachingProblem
    from l2t_bench.tensors import Tensors


def teach(
    problem: ProblemArgument = None,
    teacher: Annotated[Path, typer.Option(help="A file that `l2t-bench train` has written.")] = Path(
        "teacher.safetensors"
    ),
    problem_file: ProblemFile = None,
    horizon: Annotated[int | None, typer.Option(help="Steps of each student's run; the teacher's if left out.")] = None,
    students: Annotated[int, typer.Option(help="Fresh students, seen by no teacher.")] = 1,
    measure: Annotated[
        Literal["accuracy", "bleu", "objective"] | None,
        typer.Option(help="What they are measured by; by the problem if left out."),
    ] = None,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Of a problem by name.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, of a problem by name.")] = "cpu",
    plugin: Plugins = None,
) -> None:
    """Train fresh students under a teacher, and print what each reaches on dev, and on test where there is one."""
    from l2t_bench.cli.console import error_line
    from l2t_bench.errors import UserError
    from l2t_bench.measures import default_measure
    from l2t_bench.plugins import add_plugins
    from l2t_bench.teacher_file import read_teacher, theta_for, with_constants
    from l2t_bench.trainer.identity import recipe_of
    from l2t_bench.trainer.records import SeedRange

    add_plugins(plugin or ())
    if students < 1:
        raise UserError(f"students must be at least 1, not {students}")
    file = read_teacher(teacher)
    built = with_constants(file, problem_asked_for(problem, problem_file, dtype=dtype, device=device))
    theta, steps = theta_for(file, built), file.horizon if horizon is None else horizon
    if steps is None:
        raise UserError(f"{teacher} does not say how long students are taught: give --horizon")
    ours = recipe_of(built.features)
    if ours != dict(file.features):
        error_line(f"warning: s_t is measured by {ours} here, and the teacher has learned by {file.features}")
    _show(built, theta, steps, SeedRange.FRESH.seeds(students), measure or default_measure(built))


def _show(problem: "TeachingProblem", theta: "Tensors", horizon: int, seeds: range, measure: "Measure") -> None:
    """What each student reaches, as soon as it is known, and the means."""
    from statistics import fmean

    from l2t_bench.lessons import teach as taught
    from l2t_bench.measures import Part, has_test, measured_on

    parts: tuple[Part, ...] = ("dev", "test") if has_test(problem, measure) else ("dev",)

    def line(name: str, values: "Sequence[float]") -> str:
        return f"{name}: " + ", ".join(f"{part} {measure} {v:.4f}" for part, v in zip(parts, values, strict=True))

    reached: list[list[float]] = []
    for number, seed in enumerate(seeds, 1):
        student = taught(problem, theta, horizon=horizon, seed=seed)
        reached.append([measured_on(problem, student, part, measure, horizon=horizon, seed=seed) for part in parts])
        print(line(f"student {number}", reached[-1]), flush=True)
    if len(seeds) > 1:
        print(line(f"mean of {len(seeds)}", [fmean(values) for values in zip(*reached, strict=True)]))
