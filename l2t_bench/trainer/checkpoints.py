"""The checkpoints of a training: a file each, the newest few kept, the newest sound one gone on from."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2t_bench.durable import HALF_WRITTEN, kept_aside
from l2t_bench.engine.lock import held, is_there
from l2t_bench.engine.records import DamagedError
from l2t_bench.errors import UserError
from l2t_bench.names import check_counts
from l2t_bench.tensor_file import Kind, joined, parted, read_tensors, write_tensors
from l2t_bench.trainer.identity import first_difference
from l2t_bench.units import seconds

KIND = Kind("checkpoint", 1)
_NAME = "checkpoint-{:08d}.safetensors"
_PATTERN = "checkpoint-" + "[0-9]" * 8 + ".safetensors"


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a training writes down where it stands.

    ``every``: so many outer steps, or so much time, ``"10m"``, counted from the last one; the last outer step's is
    always written. ``keep``: how many are kept, the newest. ``within``: so much time, after which an outer step is also
    kept on its way, with its students' runs; every outer step then has a checkpoint. Raises ``UserError`` for numbers
    that are not whole or not positive, and for what is no time.
    """

    folder: Path
    every: int | str = 1
    keep: int = 3
    within: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        check_counts(self, "checkpoints")
        if self.keep < 1 or (not isinstance(self.every, str) and self.every < 1):
            raise UserError("checkpoints: every and keep must be at least 1")
        if isinstance(self.every, str) and self.every.strip()[-1:].isdigit():
            raise UserError(f"checkpoints: every is outer steps, or a time with its unit, '10m', not {self.every!r}")
        if not isinstance(self.within, str | None):
            raise UserError(f"checkpoints: within is a time with its unit, such as '30m', not {self.within!r}")
        for time_given in (self.every, self.within):
            if isinstance(time_given, str):
                seconds(time_given)

    def due(self) -> Callable[[int], bool]:
        """Asked after each outer step, with its number: whether a checkpoint is due. Remembers the last one."""
        every = 1 if self.within else self.every
        if not isinstance(every, str):
            return lambda outer_step: outer_step % every == 0
        span, last = seconds(every), [time.monotonic()]

        def after(outer_step: int) -> bool:
            del outer_step
            now = time.monotonic()
            if now - last[0] < span:
                return False
            last[0] = now
            return True

        return after


def newest_said(settings: Checkpoints | None) -> str:
    """Where a training stands that has ended badly, and how it goes on, for who reads its error."""
    files = [] if settings is None else sorted(settings.folder.glob(_PATTERN))
    if not files:
        return "there is no checkpoint"
    return f"the last checkpoint, {files[-1]}, is whole: --resume (resume=True) goes on from it"


def parse_every(text: str) -> int | str:
    """``"5"`` outer steps, or a time with its unit: ``"90s"``, ``"10m"``. Raises ``UserError`` for anything else."""
    if text.strip().isdigit():
        return int(text)
    seconds(text)
    return text.strip()


class Folder:
    """The folder of one training's checkpoints, held by this process alone."""

    def __init__(self, settings: Checkpoints, identity: Mapping[str, Any], note: Callable[[str], None]) -> None:
        self._settings, self._identity, self._note = settings, identity, note

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder inside the block. Raises ``UserError`` where it cannot be written or another holds it."""
        folder = self._settings.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be a folder of checkpoints: {error.strerror}") from error
        with held(folder):
            for half in folder.glob(HALF_WRITTEN):
                half.unlink(missing_ok=True)
            yield

    def files(self) -> list[Path]:
        """The checkpoints, the newest first."""
        return sorted(self._settings.folder.glob(_PATTERN), reverse=True)

    def check_empty(self) -> None:
        """Raises ``UserError`` where a training has begun here."""
        if files := self.files():
            raise UserError(
                f"{files[0]} is there already: --resume (resume=True) goes on from it; another training needs another "
                "folder"
            )

    def newest(self) -> dict[str, Any] | None:
        """The state in the newest sound checkpoint; ``None`` where there is none at all. Damaged ones are set aside.

        Raises ``UserError`` for a checkpoint of another training, and where all are damaged: nothing is begun anew over
        what may be days of work.
        """
        damaged: dict[Path, str] = {}
        for file in self.files():
            try:
                state, record = self._read(file)
            except DamagedError as error:
                damaged[file] = str(error)
                continue
            if difference := first_difference(self._identity, record["training"]):
                raise UserError(f"{file} is of another training: {difference}")
            for other, wrong in damaged.items():
                self._note(f"{other} {wrong}; kept as {kept_aside(other)}, the one before is taken")
            return {**state, **{name: record[name] for name in ("seconds", "surroundings", "first_loss")}}
        if damaged:
            told = "; ".join(f"{file} {wrong}" for file, wrong in damaged.items())
            raise UserError(f"no checkpoint can be gone on from: {told}; begin anew in another folder")
        return None

    def write(self, outer_step: int, state: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Keep ``state`` as that after so many outer steps, and drop the oldest beyond what is kept.

        Raises ``UserError`` where it cannot be written, or the folder was removed: another training may begin there.
        """
        if not is_there(self._settings.folder):
            raise UserError(f"{self._settings.folder} was removed while its training was going: nothing of it is left")
        tree, tensors = parted(state)
        content = {"training": self._identity, "outer_step": outer_step, **record, "state": tree}
        try:
            write_tensors(self._settings.folder / _NAME.format(outer_step), KIND, tensors, content)
        except OSError as error:
            raise UserError(
                f"no checkpoint can be written to {self._settings.folder}: {error.strerror}; the one before is whole"
            ) from error
        for old in self.files()[self._settings.keep :]:
            with suppress(OSError):
                old.unlink()

    def _read(self, file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        tensors, record = read_tensors(file, KIND)
        try:
            state = joined(record["state"], tensors)
            known = {name: record[name] for name in ("training", "seconds", "surroundings")}
            known["first_loss"] = record.get("first_loss")  # what is older has none
        except (LookupError, TypeError) as error:
            raise DamagedError(f"lacks {error}") from error
        return state, known
