"""The ladder over every kind of student: what a method takes it proves, what it does not take it refuses and says why.

What has the bits of ``rmd`` in d_theta is proved by the ladder that ``rmd`` climbs, and climbs none of its own.
"""

from dataclasses import replace
from functools import cache

import pytest
import torch
from ladder_cases import MAIN_STUDENTS, METHODS, OF_ANOTHER_KIND, OPTIONS, PROVING, REFUSED, SKIPPED, STORES
from torch.utils._pytree import tree_leaves

import l2t_bench as l2t
from l2t_bench.gradient import Exactness, Refused, TeacherGradient
from l2t_bench.modules import same_tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.second_order import MODES, ForwardOverReverse
from l2t_bench.tensors import TensorDict
from l2t_bench.verification import checks, numeric
from l2t_bench.verification.ladder import section
from l2t_bench.verification.numeric import central_differences
from l2t_bench.verification.samples import general_theta
from l2t_bench.verification.students import STUDENTS, student_problem
from l2t_bench.verification.subject import Check, Outcome, Subject, held_to, skipped
from l2t_bench.verification.vectors import relative_error

HORIZONS = (3, 6)
PAIRS = [(method, student) for student in STUDENTS for method in METHODS]
QUICKLY = [
    pytest.param(*pair, marks=pytest.mark.slow if pair[0] in OPTIONS and pair[1] not in MAIN_STUDENTS else ())
    for pair in PAIRS
]


@cache
def recorded(student: str) -> tuple[TeachingProblem, TensorDict, TeacherGradient]:
    """The problem, its theta, and the run that ``rmd`` recorded with its gradient."""
    problem = student_problem(student)
    theta = general_theta(problem)
    return problem, theta, l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=HORIZONS[1])


# -- every method on every student -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "student"), QUICKLY)
def test_a_method_differentiates_a_student_as_rmd_does_or_refuses_as_the_table_says(method: str, student: str) -> None:
    problem, theta, exact = recorded(student)
    backend = l2t.load_backend(method)
    if (reason := REFUSED.get((method, student))) is not None:
        with pytest.raises(Refused) as caught:
            backend.teacher_gradient(problem, theta, steps=exact.steps)
        assert reason in str(caught.value) and "rmd" in str(caught.value)
        return
    result = backend.teacher_gradient(problem, theta, steps=exact.steps)
    found = Subject(backend, problem, theta, 0, result)
    kind = backend.capabilities.exactness
    neighbours = 1e-8 if kind is Exactness.QUANTISED else 0.0
    assert checks.check_forward_parity(found, max(1e-14, neighbours)).outcome is Outcome.PASSED
    if kind in (Exactness.EXACT, Exactness.QUANTISED):
        assert relative_error(result.d_theta, exact.d_theta) < max(1e-12, neighbours)
        assert result.d_omega0 is not None and exact.d_omega0 is not None
        assert relative_error(result.d_omega0, exact.d_omega0) < max(1e-12, neighbours)
    else:
        assert all(bool(torch.isfinite(part).all()) for part in result.d_theta.values())


@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("method", STORES)
def test_a_store_gives_the_bits_of_rmd_again_and_leaves_nothing_behind(method: str, student: str) -> None:
    problem, theta, exact = recorded(student)
    backend = l2t.load_backend(method)
    found = Subject(backend, problem, theta, 0, backend.teacher_gradient(problem, theta, steps=exact.steps))
    assert same_tensors(found.result.d_theta, exact.d_theta) and found.result.value == exact.value
    assert found.result.d_omega0 is not None and exact.d_omega0 is not None
    assert same_tensors(found.result.d_omega0, exact.d_omega0)
    assert checks.check_forward_parity(found).outcome is Outcome.PASSED
    if student in MAIN_STUDENTS:
        assert checks.check_repeatable(found).outcome is Outcome.PASSED


@pytest.fixture
def one_run_one_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that are asked for the very same run share its central differences, half of a ladder's time."""
    monkeypatch.setattr(numeric, "central_differences", _differences)


def _differences(run: numeric.RecordedRun, step_size: float, start: int = 0) -> TensorDict:
    for known, of, found in _taken(run.problem.name):
        if of == (step_size, start) and _same_run(known, run):
            return found
    found = central_differences(run, step_size, start)
    _taken(run.problem.name).append((run, (step_size, start), found))
    return found


@cache
def _taken(student: str) -> list[tuple[numeric.RecordedRun, tuple[float, int], TensorDict]]:
    return []


def _same_run(one: numeric.RecordedRun, other: numeric.RecordedRun) -> bool:
    def told(run: numeric.RecordedRun) -> tuple[list[torch.Tensor], list[object]]:
        leaves = tree_leaves([dict(run.theta), run.seed, [vars(step) for step in run.steps]])
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        return tensors, [leaf for leaf in leaves if not isinstance(leaf, torch.Tensor)]

    (tensors, numbers), (others, other_numbers) = told(one), told(other)
    return numbers == other_numbers and all(torch.equal(*pair) for pair in zip(tensors, others, strict=True))


def test_differences_are_shared_by_the_same_run_alone() -> None:
    problem, theta, exact = recorded("mlp")
    run = numeric.RecordedRun(problem, theta, exact.steps, 0)
    assert _same_run(run, numeric.RecordedRun(problem, theta, [replace(step) for step in exact.steps], 0))
    for other in (
        replace(run, seed=1),
        replace(run, steps=exact.steps[:-1]),
        replace(run, theta={name: 2 * part for name, part in theta.items()}),
        replace(run, steps=[*exact.steps[:-1], replace(exact.steps[-1], features=exact.steps[-1].features + 1e-9)]),
    ):
        assert not _same_run(run, other)


