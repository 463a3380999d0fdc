"""The capability table: what each backend does with each thing that a user may bring, found by trying it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch

from l2t_bench.errors import L2TError, Refused, UserError
from l2t_bench.gradient import Exactness, TeacherGradientBackend
from l2t_bench.registry import load_backend
from l2t_bench.verification.checks import flat, inner
from l2t_bench.verification.probes import PROBES, Probe, make_probe

BOUND = 1e-6
"""Of a slope's error, relative to |d_theta|."""


class Verdict(StrEnum):
    EXACT = "exact"  # agrees with central differences
    RUNS = "runs"  # a method that promises another quantity gives one, and it is finite
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
    if backend.capabilities.exactness is not Exactness.EXACT:
        return Cell(name, probe.name, Verdict.RUNS, f"another quantity: {backend.capabilities.exactness}")
    length = float(torch.linalg.vector_norm(flat(result.d_theta)))
    found = [inner(result.d_theta, direction) for direction in probe.directions]
    errors = [min(abs(each - slope) for each in known) for slope, known in zip(found, probe.slopes, strict=True)]
    away = max(errors) / length if length else float("inf")
    if away > BOUND:
        return Cell(name, probe.name, Verdict.WRONG, f"off by {away:.1g} of the gradient's length", away)
    return Cell(name, probe.name, Verdict.EXACT, error=away)


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
        "it promises, which is not the derivative of the run. **no**: refuses before it gives a number, for the",
        "reason below.",
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
