"""The ladder: which checks a backend must pass on a problem, in an order from the forward pass up.

In float64, on a theta in general position (jittered: a teacher whose keys are all alike has derivatives that are zero
for no good reason).
"""

import dataclasses
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import torch

from l2t_bench.adam import Adam
from l2t_bench.errors import Refused, but_for_numbers
from l2t_bench.gradient import Exactness, TeacherGradientBackend
from l2t_bench.groups import Group
from l2t_bench.optimizers import SGD, Optimizer, linear_decay
from l2t_bench.problem import TeachingProblem, example_count
from l2t_bench.registry import build_problem
from l2t_bench.tensors import TensorDict
from l2t_bench.verification import approximations, checks, numeric
from l2t_bench.verification.peers import exact_peers, label, through_last, whole_sibling, with_options
from l2t_bench.verification.reference import check_reference
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.stationary import check_stationary
from l2t_bench.verification.subject import SAID, Check, Outcome, Subject, by, said_of, skipped

SHORT, LONG = 12, 50
"""Horizons: central differences replay the run many times and go over the short one; all else goes over the long."""

_DEV_EXAMPLES = 1_000
_NEIGHBOURS = 1e-8  # between a run in fixed point and the plain one, in states and derivatives
_EVERY_ENTRY = 250  # a theta with at most so many entries is checked entry by entry
_DIGITS = "digits/mlp[hidden=16,nonlinearity=tanh,lr=0.1,refresh=5]"

_GROUPS = (Group("*.bias", lr=2.0, weight_decay=0.0), Group("2.*", lr=0.5))
OPTIMIZERS: dict[str, Optimizer] = {
    "plain": SGD(lr=0.3),
    "momentum": SGD(lr=0.3, momentum=0.9),
    "dampening": SGD(lr=0.3, momentum=0.9, dampening=0.4),
    "weight decay": SGD(lr=0.3, momentum=0.9, weight_decay=0.05),
    "Nesterov": SGD(lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True),
    "lr schedule": SGD(lr=linear_decay(0.3), momentum=0.9),
    "clipping": SGD(lr=0.3, momentum=0.9, weight_decay=0.05, clip=0.09),
    "groups": SGD(lr=0.3, momentum=0.9, weight_decay=0.05, groups=_GROUPS),
    "Adam": Adam(lr=0.03),
    "Adam, weight decay": Adam(lr=0.03, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05, clip=0.09),
    "AdamW": Adam(lr=linear_decay(0.03), weight_decay=0.5, decoupled=True),
    "Adam, groups": Adam(lr=0.03, weight_decay=0.05, groups=_GROUPS),
}
"""The clipping is active in some steps of the sample and not in others (``tests/test_optimizers.py``)."""


@dataclass(frozen=True)
class Section:
    """The checks of one backend on one problem, or why it refused."""

    backend: str
    problem: str
    checks: tuple[Check, ...]
    refused: str = ""

    @property
    def failed(self) -> bool:
        return any(check.outcome is Outcome.FAILED for check in self.checks)


def verify(
    backend: TeacherGradientBackend, problem: TeachingProblem | None = None, *, seed: int = 0, device: str = "cpu"
) -> Iterator[Section]:
    """The sections of a backend's ladder as they come.

    With a problem: that problem alone, cast to float64, where it is, with a thousand of its dev examples, so that the
    checks, which take M~ some hundred times, take minutes; the section says so, and where the backend refuses it.
    Without, on ``device``: the reference set, random problems under every optimiser option, and real digits. Raises
    ``UserError`` and ``Diverged`` for what is wrong with the problem.
    """
    if problem is not None:
        yield section(backend, with_fewer_dev_examples(problem), seed)
        return
    if backend.capabilities.exactness is Exactness.EXACT:
        yield Section(label(backend), "reference set", _each_once(check_reference(backend, device)))
    if backend.capabilities.exactness is Exactness.STATIONARY:
        yield Section(label(backend), "quadratic", (checks.check_closed_form(converged(backend), device=device),))
    for name, optimizer in OPTIMIZERS.items():
        problem = dataclasses.replace(random_problem(optimizer=optimizer), name=f"random, {name}")
        yield section(backend, problem.to(device), seed)
    yield section(backend, build_problem(_DIGITS, dtype="float64", device=device), seed)


