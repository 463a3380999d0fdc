"""An outer step that is itself kept on its way: its students one by one, each one's run, and what it has given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from l2t_bench.backend import Backend
from l2t_bench.durable import kept_aside
from l2t_bench.engine.records import DamagedError
from l2t_bench.errors import Diverged, Refused
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.health import AdjointHealth
from l2t_bench.kept_run import KeptRun
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensor_file import Kind, digest_of, joined, parted, read_tensors, write_tensors
from l2t_bench.tensors import TensorDict
from l2t_bench.trainer.contribution import Contribution, contribution_of
from l2t_bench.trainer.phases import Phases, add_cost
from l2t_bench.trainer.run_files import clear, read_run, write_run

STUDENT = Kind("student", 1)
_STUDENT_FILE, _STUDENTS = "student-{}.safetensors", "student-*.safetensors"


@dataclass(frozen=True)
class Within:
    """Where an outer step is kept on its way, and how many seconds lie between two looks at it."""

    folder: Path
    seconds: float
    note: Callable[[str], None]

    def contributions(
        self,
        problem: TeachingProblem,
        backend: TeacherGradientBackend,
        theta: TensorDict,
        horizon: int,
        seeds: Sequence[int],
        phases: Phases,
    ) -> list[Contribution]:
        """Those of the students that do not diverge; what an earlier process has done of them is not done again."""
        assert isinstance(backend, Backend), "check_keeps has looked"
        self.folder.mkdir(parents=True, exist_ok=True)
        found = []
        for seed in seeds:
            key = {"theta": digest_of(theta), "seed": seed, "horizon": horizon}
            given, known = self._known(key, problem.device)
            if not known:
                given = self._taken(problem, backend, theta, key, phases)
            found.append(given)
        return [given for given in found if given is not None]

    def clear(self) -> None:
        """Drop what is kept of an outer step that a checkpoint holds by now."""
        clear(self.folder)
        for file in self.folder.glob(_STUDENTS):
            file.unlink(missing_ok=True)

    def _taken(
        self, problem: TeachingProblem, backend: Backend, theta: TensorDict, key: Mapping[str, Any], phases: Phases
    ) -> Contribution | None:
        """What a student gives, kept; ``None`` for one that diverges."""
        keeper = _Keeper(self, key, self._left(problem, key))
        given = None
        try:
            result = backend.teacher_gradient(problem, theta, horizon=key["horizon"], seed=key["seed"], keeper=keeper)
        except Diverged:
            pass
        else:
            add_cost(phases, result.cost)
            given = contribution_of(result)
        self._keep(key, given)
        clear(self.folder)
        return given

    def _left(self, problem: TeachingProblem, key: Mapping[str, Any]) -> KeptRun | None:
        """The run of this student as an earlier process has left it; what is damaged or another's makes way."""
        try:
            found = read_run(self.folder, key, problem.device)
        except DamagedError as error:
            self.note(f"the run of student {key['seed']} {error}; it begins anew")
            found = None
        if found is None:
            clear(self.folder)
        return found

    def _keep(self, key: Mapping[str, Any], given: Contribution | None) -> None:
        tree, tensors = parted(None if given is None else _tree_of(given))
        write_tensors(self._file(key), STUDENT, tensors, {"key": key, "given": tree})

    def _known(self, key: Mapping[str, Any], device: torch.device) -> tuple[Contribution | None, bool]:
        """What a student has given, and whether that is known: it may have diverged."""
        file = self._file(key)
        try:
            tensors, record = read_tensors(file, STUDENT)
            if record["key"] != key:
                return None, False
            given = joined(record["given"], tensors)
            return (None if given is None else _given(given, device)), True
        except FileNotFoundError:
            return None, False
        except (DamagedError, LookupError, TypeError) as error:
            self.note(f"{file} {error}; kept as {kept_aside(file)}, the student is taught again")
            return None, False

    def _file(self, key: Mapping[str, Any]) -> Path:
        return self.folder / _STUDENT_FILE.format(key["seed"])


class _Keeper:
    """Keeps a run every so many seconds; a ``RunKeeper``."""

    def __init__(self, within: Within, key: Mapping[str, Any], found: KeptRun | None) -> None:
        self._within, self._key, self.found = within, key, found
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._within.seconds

    def keep(self, run: KeptRun) -> None:
        write_run(self._within.folder, self._key, run)
        self._last = time.monotonic()


def check_keeps(backend: TeacherGradientBackend) -> None:
    """Raises ``Refused`` for a method whose runs cannot be gone on with by another process."""
    refusal = (
        backend.keeping_refusal()
        if isinstance(backend, Backend)
        else Refused(f"{backend.name} keeps nothing of a run on its way", "rmd[store=sqrt] and rmd[store=binomial] do")
    )
    if refusal is not None:
        raise refusal


def _tree_of(given: Contribution) -> dict[str, Any]:
    health = None if given.health is None else {"first": given.health.first, "norms": given.health.norms}
    numbers = {"value": given.value, "seconds": given.seconds, "warnings": given.warnings}
    return {"d_theta": given.d_theta, "health": health, **numbers}


def _given(tree: Mapping[str, Any], device: torch.device) -> Contribution:
    health = tree["health"]
    return Contribution(
        {name: tensor.to(device) for name, tensor in tree["d_theta"].items()},
        tree["value"],
        tree["seconds"],
        None if health is None else AdjointHealth(health["first"], tuple(health["norms"])),
        tuple(tree["warnings"]),
    )
