"""The capability table: what each backend does with each thing that a user may bring, found by trying it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import torch

from l2t_bench.errors import L2TError, Refused, UserError
from l2t_bench.gradient import Exactness, TeacherGradient, TeacherGradientBackend
from l2t_bench.registry import list_backends, load_backend
from l2t_bench.verification import approximations, checks
from l2t_bench.verification.peers import reach, through_last, with_options
from l2t_bench.verification.probes import PROBES, Probe, make_probe
from l2t_bench.verification.stationary import check_stationary
from l2t_bench.verification.subject import Check, Outcome, Subject, by
from l2t_bench.verification.vectors import flat, inner

BOUND = 1e-6
"""Of a slope's error, relative to |d_theta|."""

VARIANTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"rmd": ("rmd[hvp=for]", "rmd[store=reversible]"), "torchopt": ("torchopt[api=meta]",)}
)
"""By backend: those of its options that change what it refuses."""


class Verdict(StrEnum):
    EXACT = "exact"  # agrees with central differences
    RUNS = "runs"  # a method that promises another quantity gives it
    REFUSED = "no"  # before a number was given, with a reason
    ABSENT = "absent"  # its library is not installed
    WRONG = "WRONG"  # a number that is not the derivative, or a failure: a defect


@dataclass(frozen=True)
class Cell:
    """What a backend makes of a thing brought; ``error`` is its slope's, relative, where it promises to be exact."""

    backend: str
    brought: str
    verdict: Verdict
    reason: str = ""
    error: float | None = None


def with_variants() -> list[str]:
    """The registered backends, and after each the variants of it that refuse otherwise: columns of the table."""
    return [name for backend in list_backends() for name in (backend, *VARIANTS.get(backend, ()))]


def capabilities(backends: Sequence[str], brought: Sequence[str] = tuple(PROBES)) -> Iterator[Cell]:
    """The cells as they come: for each thing brought all backends."""
    loaded = {name: _loaded(name) for name in backends}
    for thing in brought:
        probe = make_probe(thing)
        for name, backend in loaded.items():
            yield (
                Cell(name, thing, Verdict.ABSENT, backend) if isinstance(backend, str) else tried(name, backend, probe)
            )


