"""Whether a teacher gradient will fit into memory, said before it is run; and what would fit where it does not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from l2t_bench.asked import checked_horizon
from l2t_bench.backend import Backend
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import Exactness, Prediction, TeacherGradientBackend, Walked
from l2t_bench.prediction import beside_law, bytes_at, record_bytes, seconds_at, short_sizes
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import list_backends, load_backend
from l2t_bench.resident import available_bytes, resident_bytes
from l2t_bench.units import byte_count, told

_GLANCE = 5  # steps of the run that a first look takes
_KINDS = (
    *(Exactness.EXACT, Exactness.QUANTISED, Exactness.TRUNCATED, Exactness.STATIONARY),
    *(Exactness.FINITE_DIFFERENCE, Exactness.STOCHASTIC),
)


@dataclass(frozen=True)
class Fit:
    """A method that would fit, with the peak above the start that it would take."""

    method: str  # with its options
    backend: str  # without
    exactness: Exactness
    bytes: int


@dataclass(frozen=True)
class Forecast:
    """What a method will take, or why it refuses."""

    method: str
    exactness: Exactness
    prediction: Prediction | None
    refused: str = ""


def forecasts(backends: Sequence[TeacherGradientBackend], problem: TeachingProblem, horizon: int) -> Iterator[Forecast]:
    """Of each backend as it comes: each takes some short runs. Raises ``UserError`` for a mistake of the problem's."""
    for backend in backends:
        name = str(backend) if isinstance(backend, Backend) else backend.name
        kind = backend.capabilities.exactness
        try:
            yield Forecast(name, kind, backend.predict(problem, horizon))
        except Refused as refusal:
            yield Forecast(name, kind, None, str(refusal))


def check_room(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, limit: int | None) -> None:
    """``check_fits`` in what this process may still take: of ``limit`` bytes in all, and of the machine's memory."""
    left = bytes_left(limit, problem, resident_bytes() or 0, available_bytes())
    if left is not None:
        _check(backend, problem, horizon, left)


def check_fits(
    backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, limit: int | str | None = None
) -> None:
    """Raises ``Refused`` with the prediction, the limit and what would fit, where the peak will pass ``limit``.

    The peak is what a teacher gradient takes above what is held when it begins; of a backend that takes several
    students at once, all of theirs. ``limit``: bytes, or text such as ``"20GB"``; left out, the memory that is
    available now, the device's where the problem is on one. Where a platform does not tell that, nothing is refused.

    A run that fits by far costs a few steps to see; one that comes near the limit costs the short runs of a
    prediction, and one that is refused those of every registered method. Raises ``UserError`` for a horizon or limit
    that is none, and as ``teacher_gradient`` does for a problem's mistakes.
    """
    steps = checked_horizon(horizon, None, 0)
    if limit is None:
        check_room(backend, problem, steps, None)
    else:
        _check(backend, problem, steps, byte_count(limit))


def _check(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, limit: int) -> None:
    if fits_by_far(backend, problem, horizon, limit):
        return
    predicted = predict_bytes(backend, problem, horizon)
    if predicted <= limit:
        return
    worth = _worth_naming(would_fit(problem, horizon, limit))
    fitting = [f"{fit.method} ({fit.exactness}, {told(fit.bytes)})" for fit in worth]
    raise Refused(
        f"{backend} would take {told(predicted)} at horizon {horizon}, and {told(max(0, limit))} are left",
        f"these would fit: {', '.join(fitting)}" if fitting else "no method here would fit",
    )


def fits_by_far(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int, limit: int) -> bool:
    """Whether even a bound from above stays below ``limit``: the law's bytes, else those of a few steps times T."""
    if not isinstance(backend, Backend):
        return False
    backend = backend.settled(problem, horizon)
    known = backend.scaling(problem, horizon).bytes
    if known is not None and known > limit:
        return False
    taken = short_sizes(backend, problem, (min(_GLANCE, horizon),))[0]
    records = record_bytes(backend, problem, horizon)
    # A few steps of a small student may find all their memory free: what they take is none, and the records are not.
    grown = taken * max(1, horizon / _GLANCE) if known is None else known + taken
    return grown + records <= limit