@pytest.mark.usefixtures("one_run_one_difference")
@pytest.mark.parametrize("student", STUDENTS)
def test_the_whole_ladder_is_climbed_by_rmd(student: str) -> None:
    _assert_climbed("rmd", student)


CLIMBING = [
    (method, student)
    for method, student in PAIRS
    if method != "rmd" and (student in MAIN_STUDENTS or method not in OF_ANOTHER_KIND)
]


@pytest.mark.slow
@pytest.mark.usefixtures("one_run_one_difference")
@pytest.mark.parametrize(("method", "student"), CLIMBING)
def test_the_whole_ladder_is_climbed_or_refused_as_the_table_says(method: str, student: str) -> None:
    _assert_climbed(method, student)


def _assert_climbed(method: str, student: str) -> None:
    horizons = (2, 4) if method in OF_ANOTHER_KIND else HORIZONS
    found = section(l2t.load_backend(method), student_problem(student), horizons=horizons)
    assert REFUSED.get((method, student), "") in found.refused
    assert bool(found.refused) == ((method, student) in REFUSED), found.refused
    assert bool(found.checks) != bool(found.refused)
    failed = [f"{c.name}: {c.figure:.3g} > {c.bound:.3g}" for c in found.checks if c.outcome is Outcome.FAILED]
    assert not failed, failed
    if student in MAIN_STUDENTS and not found.refused:
        _assert_complete(method, student, found.checks)


def _assert_complete(method: str, student: str, found: tuple[Check, ...]) -> None:
    """Nothing is skipped but what the table says, and what proves a method of this kind is among what passed."""
    left_out = {check.name: check.note for check in found if check.outcome is Outcome.SKIPPED}
    reasons = SKIPPED.get((method, student), {})
    assert left_out.keys() == reasons.keys(), left_out
    assert all(reasons[name] in note for name, note in left_out.items()), left_out
    passed = [check.name for check in found if check.outcome is Outcome.PASSED]
    for name in PROVING[l2t.load_backend(method).capabilities.exactness]:
        assert any(name in each for each in (*passed, *reasons)), f"{name} is not among {passed}"


def test_a_ladder_with_a_rung_left_out_is_not_complete() -> None:
    method, student = "rmd", MAIN_STUDENTS[0]
    names = ("forward-mode probe", "agreement with higher", "central differences, every entry")
    whole = (held_to(names[0], 0, 1), held_to(names[1], 0, 1), held_to(names[2], 0, 1))
    _assert_complete(method, student, whole)
    for left_out in range(len(names)):
        with pytest.raises(AssertionError):
            _assert_complete(method, student, (*whole[:left_out], *whole[left_out + 1 :]))
        with pytest.raises(AssertionError):
            _assert_complete(method, student, (*whole, skipped(names[left_out], "no reason")))


# -- 8: second derivatives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("student", STUDENTS)
def test_both_modes_of_second_derivatives_and_differences_agree(student: str) -> None:
    problem, theta, exact = recorded(student)
    check = checks.check_second_derivatives(Subject(l2t.load_backend("rmd"), problem, theta, 0, exact))
    assert check.outcome is Outcome.PASSED and check.figure < 1e-9
    assert check.note == ("not for: other dropout masks" if student == "transformer, dropout" else "")


def test_a_mode_that_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(ForwardOverReverse):
        def products(self, g_bar: TensorDict) -> tuple[TensorDict, list[torch.Tensor]]:  # type: ignore[override]
            by_params, by_phi = super().products(g_bar)
            return {name: 1.001 * part for name, part in by_params.items()}, by_phi

    problem, theta, exact = recorded("layer norm")
    monkeypatch.setattr(numeric, "MODES", {**MODES, "for": Wrong})
    check = checks.check_second_derivatives(Subject(l2t.load_backend("rmd"), problem, theta, 0, exact))
    assert check.outcome is Outcome.FAILED


# -- the samples are what they are said to be --------------------------------------------------------------------------


def test_dropout_on_a_tensor_that_is_not_contiguous_draws_otherwise_under_torch_func() -> None:
    """Why a Transformer layer with dropout is refused by what differentiates with torch.func: should torch mend it,
    this fails, and the refusals can go."""

    def mask(inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return (torch.nn.functional.dropout(inputs, 0.5) != 0).detach()

    def under_func(inputs: torch.Tensor) -> torch.Tensor:
        aux: torch.Tensor = torch.func.grad(lambda x: (x.sum(), mask(x)), has_aux=True)(inputs)[1]
        return aux

    plain, transposed = torch.ones(4, 6), torch.ones(6, 4).T
    assert torch.equal(mask(plain), under_func(plain))
    assert not torch.equal(mask(transposed), under_func(transposed))


def test_the_student_with_an_unused_head_has_steps_of_both_kinds() -> None:
    _, _, exact = recorded("unused")
    reached = [float(step.batch[0][0, 0]) > 0 for step in exact.steps]
    assert True in reached and False in reached


@pytest.mark.parametrize("student", STUDENTS)
def test_small_students_are_small_and_every_gradient_of_theirs_is_not_trivial(student: str) -> None:
    problem, theta, exact = recorded(student)
    assert sum(tensor.numel() for tensor in theta.values()) <= 20
    assert all(float(torch.linalg.vector_norm(part)) > 1e-8 for part in exact.d_theta.values())
    assert problem.name == student
