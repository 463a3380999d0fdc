"""The proof ladder's checks (docs: "What proves a backend right"), each one question with a figure and a bound."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from l2t_bench.errors import Refused
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.modules import same_tensors
from l2t_bench.second_order import MODES
from l2t_bench.tensors import TensorDict
from l2t_bench.undifferentiable import missing_derivative
from l2t_bench.verification import numeric
from l2t_bench.verification.samples import Quadratic
from l2t_bench.verification.subject import Check, Outcome, Subject, held_to, skipped
from l2t_bench.verification.vectors import cosine, flat, inner, norm_ratio, random_directions, relative_error

_STEP_SIZES = (1e-5, 1e-6, 1e-7, 1e-8, 1e-4, 1e-3, 1e-2)
"""Central differences are taken at one step size after another until one is near enough: a kink of a ReLU spoils the
large ones, rounding the small ones, and a wrong derivative is wrong at all of them."""
_OBJECTIVE_SIZES = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4)
"""The same for M~ along a vector of length one in the student's parameters: over all dev examples there is a kink at
every distance, and the error falls with the size until rounding."""

_GRADIENT_SIZES = (1e-4, 1e-5, 1e-3, 1e-6, 1e-7, 1e-8)
"""The same for a step's gradient along a vector of length one: a ReLU student with BatchNorm wants the small ones."""


def check_forward_parity(subject: Subject, bound: float = 1e-14) -> Check:
    """1: the student of the rollout is the student that torch.optim trains."""
    name = "forward parity with torch.optim"
    theirs = numeric.torch_optim_replay(subject.run)
    ours = {**subject.problem.frozen, **subject.result.final.params, **subject.result.final.buffers}
    scale = max(1.0, *(float(tensor.abs().max()) for tensor in theirs.values()))
    worst = max(float((ours[key] - theirs[key]).abs().max()) for key in theirs)
    return held_to(name, worst / scale, bound, f"{len(subject.steps)} steps")


def check_all_entries(subject: Subject, start: int = 0, bound: float = 1e-7) -> Check:
    """2: every entry of d_theta against central differences (theta moved from step ``start`` on)."""
    return check_entries(subject, entry_differences(subject, start), bound)


class Differences:
    """Differences at several step sizes, each taken once, when it is first asked for."""

    def __init__(self, take: Callable[[float], TensorDict], sizes: Sequence[float]) -> None:
        self._take, self._sizes = take, tuple(sizes)
        self._taken: dict[float, TensorDict] = {}

    def __iter__(self) -> Iterator[TensorDict]:
        for size in self._sizes:
            if size not in self._taken:
                self._taken[size] = self._take(size)
            yield self._taken[size]


def entry_differences(subject: Subject, start: int = 0) -> Differences:
    """Central differences of every entry of a subject's run: they know no backend, so one set serves all.

    The five-point rule errs by h^4: the first size does for a smooth student, the smallest for Adam, whose step is
    steep where a gradient is near zero.
    """
    return Differences(lambda size: numeric.central_differences(subject.run, size, start), (1e-3, 1e-2, 1e-4))


def check_entries(subject: Subject, differences: Iterable[TensorDict], bound: float = 1e-7) -> Check:
    """2: the nearest of the differences counts; no more are taken than the bound asks for."""
    error = _least((relative_error(subject.result.d_theta, true) for true in differences), bound)
    entries = sum(tensor.numel() for tensor in subject.theta.values())
    return held_to("central differences, every entry", error, bound, f"{entries} entries")


def check_directions(subject: Subject, count: int = 8, start: int = 0, bound: float = 1e-6) -> Check:
    """2, where theta is large: d_theta along random directions against central differences.

    The run and the dev objective are differenced apart, M~'s slope being that of omega_T taken by dM~/domega_T:
    rounding of a mean over thousands of examples would hide what a short run at a small lr moves, and a dev pass for
    every difference would cost minutes. For any student, and so to 1e-6: between the kinks of ReLU and max-pooling and
    rounding, 1e-7 is what differences are good for. Smooth students are held to 1e-7 entry by entry, end to end.
    """
    run, length = subject.run, float(torch.linalg.vector_norm(flat(subject.result.d_theta)))
    errors = []
    for direction in random_directions(subject.theta, count):
        expected = inner(subject.result.d_theta, direction)
        slopes = (inner(run.w_bar, numeric.tangent_difference(run, direction, size, start)) for size in _STEP_SIZES)
        errors.append(_ratio(_least((abs(slope - expected) for slope in slopes), bound * length), length))
    of_objective = _objective_error(subject, bound)
    note = f"{count} directions; dM~/domega_T to {of_objective:.1g}"
    return held_to("central differences, random directions", max(*errors, of_objective), bound, note)