def with_fewer_dev_examples(problem: TeachingProblem, most: int = _DEV_EXAMPLES) -> TeachingProblem:
    """The first batches of its dev set, of ``most`` examples or one batch; its name says so where it has more.

    A problem that prepares its dev set at omega_T is left as it is.
    """
    batches = problem.dev_batches
    if problem.prepare_dev is not None or sum(map(example_count, batches)) <= most:
        return problem
    so_far = list(accumulate(map(example_count, batches)))
    count = max(1, bisect_right(so_far, most))
    name = f"{problem.name}, {so_far[count - 1]:,} of {so_far[-1]:,} dev examples"
    return dataclasses.replace(problem, dev=list(batches[:count]), name=name)  # two in a tuple would be one batch


def section(
    backend: TeacherGradientBackend,
    problem: TeachingProblem,
    seed: int = 0,
    horizons: tuple[int, int] = (SHORT, LONG),
) -> Section:
    """All checks that this backend's kind of exactness can be held to, on this problem.

    ``horizons``: that of central differences, and that of all else. On a GPU by torch's deterministic kernels, where it
    has them: with others no run gives the same bits again.
    """
    with _deterministic(problem.device):
        return _section(backend, problem, seed, horizons)


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    if device.type == "cpu":
        yield
        return
    before, only_warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Dd]eterministic.*")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)


def _section(
    backend: TeacherGradientBackend, problem: TeachingProblem, seed: int, horizons: tuple[int, int]
) -> Section:
    problem = problem if problem.dtype == torch.float64 else problem.to(dtype=torch.float64)
    theta = general_theta(problem, seed)
    try:
        short, long = (_subject(backend, problem, theta, seed, horizon) for horizon in horizons)
    except Refused as refusal:
        return Section(label(backend), problem.name, (), refused=str(refusal))
    kind = backend.capabilities.exactness
    parity = _NEIGHBOURS if _in_fixed_point(backend) else 1e-14
    found = [checks.check_forward_parity(long, parity)] if numeric.has_torch_counterpart(problem.optimizer) else []
    found += [checks.check_replay(long), checks.check_repeatable(short)]
    found += _BY_KIND[kind](short, long)
    return Section(label(backend), problem.name, _each_once([*said_of(short.result), *said_of(long.result), *found]))


def _each_once(found: Iterable[Check]) -> tuple[Check, ...]:
    """What several runs say of themselves in the same words, their lengths apart, is said once, before all figures."""
    said: dict[tuple[str, str], Check] = {}
    figures: list[Check] = []
    for check in found:
        if check.name in SAID:
            said.setdefault((check.name, but_for_numbers(check.note)), check)
        else:
            figures.append(check)
    return *said.values(), *figures


def converged(backend: TeacherGradientBackend) -> TeacherGradientBackend:
    """A stationary method without damping and with iterations enough to solve its linear system to rounding."""
    direct = getattr(backend, "solver", None) == "nystrom"  # a sketch has a rank, and no iterations
    return with_options(backend, damping=0.0, batches=1, **({} if direct else {"iterations": 200}))


def _subject(
    backend: TeacherGradientBackend, problem: TeachingProblem, theta: TensorDict, seed: int, horizon: int
) -> Subject:
    result = backend.teacher_gradient(problem, theta, horizon=horizon, seed=seed)
    return Subject(backend, problem, theta, seed, result)


def _exact_checks(short: Subject, long: Subject) -> list[Check]:
    peers = exact_peers(long.backend, long.problem, len(long.steps))
    return [
        _central_differences(short),
        checks.check_second_derivatives(short),
        checks.check_forward_probe(long),
        *(checks.check_agreement(long, peer) for peer in peers),
        checks.check_ascent(short),
    ]


