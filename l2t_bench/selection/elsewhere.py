"""A decision as ``backend.toml``, and such a file on a machine that may be another one."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from l2t_bench.choice import Choice, choice_for, from_toml, machine_of, versions_of
from l2t_bench.engine.environment import environment
from l2t_bench.errors import UserError
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.registry import load_backend
from l2t_bench.selection.records import Decision
from l2t_bench.units import told

_WEIGH = ("torch", "higher", "torchopt")  # versions that move times, memory or numbers


def choice_of(decision: Decision, problem: str, device: str, threads: int) -> Choice:
    """What was decided, with the machine and versions that it rests on: those here, or those of a run.

    Raises ``UserError`` where nothing can be taken.
    """
    taken, asked = decision.taken(), decision.asked
    among = [each for each in decision.candidates if not each.rejected and each.seconds is not None]
    room = "" if asked.room is None else f" in {told(asked.room)}"
    why = (
        f"least {asked.prefer} of {len(among)} that fit{room}: {taken.seconds or 0:.3g} s and {told(taken.bytes or 0)} "
        f"{'predicted' if decision.measured_on is None else 'measured'} at T={asked.horizon}; {taken.exactness}, "
        f"{taken.proof}"
    )
    there = environment(device, threads) if decision.measured_on is None else decision.measured_on
    return choice_for(
        taken.method,
        problem=problem,
        horizon=asked.horizon,
        why=why,
        machine=machine_of(there),
        versions=versions_of(there),
    )


def load_choice(file: str | Path, *, device: str = "cpu", threads: int = 1) -> TeacherGradientBackend:
    """The backend that a ``backend.toml`` names, ready to use.

    What differs here from where it was chosen, machine or versions, is warned of: the choice may be another one here.
    Raises ``UserError`` for a file that cannot be read or is none, and for a backend that is missing here.
    """
    choice = read_choice(file)
    for said in differences(choice, device, threads):
        warnings.warn(said, stacklevel=2)
    return load_backend(choice.method)


def read_choice(file: str | Path) -> Choice:
    """A ``backend.toml``. Raises ``UserError`` for a file that cannot be read or is none."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    try:
        return from_toml(text)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def differences(choice: Choice, device: str, threads: int) -> Iterator[str]:
    """In a sentence each, what is not here as where ``choice`` was made."""
    here = environment(device, threads)
    for what, then, now in (
        ("machine", choice.machine, machine_of(here)),
        ("versions", choice.versions, versions_of(here)),
    ):
        names = then if what == "machine" else _WEIGH
        apart = [
            f"{name} {then[name]}, here {now.get(name, 'none')}"
            for name in names
            if name in then and then[name] != now.get(name)
        ]
        if apart:
            yield (
                f"{choice.method} was chosen with other {what} ({'; '.join(apart)}): choose anew with "
                f"`l2t-bench select` if time or memory matter"
            )
