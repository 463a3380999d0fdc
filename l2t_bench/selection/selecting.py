"""From all candidates to one: what can do the problem, fits, is as exact as it says, and takes least."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from l2t_bench.asked import checked_horizon
from l2t_bench.backend import Backend
from l2t_bench.errors import Diverged, Refused, UserError
from l2t_bench.fitting import bytes_left, peaks_of, predict_bytes, predict_seconds, settled
from l2t_bench.gradient import Exactness, TeacherGradient, TeacherGradientBackend, Walked
from l2t_bench.metabatch.contract import students_at_once, teacher_gradients
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import available_bytes, resident_bytes
from l2t_bench.selection.candidates import Entry, by_way, candidates, worth_timing
from l2t_bench.selection.proving import GLANCE, Measured, Referee
from l2t_bench.selection.records import PREFERENCES, Accepted, Asked, Candidate, Decision, Prefer, least
from l2t_bench.units import byte_count, told
from l2t_bench.verification.peers import with_options

_AFFORDABLE = 20.0  # seconds of an exact gradient that approximate ones are held to
_SHORTEST = 10  # steps of that run
_TOO_LATE = "not looked at: the time for the choice was up"
_COMPILED = "compiled steps are held to plain ones when they are made"
_LOOK = 30  # steps of a run that is looked at for what takes them: two blocks of recorded ones, and more

EXACT_ONES = Accepted()

Progress = Callable[[str], None]
Verdicts = dict[tuple[str, Exactness], tuple[str, str]]
"""Method and exactness -> what was found, and why it cannot be taken."""


def select_backend(
    problem: TeachingProblem,
    *,
    horizon: int,
    memory_limit: int | str | None = None,
    accepted: Accepted = EXACT_ONES,
    prefer: Prefer = "time",
    backends: Sequence[TeacherGradientBackend] | None = None,
    seconds: float = 300.0,
    progress: Progress = lambda line: None,
) -> Decision:
    """The backend for teacher gradients of ``horizon`` steps of ``problem`` on this machine.

    ``memory_limit``: of the process's peak, on the host or on the problem's device, in bytes or as text (``"20GB"``);
    left out, what is available. ``accepted``: how near an approximate gradient must be to the exact one to be
    taken; left out, exact methods alone are. ``prefer``: the one that takes least
    ``time`` or least ``memory`` among those. ``backends``: these with their options, in place of all registered ones
    with each way of holding a run. ``seconds``: how long this may take; no run is broken off.

    The answer is in ``Decision.chosen``, or why there is none in every candidate's ``rejected``; ``taken()`` raises
    then. Raises ``UserError`` for what is no horizon, limit, bound or preference, and as ``teacher_gradient`` does for
    mistakes of the problem's.
    """
    if prefer not in PREFERENCES:
        raise UserError(f"prefer must be {' or '.join(PREFERENCES)}, not {prefer!r}")
    steps = checked_horizon(horizon, None, 0)
    limit = None if memory_limit is None else byte_count(memory_limit)
    held = resident_bytes() or 0
    room = bytes_left(limit, problem, held, available_bytes())
    asked = Asked(steps, room, accepted, prefer, seconds, held)
    return _Selecting(problem, asked, progress).among(candidates(problem, asked, backends))


class _Selecting:
    """One selection: the cheap questions first, until the time is up."""

    def __init__(self, problem: TeachingProblem, asked: Asked, progress: Progress) -> None:
        self._problem, self._asked, self._say = problem, asked, progress
        self._until = time.monotonic() + asked.seconds

    def among(self, entries: Sequence[Entry]) -> Decision:
        exact = self._timed(self._proved(self._sized(entry for entry in entries if entry.exact)))
        others = self._sized(entry for entry in entries if not entry.exact)
        near = self._timed(self._near(others, _fastest(exact)))
        known = [entry.candidate for entry in (*exact, *near)]
        return Decision(self._asked, known, least(known, self._asked.prefer))

    def _sized(self, entries: Iterable[Entry]) -> list[Entry]:
        """With their predicted peaks. What does not fit is rejected, and what cannot be the best of its kind.

        What compiles comes last: it takes longest to tell.
        """
        order = sorted(entries, key=lambda entry: entry.compiled)
        return [
            entry
            for group in by_way(order)
            for entry in worth_timing(self._with_peaks(group), self._problem, self._asked)
        ]

    def _with_peaks(self, group: Sequence[Entry]) -> list[Entry]:
        peaks = self._peaks([entry.backend for entry in group if entry.open])
        return [self._fitting(entry, peaks) if entry.open else entry for entry in group]

    def _peaks(self, backends: Sequence[TeacherGradientBackend]) -> Iterator[int]:
        if all(isinstance(backend, Backend) for backend in backends):
            return peaks_of([each for each in backends if isinstance(each, Backend)], self._problem, self._horizon)
        return (predict_bytes(backend, self._problem, self._horizon) for backend in backends)

    def _fitting(self, entry: Entry, peaks: Iterator[int]) -> Entry:
        if self._late(entry, "memory"):
            return entry.known(rejected=_TOO_LATE)
        try:
            peak = next(peaks)
        except Refused as refusal:
            return entry.known(rejected=str(refusal))
        room = self._asked.room
        if room is not None and peak > room:
            return entry.known(bytes=peak, rejected=f"would take {told(peak)}, and {told(max(0, room))} are left")
        return entry.known(bytes=peak)

    def _proved(self, entries: Sequence[Entry]) -> list[Entry]:
        """Each method held to the first of them, which is held to differences; its ways of holding a run are alike."""
        first = next((entry for entry in entries if entry.open and not entry.compiled), None)
        verdicts: Verdicts = {}
        if first is not None:
            referee = Referee(self._problem, first.backend, min(GLANCE, self._horizon))
            for entry in entries:
                if entry.open and not entry.compiled and entry.kind not in verdicts:
                    verdicts[entry.kind] = self._verdict(referee, entry)
        return self._as_they_walk([_judged(entry, verdicts) for entry in entries])

    def _as_they_walk(self, entries: Sequence[Entry]) -> list[Entry]:
        """With what was found of plain steps; of those that are to compile theirs, what a short run shows."""
        there = [entry.backend for entry in entries if entry.open]
        return [self._walked(entry, there) if entry.open and entry.compiled else entry for entry in entries]

    def _walked(self, entry: Entry, there: Sequence[TeacherGradientBackend]) -> Entry:
        """A candidate whose engine is not to be had here is its twin by another: one of them is enough."""
        near = "" if entry.exact else f"{entry.candidate.proof}; "  # what was found of plain steps is no proof here
        if self._late(entry, "compiled steps"):
            return entry.known(proof=f"{near}not looked at whether its steps can be compiled: the time for it was up")
        try:
            walked = self._engine(entry.backend)
        except Refused as refusal:
            return entry.known(rejected=str(refusal))
        if walked is None or (walked.engine == "eager" and not walked.instead_of):
            return entry  # auto has left them in plain torch
        if walked.instead_of:
            said = f"engine={walked.instead_of} is not to be had here, but {walked}"
            own = {"activations": "some"} if walked.engine == "eager" else {}  # plain steps have none to keep
            twin = with_options(entry.backend, engine=walked.engine, **own)
            return entry.known(rejected=said) if twin in there else entry.known(proof=near + said)
        return entry.known(proof=f"{near}{_COMPILED}{f'; {walked.why}' if walked.why else ''}")

    def _engine(self, backend: TeacherGradientBackend) -> Walked | None:
        """What takes the steps of the runs that it is chosen for."""
        method, steps = settled(backend, self._problem, self._horizon), min(_LOOK, self._horizon)
        theta, seeds = self._problem.init_teacher(0), range(students_at_once(method))
        found = teacher_gradients(method, self._problem, theta, horizon=steps, seeds=seeds)
        return next((each.engine for each in found if isinstance(each, TeacherGradient)), None)

    def _verdict(self, referee: Referee, entry: Entry) -> tuple[str, str]:
        if self._late(entry, "exactness"):
            return "not held to others: the time for it was up", ""
        try:
            return referee.verdict(entry.backend)
        except Refused as refusal:
            return "", str(refusal)

    def _near(self, entries: Sequence[Entry], exact: Entry | None) -> list[Entry]:
        """Approximate ones held to the exact gradient of the longest affordable run."""
        if exact is None:
            why = "there is no exact method that fits, to hold it to"
            return [entry.known(rejected=why) if entry.open else entry for entry in entries]
        measured = Measured(self._problem, exact.backend, self._affordable(exact.candidate))
        return self._as_they_walk([self._near_enough(entry, measured) if entry.open else entry for entry in entries])

    def _near_enough(self, entry: Entry, measured: Measured) -> Entry:
        if self._late(entry, "quality"):
            return entry.known(rejected=_TOO_LATE)
        try:
            quality = measured.quality(entry.backend)
        except (Refused, Diverged) as error:
            return entry.known(rejected=str(error))
        said = quality.said(self._horizon)
        if self._asked.accepted.takes(quality):
            return entry.known(proof=said)
        return entry.known(rejected=f"{said}; {self._asked.accepted}")

    def _affordable(self, exact: Candidate) -> int:
        """The longest run, by halves of the horizon, whose exact gradient takes a few seconds."""
        horizon = self._horizon
        per_step = (exact.seconds or 0.0) / horizon
        while horizon >= 2 * _SHORTEST and per_step * horizon > _AFFORDABLE:
            horizon //= 2
        return horizon

    def _timed(self, entries: Sequence[Entry]) -> list[Entry]:
        return [self._seconds(entry) if entry.open else entry for entry in entries]

    def _seconds(self, entry: Entry) -> Entry:
        if self._late(entry, "time"):
            return entry.known(rejected=_TOO_LATE)
        try:
            return entry.known(seconds=predict_seconds(entry.backend, self._problem, self._horizon))
        except Refused as refusal:
            return entry.known(rejected=str(refusal))

    @property
    def _horizon(self) -> int:
        return self._asked.horizon

    def _late(self, entry: Entry, question: str) -> bool:
        """Whether the time is up; if not, what is asked next is told."""
        if time.monotonic() > self._until:
            return True
        self._say(f"{entry.candidate.method}: {question}")
        return False


def _judged(entry: Entry, verdicts: Verdicts) -> Entry:
    if not entry.open or entry.kind not in verdicts:
        return entry
    proof, rejected = verdicts[entry.kind]
    return entry.known(proof=proof, rejected=rejected)


def _fastest(entries: Sequence[Entry]) -> Entry | None:
    best = least([entry.candidate for entry in entries], "time")
    return next((entry for entry in entries if entry.candidate is best), None) if best else None