def _quantised_checks(short: Subject, long: Subject) -> list[Check]:
    """The checks of an exact method, as near as a run in fixed point is to the plain one that they are taken on."""
    peers = exact_peers(long.backend, long.problem, LONG)
    return [
        _central_differences(short),
        checks.check_forward_probe(long, bound=_NEIGHBOURS),
        *(checks.check_agreement(long, peer, _NEIGHBOURS) for peer in peers),
        checks.check_ascent(short),
    ]


def _truncated_checks(short: Subject, long: Subject) -> list[Check]:
    """The window as the derivative of the last steps, a window of the whole run as its sibling, the mean over windows.

    A run in fixed point is near a plain one and no more: what is held to the plain one is held as near as that.
    """
    window = getattr(long.backend, "window", None)
    few, many = len(short.steps), len(long.steps)
    found: list[Check] = []
    if isinstance(window, int):
        part = max(1, few * 5 // 12)
        narrow = by(short, with_options(short.backend, window=part, every=0))
        found.append(_central_differences(narrow, start=few - part))
        whole = by(long, with_options(long.backend, window=many, every=0))
        found.append(checks.check_forward_probe(whole, bound=_NEIGHBOURS if _in_fixed_point(long.backend) else 1e-10))
        found.append(checks.check_whole_window(long, whole_sibling(whole.backend), whole.backend))
    if getattr(long.backend, "every", 0):
        found.append(approximations.check_online(long))
    return found + _quality(long)


def _stationary_checks(short: Subject, long: Subject) -> list[Check]:
    del short
    return [check_stationary(long), *_reported(long)]


def _finite_difference_checks(short: Subject, long: Subject) -> list[Check]:
    return [approximations.check_finite_difference(short), *_reported(long)]


def _stochastic_checks(short: Subject, long: Subject) -> list[Check]:
    """The exact ones where the result says that it is; else the estimate's mean."""
    if long.result.exactness is Exactness.EXACT:
        return _exact_checks(short, long)
    reference = through_last(short.backend, short.problem, len(short.steps))
    if reference is None:
        return [skipped("mean over students", "no exact method here does this problem"), *_reported(long)]
    try:
        found = [approximations.check_mean(short, reference)]
        if hasattr(short.backend, "directions") and _entries(short) <= _EVERY_ENTRY:
            found.append(approximations.check_every_entry(short, reference))
    except Refused as refusal:  # the reference's, which only shows in the run
        found = [skipped("mean over students", str(refusal))]
    return found + _reported(long)


def _reported(long: Subject) -> list[Check]:
    """What the method says of itself, and how far it is from the exact gradient."""
    own = [
        Check(f"its own {name}", figure, float("nan"), Outcome.REPORTED)
        for name, figure in long.result.diagnostics.items()
    ]
    return own + _quality(long)


def _quality(long: Subject) -> list[Check]:
    peers = exact_peers(long.backend, long.problem, len(long.steps))
    return checks.report_quality(long, peers[0]) if peers else []


_BY_KIND: dict[Exactness, Callable[[Subject, Subject], list[Check]]] = {
    Exactness.EXACT: _exact_checks,
    Exactness.QUANTISED: _quantised_checks,
    Exactness.TRUNCATED: _truncated_checks,
    Exactness.STATIONARY: _stationary_checks,
    Exactness.FINITE_DIFFERENCE: _finite_difference_checks,
    Exactness.STOCHASTIC: _stochastic_checks,
}


def _central_differences(subject: Subject, start: int = 0) -> Check:
    if _entries(subject) <= _EVERY_ENTRY:
        return checks.check_all_entries(subject, start=start)
    return checks.check_directions(subject, start=start)


def _entries(subject: Subject) -> int:
    return sum(tensor.numel() for tensor in subject.theta.values())


def _in_fixed_point(backend: TeacherGradientBackend) -> bool:
    """Whether the method's run is a neighbour of the plain one; of a truncated method its store decides that."""
    kind = getattr(backend, "of_whole_run", backend.capabilities.exactness)
    return kind is Exactness.QUANTISED
