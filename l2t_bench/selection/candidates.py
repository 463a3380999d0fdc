"""Who is a candidate: the methods asked for, or all with each way of holding a run; and which are worth a look.

A way that takes steps once more is slower than one of the same method that does not; and of ways that take as many
again, what needs less memory pays for it in copies. So the fastest way of a method is among the two largest that fit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from l2t_bench.backend import Backend
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import Exactness, TeacherGradientBackend
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import list_backends, load_backend
from l2t_bench.selection.records import Asked, Candidate
from l2t_bench.units import told
from l2t_bench.verification.peers import label

EXACT = (Exactness.EXACT, Exactness.QUANTISED)
_TIMED = 2  # of a method's ways


@dataclass(frozen=True)
class Entry:
    """A candidate with the backend that it is."""

    backend: TeacherGradientBackend
    candidate: Candidate

    def known(self, **what: object) -> "Entry":
        """The same, of which more is known."""
        return replace(self, candidate=replace(self.candidate, **what))  # type: ignore[arg-type]

    @property
    def open(self) -> bool:
        """Whether it may still be taken."""
        return not self.candidate.rejected

    @property
    def exact(self) -> bool:
        return self.backend.capabilities.exactness in EXACT

    @property
    def compiled(self) -> bool:
        """Whether it compiles a problem's steps before it takes them."""
        return getattr(self.backend, "engine", "eager") != "eager"

    @property
    def kind(self) -> tuple[str, Exactness]:
        """What entries share whose gradients are equal."""
        return self.backend.name, self.backend.capabilities.exactness

    @property
    def way(self) -> tuple[str, Exactness, bool]:
        """What entries share that differ in how they hold a run alone."""
        return *self.kind, self.compiled


def candidates(
    problem: TeachingProblem, asked: Asked, backends: Sequence[TeacherGradientBackend] | None
) -> list[Entry]:
    """``backends``, or those that are registered and installed; what cannot do the problem is rejected."""
    if backends is None:
        backends = [choice for name in list_backends() for choice in _choices(name, asked.horizon)]
    return [_entry(backend, problem, asked) for backend in backends]


def _choices(name: str, horizon: int) -> Sequence[TeacherGradientBackend]:
    try:
        backend = load_backend(name)
    except UserError:
        return ()  # its library is not installed
    return backend.choices(horizon) if isinstance(backend, Backend) else (backend,)


def _entry(backend: TeacherGradientBackend, problem: TeachingProblem, asked: Asked) -> Entry:
    exactness = backend.capabilities.exactness
    refusal = backend.supports(problem, asked.horizon)
    rejected = str(refusal) if isinstance(refusal, Refused) else ""
    if not rejected and exactness not in EXACT:
        rejected = asked.accepted.refusal(exactness)
    return Entry(backend, Candidate(label(backend), exactness, rejected=rejected))


def by_way(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries in groups that differ in how they hold a run alone, in their order."""
    for _, group in groupby(entries, key=lambda entry: entry.way):
        yield list(group)


def worth_timing(group: Sequence[Entry], problem: TeachingProblem, asked: Asked) -> Iterator[Entry]:
    """The members of one way; of exact ones all that cannot be the best of it are rejected."""
    if not group[0].exact:
        yield from group
        return
    ranked = sorted((entry for entry in group if entry.open), key=lambda entry: _rank(entry, problem, asked))
    best = ranked[:1] if asked.prefer == "memory" else ranked[:_TIMED]
    for entry in group:
        yield entry.known(rejected=_behind(entry, best[0], asked)) if entry.open and entry not in best else entry


def _rank(entry: Entry, problem: TeachingProblem, asked: Asked) -> tuple[int, int]:
    size = entry.candidate.bytes or 0
    if asked.prefer == "memory" or not isinstance(entry.backend, Backend):
        return size, 0
    return entry.backend.scaling(problem, asked.horizon).recomputed, -size


def _behind(entry: Entry, best: Entry, asked: Asked) -> str:
    if asked.prefer == "memory":
        return f"takes {told(entry.candidate.bytes or 0)}, {best.candidate.method} takes less"
    return f"slower than {best.candidate.method}, which fits: it saves memory by steps taken again, or by copies"