def tried(name: str, backend: TeacherGradientBackend, probe: Probe) -> Cell:
    """One cell. Whatever goes wrong without a refusal is a defect of the backend's, and is told as such."""
    try:
        result = backend.teacher_gradient(probe.problem, probe.theta, steps=probe.steps)
    except Refused as refusal:
        return Cell(name, probe.name, Verdict.REFUSED, str(refusal))
    except (L2TError, RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:
        return Cell(name, probe.name, Verdict.WRONG, f"{type(error).__name__}: {error}".splitlines()[0])
    if not bool(torch.isfinite(flat(result.d_theta)).all()):
        return Cell(name, probe.name, Verdict.WRONG, "d_theta is not finite")
    return _judged(name, backend, probe, result)


def _judged(name: str, backend: TeacherGradientBackend, probe: Probe, result: TeacherGradient) -> Cell:
    """What a number is worth: the slopes tell of an exact one, and of others the quantity that they promise."""
    kind = backend.capabilities.exactness
    if Exactness.EXACT in (kind, result.exactness):
        away = _away(result, probe)
        if away > BOUND:
            return Cell(name, probe.name, Verdict.WRONG, f"off by {away:.1g} of the gradient's length", away)
        if kind is Exactness.EXACT:
            return Cell(name, probe.name, Verdict.EXACT, error=away)
    elif (wrong := _unlike_its_kind(Subject(backend, probe.problem, probe.theta, 0, result))) is not None:
        return Cell(name, probe.name, Verdict.WRONG, f"{wrong.name}: {wrong.figure:.2g}, not {wrong.bound:g}")
    return Cell(name, probe.name, Verdict.RUNS, f"another quantity: {kind}")


def _away(result: TeacherGradient, probe: Probe) -> float:
    """The error of the slopes along the probe's directions, relative to |d_theta|."""
    length = float(torch.linalg.vector_norm(flat(result.d_theta)))
    found = [inner(result.d_theta, direction) for direction in probe.directions]
    errors = [min(abs(each - slope) for each in known) for slope, known in zip(found, probe.slopes, strict=True)]
    return max(errors) / length if length else float("inf")


def _unlike_its_kind(subject: Subject) -> Check | None:
    """The check that an approximate method fails at what it promises: one of the ladder's, on fewer runs."""
    return next((check for check in _BY_KIND[subject.backend.capabilities.exactness](subject) if _failed(check)), None)


def _failed(check: Check) -> bool:
    return check.outcome is Outcome.FAILED


def _truncated(subject: Subject) -> list[Check]:
    alone = with_options(subject.backend, every=0)
    steps = len(subject.steps)
    found = [checks.check_directions(by(subject, alone), 2, steps - reach(alone, subject.problem, steps))]
    return found + ([approximations.check_online(subject)] if getattr(subject.backend, "every", 0) else [])


def _stochastic(subject: Subject) -> list[Check]:
    reference = through_last(subject.backend, subject.problem, len(subject.steps))
    if reference is None:
        return []
    if hasattr(subject.backend, "directions"):
        return [approximations.check_every_entry(subject, reference)]
    return [approximations.check_slope(subject, reference)]


_BY_KIND: Mapping[Exactness, Callable[[Subject], list[Check]]] = MappingProxyType(
    {
        Exactness.QUANTISED: lambda subject: [checks.check_directions(subject, count=2)],
        Exactness.TRUNCATED: _truncated,
        Exactness.FINITE_DIFFERENCE: lambda subject: [approximations.check_finite_difference(subject, count=2)],
        Exactness.STATIONARY: lambda subject: [check_stationary(subject)],
        Exactness.STOCHASTIC: _stochastic,
    }
)


def notes(cells: Sequence[Cell]) -> list[str]:
    """The reasons below the table, each once: ``backend, thing brought: reason``."""
    told: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        if cell.reason and cell.verdict is not Verdict.RUNS:
            told.setdefault((cell.backend, cell.reason), []).append(cell.brought)
    approximate = {cell.backend: cell.reason for cell in cells if cell.verdict is Verdict.RUNS}
    return [
        *(f"{backend}: {', '.join(brought)}: {reason}" for (backend, reason), brought in told.items()),
        *(f"{backend}: runs: {reason}" for backend, reason in approximate.items()),
    ]


def table(cells: Sequence[Cell]) -> tuple[list[str], list[list[str]]]:
    """The header, and a row for each thing brought: its name and each backend's verdict."""
    backends = list(dict.fromkeys(cell.backend for cell in cells))
    verdicts = {(cell.brought, cell.backend): str(cell.verdict) for cell in cells}
    rows = [
        [brought, *(verdicts[brought, backend] for backend in backends)]
        for brought in dict.fromkeys(cell.brought for cell in cells)
    ]
    return ["", *backends], rows


def as_markdown(cells: Sequence[Cell]) -> str:
    """The table and its notes as a page; no figures, so that it changes only when a capability does."""
    header, rows = table(cells)
    lines = [
        "# What each backend does with what you may bring",
        "",
        "Made by `l2t-bench list backends --capabilities --markdown > docs/capabilities.md`: each cell is a run of",
        "a few steps in float64 that was tried. **exact**: agrees with central differences. **runs**: gives what",
        "it promises, which is not the derivative of the run, and was held to it. **no**: refuses before it gives a",
        "number, for the reason below. `-b BACKEND`, with options, probes others.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- {note}" for note in notes(cells)),
    ]
    return "\n".join(lines)


def _loaded(name: str) -> TeacherGradientBackend | str:
    """The backend, or why there is none."""
    try:
        return load_backend(name)
    except UserError as error:
        return str(error)