def _objective_error(subject: Subject, bound: float) -> float:
    """How far dM~/domega_T is from differences of M~: along itself, and along what a direction of theta moves."""
    run = subject.run
    length = float(torch.linalg.vector_norm(flat(run.w_bar)))
    moved = numeric.tangent_difference(run, random_directions(subject.theta, 1)[0], _STEP_SIZES[0])
    errors = []
    for direction in (run.w_bar, moved):
        size = float(torch.linalg.vector_norm(flat(direction)))
        if size == 0:
            continue
        unit = {name: part / size for name, part in direction.items()}
        expected = inner(run.w_bar, unit)
        found = (abs(numeric.objective_difference(run, unit, each) - expected) for each in _OBJECTIVE_SIZES)
        errors.append(_ratio(_least(found, bound * length), length))
    return max(errors, default=0.0)


def _least(errors: Iterable[float], enough: float) -> float:
    """The least of the errors; no more are taken than it needs to come to ``enough``."""
    least = math.inf
    for error in errors:
        least = min(least, error)
        if least <= enough:
            break
    return least


def check_forward_probe(subject: Subject, count: int = 2, bound: float = 1e-10) -> Check:
    """3: <d_theta, v> against one forward-mode pass through the whole run.

    Skipped for a student without forward mode, or with other dropout masks there; what else it raises is its mistake.
    """
    name = "forward-mode probe"
    length = float(torch.linalg.vector_norm(flat(subject.result.d_theta)))
    worst = 0.0
    for direction in random_directions(subject.theta, count):
        try:
            probed = numeric.forward_probe(subject.run, direction)
        except numeric.OtherMasks as error:
            return skipped(name, str(error))
        except (NotImplementedError, RuntimeError) as error:
            if (missing := missing_derivative(error)) is None:
                raise
            return skipped(name, str(missing))
        worst = max(worst, _ratio(abs(probed - inner(subject.result.d_theta, direction)), length))
    return held_to(name, worst, bound, f"{len(subject.steps)} steps, {count} directions")


def check_agreement(subject: Subject, other: TeacherGradientBackend, bound: float = 1e-12) -> Check:
    """4: another exact method on the very same run."""
    name = f"agreement with {other.name}"
    try:
        theirs = other.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed)
    except Refused as refusal:  # what only shows in the run, such as dropout masks drawn otherwise
        return skipped(name, str(refusal))
    return held_to(name, relative_error(subject.result.d_theta, theirs.d_theta), bound, f"{len(subject.steps)} steps")


def check_replay(subject: Subject) -> Check:
    """5: the recorded steps give the same omega_T, M~ and d_theta again, bit for bit."""
    again = subject.again()
    differing = sum(
        not same_tensors(left, right)
        for left, right in (
            (subject.result.final.params, again.final.params),
            (subject.result.final.buffers, again.final.buffers),
            (subject.result.d_theta, again.d_theta),
        )
    ) + (again.value != subject.result.value)
    return held_to("replay of the recorded steps, bit for bit", float(differing), 0.0, "of 4 parts differ")


def check_repeatable(subject: Subject) -> Check:
    """10: three fresh calls in a row give the same; theta, the random state and the modules stay as they were."""
    theta = {name: tensor.clone() for name, tensor in subject.theta.items()}
    modules = [subject.problem.student, subject.problem.teacher]
    before = [{**dict(module.named_parameters()), **dict(module.named_buffers())} for module in modules]
    before = [{name: tensor.detach().clone() for name, tensor in tensors.items()} for tensors in before]
    random_state = torch.get_rng_state()
    results = [
        subject.backend.teacher_gradient(
            subject.problem, subject.theta, horizon=len(subject.steps), seed=subject.seed
        ).d_theta
        for _ in range(3)
    ]
    after = [{**dict(module.named_parameters()), **dict(module.named_buffers())} for module in modules]
    broken = [
        *(not same_tensors(result, subject.result.d_theta) for result in results),
        not same_tensors(theta, subject.theta),
        not same_tensors(before, [{name: tensor.detach() for name, tensor in held.items()} for held in after]),
        not torch.equal(random_state, torch.get_rng_state()),
    ]
    return held_to("three calls in a row, nothing left behind", float(sum(broken)), 0.0, "of 6 parts differ")


