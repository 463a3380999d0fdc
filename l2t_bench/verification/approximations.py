"""The rungs of methods that are not exact: each is held to the quantity that it says it approximates.

A finite difference to the derivative that it tends to, a stochastic estimate to its mean, a mean over windows to its
windows. What a stationary method is held to has a module of its own, ``stationary``.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev

from l2t_bench.errors import Refused
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.tensors import TensorDict, Tensors, mean_of
from l2t_bench.verification.checks import check_directions
from l2t_bench.verification.peers import label, reach, through_last, with_options
from l2t_bench.verification.subject import Check, Subject, by, held_to, skipped
from l2t_bench.verification.vectors import inner, random_directions, relative_error

STUDENTS, ERRORS = 16, 5.0
"""A stochastic method's mean is over so many students, and within so many standard errors. A right one passes 998 times
in 1000 (Student's t of 15 degrees of freedom, some ten figures); the seeds are always the same."""

_MEMBERS, _DIRECTIONS = 32, 4  # of an estimate: few enough to be quick, enough to see a wrong sign or size
_SIGMA = 1e-3  # so small that the smoothed gradient is the gradient
_EPSILONS = (1e-4, 1e-5, 1e-6)  # the smaller ones for a student with kinks of ReLUs within the first


def check_finite_difference(subject: Subject, count: int = 8, bound: float = 1e-6) -> Check:
    """d_theta at a small step size against central differences of the run, theta moved in the steps it speaks of.

    Without an option ``epsilon`` to make small, the method's own result is held to a hundredth.
    """
    steps = len(subject.steps)
    start = steps - reach(subject.backend, subject.problem, steps)
    small = _between_kinks(subject, bound)
    found = check_directions(small, count, start, bound if hasattr(small.backend, "epsilon") else 1e-2)
    return replace(found, name=f"{label(small.backend)} is the derivative through the last {steps - start} steps")


def _between_kinks(subject: Subject, bound: float) -> Subject:
    """The method at the largest of a few small steps that is as near to what it tends to as order 1 would not be.

    A kink of a ReLU between its two ends spoils a difference. At a step that is so many times smaller it must come so
    many times nearer to the exact method of the same steps: else a difference to one side, of order 1, came by that
    way. The first step where none does, and where there is none to ask.
    """
    found = by(subject, with_options(subject.backend, epsilon=_EPSILONS[0]))
    reference = through_last(subject.backend, subject.problem, len(subject.steps))
    if reference is None or not hasattr(subject.backend, "epsilon"):
        return found
    try:
        true = by(subject, reference).result.d_theta
    except Refused:  # what only shows in the run
        return found
    for epsilon in _EPSILONS:
        smaller = by(subject, with_options(subject.backend, epsilon=epsilon))
        if relative_error(smaller.result.d_theta, true) <= bound * epsilon / _EPSILONS[0]:
            return smaller
    return found


def check_mean(
    subject: Subject, reference: TeacherGradientBackend, students: int = STUDENTS, bound: float = ERRORS
) -> Check:
    """The mean over students of a stochastic estimate less the derivative of the same run, in standard errors.

    Along the derivative itself, whole and tensor by tensor, where scale and sign show, and along random directions;
    the worst counts. The smoothing of a method with a ``sigma`` is made too small to matter.
    """
    few = min(_DIRECTIONS, max(1, _entries(subject) - 1))
    backend = with_options(subject.backend, sigma=_SIGMA, population=_MEMBERS, directions=few)
    away = _errors(subject, backend, reference, students, random_directions(subject.theta, 4))
    name = f"mean over students less {label(reference)}, in standard errors"
    if not away:
        return skipped(name, "the objective has no slope here")
    shares, *others = zip(*away, strict=True)
    worst = max(_off_scale(shares), *(_standard_errors(column) for column in others))
    return held_to(name, worst, bound, f"{label(backend)}, {students} students")


def check_slope(subject: Subject, reference: TeacherGradientBackend, students: int = 8, bound: float = 6.0) -> Check:
    """``check_mean`` along the derivative alone, from an eighth of the runs: a wrong sign shows, and a size far off."""
    backend = with_options(subject.backend, sigma=_SIGMA, population=_MEMBERS // 4)
    away = _errors(subject, backend, reference, students)
    name = f"mean along {label(reference)}, in standard errors"
    if not away:
        return skipped(name, "the objective has no slope here")
    return held_to(name, _off_scale([each[0] for each in away]), bound, f"{students} students")


def check_every_entry(subject: Subject, reference: TeacherGradientBackend, bound: float = 1e-10) -> Check:
    """A method of random ``directions``, given as many as theta has entries: then it is exact."""
    whole = with_options(subject.backend, directions=_entries(subject))
    found, true = (by(subject, backend).result.d_theta for backend in (whole, reference))
    name = f"{label(whole)}, as many as theta has entries, equals {label(reference)}"
    return held_to(name, relative_error(found, true), bound, f"{len(subject.steps)} steps")


def check_online(subject: Subject, bound: float = 1e-12) -> Check:
    """A gradient taken ``every`` so many steps is the mean of those of the runs that end there."""
    steps, every = subject.steps, int(getattr(subject.backend, "every", 0))
    alone = with_options(subject.backend, every=0)
    ends = [*range(every, len(steps), every), len(steps)]
    parts = [
        alone.teacher_gradient(subject.problem, subject.theta, steps=steps[:end], seed=subject.seed).d_theta
        for end in ends
    ]
    error = relative_error(subject.result.d_theta, mean_of(parts))
    return held_to(f"the mean of {label(alone)} at {len(ends)} ends", error, bound, f"{len(steps)} steps")


def _entries(subject: Subject) -> int:
    return sum(tensor.numel() for tensor in subject.theta.values())


def _errors(
    subject: Subject,
    backend: TeacherGradientBackend,
    reference: TeacherGradientBackend,
    students: int,
    directions: Sequence[Tensors] = (),
) -> list[list[float]]:
    """``_away`` of each student; nothing where a derivative is zero."""
    found = []
    for seed in range(subject.seed, subject.seed + students):
        own = backend.teacher_gradient(subject.problem, subject.theta, horizon=len(subject.steps), seed=seed)
        true = reference.teacher_gradient(subject.problem, subject.theta, steps=own.steps, seed=seed).d_theta
        if not inner(true, true) > 0:
            return []
        found.append(_away(own.d_theta, true, directions))
    return found


def _away(found: Tensors, true: TensorDict, directions: Sequence[Tensors]) -> list[float]:
    """What the estimate has too much, along the derivative (as a share of it) and along random directions.

    Each figure is one whose mean is zero: over students with gradients of other lengths none outweighs the others.
    """
    length = inner(true, true) ** 0.5
    too_much = {name: found[name] - tensor for name, tensor in true.items()}
    own = [inner({name: too_much[name]}, {name: true[name]}) for name in true]
    return [part / length**2 for part in (sum(own), *own)] + [inner(too_much, each) / length for each in directions]


def _standard_errors(samples: Sequence[float], rounding: float = 1e-6) -> float:
    """How many standard errors the mean of ``samples`` is from zero; ``rounding`` is not noise and does not count."""
    error = stdev(samples) / len(samples) ** 0.5
    return float(abs(fmean(samples)) / (error + rounding))


def _off_scale(shares: Sequence[float]) -> float:
    """The same of shares of the derivative that an estimate has too much, by the standard error of one of size 1.

    An estimate that is three times too long has three times the noise, which must not excuse it.
    """
    return _standard_errors(shares) * max(1.0, abs(1 + fmean(shares)))
