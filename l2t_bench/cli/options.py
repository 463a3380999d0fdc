"""Arguments and options that several verbs have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l2t_bench.cli import completion

if TYPE_CHECKING:
    from l2t_bench.problem import TeachingProblem

RunFolderArgument = Annotated[
    Path, typer.Argument(help="The run's folder.", metavar="RUN", autocompletion=completion.runs)
]
ProblemArgument = Annotated[
    str | None, typer.Argument(help="A problem with options.", autocompletion=completion.problems)
]
ProblemFile = Annotated[Path | None, typer.Option(help="A Python file that holds a TeachingProblem named `problem`.")]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", help="A Python file with backends, problems or suites; repeatable.")
]


def method_asked_for(spec: str, *, device: str = "cpu", threads: int = 1) -> str:
    """A backend as ``-b`` gives it: by name, by its file, or as a ``backend.toml``; what differs here is said.

    Raises ``UserError`` for such a file that cannot be read or is none.
    """
    from l2t_bench.cli.console import error_line
    from l2t_bench.names import absolute, with_file

    if not spec.endswith(".toml"):
        return with_file(spec, absolute)
    from l2t_bench.selection.elsewhere import differences, read_choice

    choice = read_choice(spec)
    for said in differences(choice, device, threads):
        error_line(f"warning: {said}")
    return choice.method


def problem_asked_for(
    name: str | None, file: Path | None, *, dtype: str = "float32", device: str = "cpu"
) -> "TeachingProblem":
    """A problem by its name, or a file's, which is as the file makes it. Raises ``UserError`` for both or none."""
    from l2t_bench.errors import UserError
    from l2t_bench.plugins import import_file
    from l2t_bench.registry import build_problem

    if (name is None) == (file is None):
        raise UserError("give a problem's name or --problem-file, one of them")
    if name is not None:
        return build_problem(name, dtype=dtype, device=device)
    from l2t_bench.problem import TeachingProblem

    found = getattr(import_file(str(file)), "problem", None)
    if callable(found) and not isinstance(found, TeachingProblem):
        found = found()
    if not isinstance(found, TeachingProblem):
        raise UserError(f"{file} holds no `problem`: an l2t.TeachingProblem, or a function that returns one")
    return found


def take_threads(threads: int) -> None:
    """Compute with so many CPU threads. Raises ``UserError`` for less than one."""
    import torch

    from l2t_bench.errors import UserError

    if threads < 1:
        raise UserError(f"threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)


def check_new_file(out: Path) -> None:
    """Make the folder of a file that minutes of work will end in.

    Raises ``UserError`` where something would be written over, or where nothing can be written.
    """
    from tempfile import TemporaryFile

    from l2t_bench.errors import UserError

    if out.exists():
        raise UserError(f"{out} is there already: name another with -o")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):  # a permission that is there says nothing of a disk that is read-only
            pass
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from error