def check_ascent(subject: Subject, bound: float = 0.05) -> Check:
    """11: a small step along d_theta raises M~ on the recorded run by what the gradient predicts."""
    name = "a step along d_theta raises M~ as predicted"
    length = float(torch.linalg.vector_norm(flat(subject.result.d_theta)))
    if length == 0:
        return Check(name, math.nan, bound, Outcome.FAILED, "d_theta is zero")
    shortfalls = []
    for reach in (1e-2, 1e-3, 1e-4):
        moved = {name: t + (reach / length) * subject.result.d_theta[name] for name, t in subject.theta.items()}
        state = numeric.replay(subject.run, lambda index, moved=moved: moved)  # type: ignore[misc]
        risen = numeric.objective(subject.run, state) - subject.result.value
        shortfalls.append(abs(risen / (reach * length) - 1))
    return held_to(name, min(shortfalls), bound)


def check_whole_window(subject: Subject, sibling: TeacherGradientBackend, whole: TeacherGradientBackend) -> Check:
    """6: truncated to a window as long as the run, the method equals its sibling of the whole run bit for bit."""
    theirs = sibling.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed)
    ours = whole.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed)
    differing = sum(not same_tensors(ours.d_theta[name], theirs.d_theta[name]) for name in subject.theta)
    differing += ours.exactness is not theirs.exactness
    return held_to(f"{whole} equals {sibling}, bit for bit", float(differing), 0.0)


def check_second_derivatives(subject: Subject, bound: float = 1e-6) -> Check:
    """8: the products of the loss's second derivatives with a vector, by every mode and by differences of gradients.

    At the state that the run's middle step starts from, with its dropout masks and its phi_t.
    """
    name = "second derivatives: " + ", ".join((*MODES, "differences"))
    at = len(subject.steps) // 2
    drawn = random_directions(subject.run.states[at].params, 1)[0]
    length = float(torch.linalg.vector_norm(flat(drawn)))  # a long vector's differences step over every kink of a ReLU
    vector = {key: part / length for key, part in drawn.items()}
    differences = Differences(
        lambda size: numeric.second_derivative_difference(subject.run, at, vector, size), _GRADIENT_SIZES
    )
    worst, without = 0.0, []
    for mode in MODES:
        try:
            same = numeric.same_student(subject.run, at, mode)
        except (NotImplementedError, RuntimeError) as error:
            if (missing := missing_derivative(error)) is None:
                raise
            without.append(f"not {mode}: {missing}")
            continue
        if not same:
            without.append(f"not {mode}: other dropout masks")
            continue
        found = numeric.second_derivatives(subject.run, at, vector, mode)
        worst = max(worst, _least((relative_error(found, each) for each in differences), bound))
    return held_to(name, worst, bound, "; ".join(without))


def check_closed_form(backend: TeacherGradientBackend, bound: float = 1e-8, device: str = "cpu") -> Check:
    """7: a strongly convex quadratic in two coupled parameter tensors, trained to rest, against its closed form."""
    quadratic = Quadratic()
    problem = quadratic.problem().to(device)
    result = backend.teacher_gradient(problem, problem.init_teacher(0), horizon=200)
    true = {"weight": quadratic.d_theta().to(problem.device)}
    return held_to("closed form of a quadratic", relative_error(result.d_theta, true), bound)


def report_quality(subject: Subject, exact: TeacherGradientBackend) -> list[Check]:
    """6: how far an approximation is from the exact gradient: cosine and norm ratio, without a bound."""
    try:
        true = exact.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed).d_theta
    except Refused as refusal:  # what only shows in the run, such as a layer without second derivatives
        return [skipped("cosine to the exact gradient", str(refusal))]
    note = f"{subject.result.exactness}, {len(subject.steps)} steps"
    return [
        Check("cosine to the exact gradient", cosine(subject.result.d_theta, true), math.nan, Outcome.REPORTED, note),
        Check(
            "norm ratio to the exact gradient",
            norm_ratio(subject.result.d_theta, true),
            math.nan,
            Outcome.REPORTED,
            note,
        ),
    ]


def _ratio(error: float, length: float) -> float:
    return error / length if length > 0 else math.nan
