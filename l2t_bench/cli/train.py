"""``l2t-bench train``: train a teacher by Algorithm 1, for as long as it takes, and write it as a file."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from l2t_bench.cli import completion
from l2t_bench.cli.options import Plugins, ProblemArgument, ProblemFile, method_asked_for, problem_asked_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.optim import Optimizer

    from l2t_bench.training import Callback, TeacherTrainer, TeacherTraining


def train(
    problem: ProblemArgument = None,
    problem_file: ProblemFile = None,
    backend: Annotated[
        str, typer.Option("-b", "--backend", help="With options, or backend.toml.", autocompletion=completion.backends)
    ] = "rmd",
    outer_steps: Annotated[int, typer.Option(help="Teacher optimisation steps.")] = 60,
    horizon: Annotated[int, typer.Option(help="Steps of each student's run.")] = 300,
    students: Annotated[int, typer.Option(help="Fresh students of an outer step.")] = 1,
    optimizer: Annotated[
        str, typer.Option(help="One of torch.optim, with options: AdamW[weight_decay=0.01].")
    ] = "Adam[betas=0.9:0.99]",
    lr: Annotated[float, typer.Option(help="The teacher's.")] = 0.003,
    schedule: Annotated[Literal["linear", "cosine", "constant"], typer.Option(help="Of the teacher's lr.")] = "linear",
    clip: Annotated[float, typer.Option(help="Bound on each student's |d_theta|; 0 for none.")] = 1.0,
    select_every: Annotated[int, typer.Option(help="Outer steps between judgements on dev; 0 for none.")] = 20,
    select_students: Annotated[int, typer.Option(help="Held-out students that judge.")] = 16,
    patience: Annotated[int | None, typer.Option(help="Judgements without a better teacher that end it.")] = None,
    measure: Annotated[
        Literal["accuracy", "bleu", "objective"] | None, typer.Option(help="What judges; by the problem if left out.")
    ] = None,
    test_curve: Annotated[bool, typer.Option("--test-curve", help="Measure those students on test too.")] = False,
    seed: Annotated[int, typer.Option(help="Of the teacher's start and of its students.")] = 0,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="Of a problem by name.")] = "float32",
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N, of a problem by name.")] = "cpu",
    memory_limit: Annotated[str | None, typer.Option(help="What the gradients may take: 8GB.")] = None,
    every: Annotated[str, typer.Option(help="Outer steps, or time (10m), between checkpoints.")] = "1",
    keep: Annotated[int, typer.Option(help="Checkpoints that are kept.")] = 3,
    within: Annotated[
        str | None, typer.Option(help="Time (30m) after which a student's run is kept on its way too; rmd[store=sqrt].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    shard: Annotated[
        Literal["batch", "students"] | None, typer.Option(help="What the processes that torchrun starts share out.")
    ] = None,
    rank_timeout: Annotated[str, typer.Option(help="How long they wait for one another: 10m.")] = "10m",
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard's event files.")] = False,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The teacher's file; checkpoints and curves go beside it.")
    ] = Path("teacher.safetensors"),
    plugin: Plugins = None,
) -> None:
    """Train a teacher. Killed at any moment, the same command with --resume goes on, and finds the same teacher.

    Beside teacher.safetensors stands the folder teacher.training: checkpoints, outer_steps.csv, selection.csv.
    """
    from l2t_bench.cli.shards import is_first, own_device, shard_asked_for
    from l2t_bench.cli.training_progress import training_progress
    from l2t_bench.plugins import add_plugins
    from l2t_bench.teacher_file import save_teacher
    from l2t_bench.trainer.checkpoints import Checkpoints, parse_every
    from l2t_bench.trainer.logs import CsvLog, TensorBoardLog
    from l2t_bench.training import Selection, TeacherOptimizer, TeacherTrainer

    add_plugins(plugin or ())
    sharing, device = shard_asked_for(shard, rank_timeout), own_device(device)
    check_out(out, resume=resume)
    folder = folder_of(out)
    selection = Selection(select_every, select_students, patience, measure, test_curve) if select_every else None
    logs: list[Callback] = [CsvLog(folder), *([TensorBoardLog(folder / "tensorboard")] if tensorboard else [])]
    method = method_asked_for(backend, device=device)
    with training_progress() as progress:
        trainer = TeacherTrainer(
            problem_asked_for(problem, problem_file, dtype=dtype, device=device),
            None,
            method,
            outer_steps=outer_steps,
            horizon=horizon,
            students=students,
            optimizer=TeacherOptimizer(lr, schedule=schedule, clip=clip or None, make=maker_of(optimizer, lr)),
            selection=selection,
            seed=seed,
            checkpoints=Checkpoints(folder, parse_every(every), keep, within),
            callbacks=[*logs, progress],
            memory_limit=memory_limit,
            shard=sharing,
        )
        if is_first() and trainer.engine is not None and trainer.engine.why:
            print(f"steps: {trainer.engine}", flush=True)
        training = _trained(trainer, resume=resume, out=out, aloud=is_first())
    if not is_first():
        return
    save_teacher(out, trainer.problem, training, horizon=horizon, backend=method)
    _report(training, out)


def check_out(out: Path, *, resume: bool) -> None:
    """Raises ``UserError`` where a teacher would be written over, or cannot be written at all."""
    from l2t_bench.errors import UserError

    if out.suffix != ".safetensors":
        raise UserError(f"a teacher's file ends in .safetensors, unlike {out}")
    begun = any(folder_of(out).glob("checkpoint-*"))
    if out.exists() and not (resume and begun and out.is_file()):
        instead = "name another with -o, or go on with --resume" if begun else "name another with -o"
        raise UserError(f"{out} is there already: {instead}")


def folder_of(out: Path) -> Path:
    """Where a training keeps what is not its teacher."""
    return out.with_suffix(".training")


def maker_of(spec: str, lr: float) -> "Callable[[list[Tensor]], Optimizer]":
    """One of torch's optimisers by its name, ``"SGD[momentum=0.9]"``; several numbers are written 0.9:0.99.

    Raises ``UserError`` for a name that torch.optim does not have.
    """
    import torch

    from l2t_bench.errors import UserError
    from l2t_bench.names import split_spec, unknown

    name, options = split_spec(spec)
    known = [
        kind
        for kind, found in vars(torch.optim).items()
        if isinstance(found, type) and issubclass(found, torch.optim.Optimizer) and kind != "Optimizer"
    ]
    if name not in known:
        raise unknown("optimiser of torch.optim", name, known)

    def make(tensors: "list[Tensor]") -> "Optimizer":
        given = {key: _value(text) for key, text in options.items()}
        try:
            made: Optimizer = getattr(torch.optim, name)(tensors, lr=lr, **given)
        except (TypeError, ValueError) as error:
            raise UserError(f"{spec}: {error}") from error
        return made

    return make


def _value(text: str) -> "bool | float | tuple[float, ...]":
    from l2t_bench.names import finite_number

    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    numbers = tuple(finite_number(part, float, "an optimiser's option") for part in text.split(":"))
    return numbers[0] if len(numbers) == 1 else numbers


def _trained(trainer: "TeacherTrainer", *, resume: bool, out: Path, aloud: bool) -> "TeacherTraining":
    """The training; the first interrupt ends it after the outer step at hand, the second at once."""
    from l2t_bench.cli.console import error_line

    def say(message: str) -> None:
        if aloud:
            error_line(message)

    def stop(number: int, frame: object) -> None:
        del frame
        say("ending after this outer step; once more ends it at once")
        trainer.stop()
        signal.signal(number, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        return trainer.train(resume=resume)
    except KeyboardInterrupt:
        say(f"interrupted: the same command with --resume goes on; checkpoints are in {folder_of(out)}")
        raise typer.Exit(130) from None


def _report(training: "TeacherTraining", out: Path) -> None:
    from l2t_bench.units import duration

    curve = training.curve
    print(f"{len(curve)} outer steps in {duration(training.seconds)}; M~ {curve[0].value:.4f} -> {curve[-1].value:.4f}")
    for judged in training.selection:
        test = "" if judged.test_mean is None else f", test {judged.test_mean:.4f}"
        chosen = "  <- chosen" if judged.outer_step == training.selected_outer_step else ""
        print(f"before outer step {judged.outer_step}: dev {judged.dev_mean:.4f} ± {judged.dev_std:.4f}{test}{chosen}")
    print(f"teacher: {out}")
