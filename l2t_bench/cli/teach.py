"""``l2t-bench teach``: train students under a teacher from a file, and say what they reach."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from l2t_bench.cli.options import Plugins, ProblemArgument, ProblemFile, problem_asked_for


def teach(
    problem: ProblemArgument = None,
    teacher: Annotated[Path, typer.Option(help="A file that `l2t-bench train` has written.")] = Path(
        "teacher.safetensors"
    ),
    problem_file: ProblemFile = None,
    horizon: Annotated[int | None, typer.Option(help="Steps of each student's run; the teacher's if left out.")] = None,
    students: Annotated[int, typer.Option(help="Fresh students, seen by no teacher.")] = 1,
    measure: Annotated[Literal["accuracy", "objective"], typer.Option(help="What they are measured by.")] = "accuracy",
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Of a problem by name.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, of a problem by name.")] = "cpu",
    plugin: Plugins = None,
) -> None:
    """Train fresh students under a teacher, and print what each reaches on dev, and on test where there is one."""
    from statistics import fmean

    from l2t_bench.cli.console import error_line
    from l2t_bench.errors import UserError
    from l2t_bench.lessons import measured_on
    from l2t_bench.lessons import teach as taught
    from l2t_bench.plugins import add_plugins
    from l2t_bench.teacher_file import read_teacher, recipe_of, theta_for
    from l2t_bench.trainer.records import SeedRange

    add_plugins(plugin or ())
    if students < 1:
        raise UserError(f"students must be at least 1, not {students}")
    file, built = read_teacher(teacher), problem_asked_for(problem, problem_file, dtype=dtype, device=device)
    theta, steps = theta_for(file, built), horizon or file.horizon
    if steps is None:
        raise UserError(f"{teacher} does not say how long students are taught: give --horizon")
    if recipe_of(built.features) != dict(file.features):
        error_line(
            f"warning: s_t is measured by {recipe_of(built.features)} here, the teacher learned by {file.features}"
        )
    parts: tuple[Literal["dev", "test"], ...] = ("dev",) if built.test is None else ("dev", "test")
    reached: list[tuple[float, ...]] = []
    for number, seed in enumerate(SeedRange.FRESH.seeds(students), 1):
        student = taught(built, theta, horizon=steps, seed=seed)
        reached.append(tuple(measured_on(built, student, part, measure) for part in parts))
        told = ", ".join(f"{part} {value:.4f}" for part, value in zip(parts, reached[-1], strict=True))
        print(f"student {number}: {told}", flush=True)
    if students > 1:
        means = [fmean(values) for values in zip(*reached, strict=True)]
        print(
            f"mean of {students}: " + ", ".join(f"{part} {mean:.4f}" for part, mean in zip(parts, means, strict=True))
        )