def predict_bytes(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> int:
    """Peak bytes above the start, without the timed runs of ``predict`` where the method's growth is known."""
    if not isinstance(backend, Backend):
        return backend.predict(problem, horizon).bytes
    backend = backend.settled(problem, horizon)
    return bytes_at(backend, problem, horizon, partial(backend.scaling, problem))


def would_fit(problem: TeachingProblem, horizon: int, limit: int) -> list[Fit]:
    """The registered methods, with their variants, that fit below ``limit``: the exact ones first, by their size."""
    found = [fit for name in list_backends() for fit in _variants(name, problem, horizon) if fit.bytes <= limit]
    return sorted(found, key=lambda fit: (_KINDS.index(fit.exactness), fit.bytes))


def _worth_naming(fits: Sequence[Fit]) -> list[Fit]:
    """Every exact way; of another method the one variant that takes least."""
    first: dict[str, Fit] = {}
    for fit in fits:
        first.setdefault(fit.method if fit.exactness is Exactness.EXACT else fit.backend, fit)
    return list(first.values())


def _variants(name: str, problem: TeachingProblem, horizon: int) -> Iterator[Fit]:
    try:
        backend = load_backend(name)
    except UserError:
        return  # its library is not installed
    if not isinstance(backend, Backend) or backend.capabilities.exactness not in _KINDS:
        return
    supported = [variant for variant in backend.variants() if variant.supports(problem, horizon)]
    for variant, peak in zip(supported, peaks_of(supported, problem, horizon), strict=True):
        yield Fit(str(variant), name, variant.capabilities.exactness, peak)


def peaks_of(variants: Sequence[Backend], problem: TeachingProblem, horizon: int) -> Iterator[int]:
    """The predicted peak above the start of each way of one method.

    They differ in what they hold: what they take beside it is found once, by short runs of the first.
    """
    beside: int | None = None
    for variant in variants:
        known = variant.scaling(problem, horizon).bytes
        if known is None:
            yield predict_bytes(variant, problem, horizon)
        else:
            beside = beside if beside is not None else beside_law(variant, problem, partial(variant.scaling, problem))
            yield known + beside + record_bytes(variant, problem, horizon)


def settled(backend: TeacherGradientBackend, problem: TeachingProblem, steps: int) -> TeacherGradientBackend:
    """The method as so many student steps will find it: one that changes on the way could not be gone on with."""
    found: TeacherGradientBackend = backend.settled(problem, steps) if hasattr(backend, "settled") else backend
    return found


def settled_engine(backend: TeacherGradientBackend, problem: TeachingProblem, steps: int) -> Walked | None:
    """What ``settled`` lets the steps be taken by, and why; ``None`` for a method without engines."""
    found: Walked | None = backend.settled_engine(problem, steps) if hasattr(backend, "settled_engine") else None
    return found


def predict_seconds(backend: TeacherGradientBackend, problem: TeachingProblem, horizon: int) -> float:
    """Seconds of one teacher gradient, without the runs of ``predict`` that tell its memory."""
    if not isinstance(backend, Backend):
        return backend.predict(problem, horizon).seconds
    backend = backend.settled(problem, horizon)
    return seconds_at(backend, problem, horizon, partial(backend.scaling, problem))


def bytes_left(limit: int | None, problem: TeachingProblem, held: int, available: int | None) -> int | None:
    """How much a teacher gradient may take: the rest of ``limit``, and what the machine or the device has.

    ``held``: the process's resident bytes now; ``available``: what the machine could still give it. On a GPU the
    limit and the free memory are the device's. ``None`` where nothing is known.
    """
    if problem.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(problem.device)
        mine = torch.cuda.memory_reserved(problem.device)
        bounds = [free + mine] if limit is None else [free + mine, limit]
        return min(bounds) - torch.cuda.memory_allocated(problem.device)
    bounds = [bound for bound in (available, None if limit is None else limit - held) if bound is not None]
    return min(bounds) if bounds else None
