"""A meta-batch of students in one vmapped rollout: each student's result is what it is alone, or it is taken alone."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.errors import Diverged, Refused, UserError
from l2t_bench.gradient import TeacherGradient
from l2t_bench.groups import Group
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.metabatch import falling_back
from l2t_bench.metabatch.contract import students_at_once, teacher_gradients
from l2t_bench.metabatch.falling_back import even_parts
from l2t_bench.metabatch.problem import StackedProblem, stacked_problem
from l2t_bench.metabatch.rollout import StackedRollout
from l2t_bench.metabatch.stacking import StackedBatch
from l2t_bench.optimizers import SGD, linear_decay
from l2t_bench.problem import StudentView, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import StepGraph
from l2t_bench.steppers import catalogue
from l2t_bench.steppers.operators import operators_at_first
from l2t_bench.tensors import TensorDict
from l2t_bench.training import TeacherTrainer, train_teacher
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.students import student_problem
from l2t_bench.verification.vectors import relative_error

HORIZON = 6
SEEDS = (3, 0, 11)
OPTIMIZERS = {
    "plain": SGD(lr=linear_decay(0.3)),
    "dampened, decayed momentum": SGD(lr=0.2, momentum=0.9, dampening=0.3, weight_decay=0.05),
    "Nesterov": SGD(lr=0.2, momentum=0.8, nesterov=True),
    "clipped": SGD(lr=0.2, momentum=0.9, clip=0.09),
    "groups": SGD(lr=0.2, momentum=0.9, groups=(Group("*.bias", lr=0.3, weight_decay=0.1),)),
    "Adam": Adam(lr=0.03, weight_decay=0.05),
    "clipped AdamW": Adam(lr=0.03, weight_decay=0.05, decoupled=True, clip=0.09),
}
Answer = TeacherGradient | Diverged


def alone(problem: TeachingProblem, theta: TensorDict, options: str = "", backend: str = "rmd") -> list[Answer]:
    return teacher_gradients(l2t.load_backend(f"{backend}[{options}]"), problem, theta, horizon=HORIZON, seeds=SEEDS)


def together(problem: TeachingProblem, theta: TensorDict, options: str = "", backend: str = "rmd") -> list[Answer]:
    options = ",".join(filter(None, (f"students={len(SEEDS)}", options)))
    return teacher_gradients(l2t.load_backend(f"{backend}[{options}]"), problem, theta, horizon=HORIZON, seeds=SEEDS)


def assert_same(ours: Answer, theirs: Answer, bound: float = 1e-12) -> None:
    """Everything that a teacher gradient tells but its cost."""
    assert isinstance(ours, TeacherGradient) and isinstance(theirs, TeacherGradient), (ours, theirs)
    assert relative_error(ours.d_theta, theirs.d_theta) <= bound
    assert ours.value == pytest.approx(theirs.value, rel=bound)
    assert relative_error(ours.final.params, theirs.final.params) <= bound
    for name, buffer in theirs.final.buffers.items():
        assert torch.allclose(ours.final.buffers[name], buffer, bound, bound)
    assert set(ours.final.slots) == set(theirs.final.slots)
    for slot, held in theirs.final.slots.items():
        assert relative_error(ours.final.slots[slot], held) <= bound
    assert (ours.d_omega0 is None) == (theirs.d_omega0 is None)
    if ours.d_omega0 is not None and theirs.d_omega0 is not None:
        assert relative_error(ours.d_omega0, theirs.d_omega0) <= bound
    assert set(ours.hyper) == set(theirs.hyper)
    for name, tensor in theirs.hyper.items():
        assert ours.hyper[name].shape == tensor.shape
        assert torch.allclose(ours.hyper[name], tensor, bound, bound * float(tensor.abs().max()))
    assert ours.health is not None and theirs.health is not None
    assert ours.health.norms == pytest.approx(theirs.health.norms, rel=bound)
    assert ours.diagnostics == pytest.approx(theirs.diagnostics, rel=bound)
    assert (ours.exactness, ours.warnings) == (theirs.exactness, theirs.warnings)


def assert_all_same(ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert_same(one, other)


@pytest.fixture(scope="module")
def momentum() -> TeachingProblem:
    return random_problem(optimizer=SGD(lr=linear_decay(0.3), momentum=0.9, weight_decay=0.05))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_students_taken_together_are_each_as_alone_under_every_optimiser(optimizer: str) -> None:
    problem = random_problem(optimizer=OPTIMIZERS[optimizer])
    theta = general_theta(problem)
    assert_all_same(together(problem, theta), alone(problem, theta))


@pytest.mark.parametrize(
    "student", ["lenet", "resnet", "batch norm", "lstm", "gru", "transformer", "tied embedding", "layer norm", "frozen"]
)
def test_students_of_every_kind_are_as_alone(student: str) -> None:
    problem = student_problem(student)
    theta = general_theta(problem)
    assert_all_same(together(problem, theta), alone(problem, theta))


@pytest.mark.parametrize(
    "options",
    ["store=sqrt", "store=binomial,snapshots=2", "store=disk", "store=host", "store=graph", "hvp=for", "hyper=true"],
)
def test_every_store_and_mode_takes_students_together(momentum: TeachingProblem, options: str) -> None:
    theta = general_theta(momentum)
    assert_all_same(together(momentum, theta, options), alone(momentum, theta, options))


def test_hyper_gradients_of_clipped_adam_are_each_students_own() -> None:
    problem = random_problem(optimizer=OPTIMIZERS["clipped AdamW"])
    theta = general_theta(problem)
    assert_all_same(together(problem, theta, "hyper=true"), alone(problem, theta, "hyper=true"))


@pytest.mark.parametrize("window", [2, HORIZON])
def test_truncation_takes_students_together(momentum: TeachingProblem, window: int) -> None:
    theta = general_theta(momentum)
    options = f"window={window}"
    assert_all_same(together(momentum, theta, options, "truncated"), alone(momentum, theta, options, "truncated"))


@pytest.mark.slow
def test_compiled_steps_take_students_together() -> None:
    problem = random_problem(optimizer=SGD(lr=0.2, momentum=0.9, weight_decay=0.05, clip=0.09))
    theta = general_theta(problem)
    ours = together(problem, theta, "engine=compiled")
    assert_all_same(ours, alone(problem, theta))
    assert all(isinstance(one, TeacherGradient) and one.cost.seconds_compile > 0 for one in ours)
    again = together(problem, theta, "engine=compiled")
    assert all(isinstance(one, TeacherGradient) and one.cost.seconds_compile == 0 for one in again)


def test_students_taken_at_once_count_the_operators_of_one() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    rollout = StackedRollout(
        stacked_problem(problem, 2), [Rollout(problem, theta, horizon=2, seed=seed) for seed in (0, 1)], StepGraph
    )
    assert operators_at_first(rollout.problem) == operators_at_first(problem) > 10


@pytest.mark.slow
def test_auto_compiles_the_steps_of_students_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PAYS_FROM", HORIZON)
    problem = random_problem()
    theta = general_theta(problem)
    ours = together(problem, theta, "engine=auto")
    assert_all_same(ours, alone(problem, theta))
    assert all(isinstance(one, TeacherGradient) and one.cost.seconds_compile > 0 for one in ours)


@pytest.mark.parametrize(("outer_steps", "engine"), [(10, "eager"), (11, "compiled")])
def test_auto_counts_a_step_of_students_taken_together_once(
    monkeypatch: pytest.MonkeyPatch, outer_steps: int, engine: str
) -> None:
    monkeypatch.setattr(catalogue, "PAYS_FROM", 11 * 2 * HORIZON)  # five students by threes are two runs
    trainer = TeacherTrainer(
        random_problem(), None, "rmd[engine=auto,students=3]", outer_steps=outer_steps, horizon=HORIZON, students=5
    )
    assert trainer._plan.backend.engine == engine  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize("student", ["lenet", "batch norm", "lstm"])
def test_compiled_steps_take_students_of_every_kind_together(student: str) -> None:
    problem = student_problem(student)
    theta = general_theta(problem)
    assert_all_same(together(problem, theta, "engine=compiled"), alone(problem, theta))


@pytest.mark.slow
def test_compiled_steps_take_students_together_under_adam() -> None:
    problem = random_problem(optimizer=OPTIMIZERS["clipped AdamW"])
    theta = general_theta(problem)
    assert_all_same(together(problem, theta, "engine=compiled,hyper=true"), alone(problem, theta, "hyper=true"))


def test_each_student_has_its_own_features_and_dev_batches(momentum: TeachingProblem) -> None:
    """s_t hangs on the student, and is kept for two steps at a time; the dev batch on the student and its seed."""

    def features(view: StudentView) -> Tensor:
        if view.previous is not None and view.index % 2:
            return view.previous
        return view.predict(view.train(view.index)[0]).mean().tanh()[None]  # type: ignore[no-any-return]

    def prepare_dev(view: StudentView, seed: int) -> Any:
        inputs, targets = momentum.dev_batches[0]
        return inputs + 0.1 * seed + view.predict(inputs).mean(), targets

    for own in ({"features": features}, {"features": features, "prepare_dev": prepare_dev}):
        problem = dataclasses.replace(momentum, **own)  # type: ignore[arg-type]
        theta = general_theta(problem)
        assert_all_same(together(problem, theta), alone(problem, theta))


def test_the_steps_of_each_student_replay_its_run(momentum: TeachingProblem) -> None:
    theta = general_theta(momentum)
    for seed, found in zip(SEEDS, together(momentum, theta), strict=True):
        assert isinstance(found, TeacherGradient) and len(found.steps) == HORIZON
        assert_same(l2t.load_backend("rmd").teacher_gradient(momentum, theta, steps=found.steps, seed=seed), found)


def test_a_result_does_not_keep_the_other_students_alive(momentum: TeachingProblem) -> None:
    for found in together(momentum, general_theta(momentum)):
        assert isinstance(found, TeacherGradient) and found.d_omega0 is not None
        held = {**found.final.params, **{f"d {name}": tensor for name, tensor in found.d_omega0.items()}}
        assert all(t.untyped_storage().nbytes() == t.numel() * t.element_size() for t in held.values())


# -- students mixed up -------------------------------------------------------------------------------------------------


def rolled(parts: Sequence[Any]) -> list[Any]:
    return [*parts[1:], parts[0]]


def test_the_comparison_tells_students_apart(momentum: TeachingProblem) -> None:
    theta = general_theta(momentum)
    with pytest.raises(AssertionError):
        assert_all_same(rolled(together(momentum, theta)), alone(momentum, theta))


@pytest.mark.parametrize("mistake", ["batches", "adjoints", "losses"])
def test_students_that_are_mixed_up_inside_are_found_out_before_the_run(
    momentum: TeachingProblem, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake would give one student what is another's; they are taken alone then, and a warning says why."""
    problem = dataclasses.replace(momentum)
    theta = general_theta(problem)
    if mistake == "batches":
        read = StackedBatch.__iter__
        monkeypatch.setattr(StackedBatch, "__iter__", lambda batch: (part.roll(1, 0) for part in read(batch)))
    elif mistake == "losses":
        loss = StackedProblem.train_loss

        def mixed(*arguments: Any) -> Any:
            losses, buffers = loss(*arguments)
            return losses.sum().expand(len(losses)), buffers

        monkeypatch.setattr(StackedProblem, "train_loss", mixed)
    else:
        monkeypatch.setattr("l2t_bench.optimizers.SGD.pull_back", _rolling(SGD.pull_back))
    found = together(problem, theta)
    monkeypatch.undo()
    for one, other in zip(found, alone(problem, theta), strict=True):
        assert isinstance(one, TeacherGradient)
        assert ["taken one by one" in warning for warning in one.warnings] == [True], one.warnings
        if mistake != "adjoints":
            assert_same(dataclasses.replace(one, warnings=()), other)


def _rolling(pull_back: Any) -> Any:
    def mixed(self: SGD, adjoint: Any, taken: Any) -> Any:
        g_bar, carried = pull_back(self, adjoint, taken)
        return {name: bar.roll(1, 0) for name, bar in g_bar.items()}, carried

    return mixed


# -- students that diverge ---------------------------------------------------------------------------------------------


def diverging(seeds: Sequence[int], blow: float, at: int) -> TeachingProblem:
    """The students of ``seeds`` are given inputs times ``blow`` at one step."""
    plain = random_problem(optimizer=SGD(lr=0.3, momentum=0.9))

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return (inputs * blow, targets) if seed in seeds and index == at else (inputs, targets)

    return dataclasses.replace(plain, train=train)


def assert_lost(ours: Answer, theirs: Answer, seed: int) -> None:
    assert isinstance(ours, Diverged) and isinstance(theirs, Diverged)
    assert (str(ours), ours.step, ours.seed) == (str(theirs), theirs.step, seed)
    assert torch.allclose(torch.tensor(ours.history), torch.tensor(theirs.history), equal_nan=True)


def test_a_student_that_diverges_says_what_it_says_alone_and_leaves_the_others_as_they_are() -> None:
    problem = diverging([SEEDS[1]], float("nan"), at=2)
    theta = general_theta(problem)
    ours, theirs = together(problem, theta), alone(problem, theta)
    assert_lost(ours[1], theirs[1], SEEDS[1])
    assert "not finite at step 2" in str(ours[1])
    for at in (0, 2):
        assert_same(ours[at], theirs[at])


def test_a_student_whose_dev_objective_is_not_finite_does_too(momentum: TeachingProblem) -> None:
    def prepare_dev(view: StudentView, seed: int) -> Any:
        inputs, targets = momentum.dev_batches[0]
        return (inputs * float("inf") if seed == SEEDS[2] else inputs), targets

    problem = dataclasses.replace(momentum, prepare_dev=prepare_dev)
    theta = general_theta(problem)
    ours, theirs = together(problem, theta), alone(problem, theta)
    assert_lost(ours[2], theirs[2], SEEDS[2])
    assert "not finite at omega_T" in str(ours[2])
    assert_same(ours[0], theirs[0])


def test_a_student_whose_adjoint_is_not_finite_does_too() -> None:
    """|x|^1.5 has a derivative at zero, and no second one: it is met where a student's inputs are all zero."""
    problem = dataclasses.replace(
        diverging([SEEDS[1]], 0.0, at=2),
        student=nn.Linear(6, 4, bias=False).double(),
        loss=lambda output, target, phi: bilinear_sigmoid(output, target, phi) + (output.abs() ** 1.5).mean(),
    )
    theta = general_theta(problem)
    ours, theirs = together(problem, theta), alone(problem, theta)
    assert_lost(ours[1], theirs[1], SEEDS[1])
    assert "adjoint is not finite from step 2 back" in str(ours[1])
    for at in (0, 2):
        assert_same(ours[at], theirs[at])


def test_where_all_students_diverge_each_says_so() -> None:
    problem = diverging(SEEDS, float("nan"), at=1)
    theta = general_theta(problem)
    for seed, ours, theirs in zip(SEEDS, together(problem, theta), alone(problem, theta), strict=True):
        assert_lost(ours, theirs, seed)


# -- students that cannot be stacked -----------------------------------------------------------------------------------


def assert_one_by_one(problem: TeachingProblem, reason: str, options: str = "") -> None:
    """One warning that says why, and the very bits of students taken alone."""
    theta = general_theta(problem)
    for ours, theirs in zip(together(problem, theta, options), alone(problem, theta, options), strict=True):
        assert isinstance(ours, TeacherGradient) and isinstance(theirs, TeacherGradient)
        extra = [warning for warning in ours.warnings if warning not in theirs.warnings]
        assert [reason in warning and "taken one by one" in warning for warning in extra] == [True], ours.warnings
        assert all(torch.equal(ours.d_theta[name], tensor) for name, tensor in theirs.d_theta.items())


@pytest.mark.parametrize("student", ["dropout", "augmentation", "transformer, dropout"])
def test_students_that_draw_random_numbers_are_taken_one_by_one(student: str) -> None:
    assert_one_by_one(student_problem(student), "random")


def test_students_that_look_at_values_are_taken_one_by_one() -> None:
    assert_one_by_one(student_problem("unused"), "data-dependent control flow")


def test_students_whose_batches_differ_in_size_are_taken_one_by_one(momentum: TeachingProblem) -> None:
    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = momentum.train(index, seed)
        return (inputs[:5], targets[:5]) if (index, seed) == (4, SEEDS[1]) else (inputs, targets)

    assert_one_by_one(dataclasses.replace(momentum, train=train), "unequal shapes")


def test_why_students_are_taken_one_by_one_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    real = falling_back.taken_together

    def counted(*arguments: Any, **named: Any) -> Any:
        tried.append(1)
        return real(*arguments, **named)

    monkeypatch.setattr(falling_back, "taken_together", counted)
    problem = student_problem("dropout")
    for _ in range(2):
        assert_one_by_one(problem, "random")
    assert len(tried) == 1


def test_a_mistake_of_the_problems_is_raised_as_it_is_alone(momentum: TeachingProblem) -> None:
    rough = dataclasses.replace(
        momentum, objective=lambda output, target: (output.argmax(-1) == target).double().mean()
    )
    with pytest.raises(UserError, match="the objective has no derivative"):
        together(rough, general_theta(rough))

    class Lion(SGD):
        pass

    odd = random_problem(optimizer=Lion(lr=0.1))
    with pytest.raises(Refused, match="Lion"):
        together(odd, general_theta(odd))


def test_a_batch_that_cannot_be_read_again_is_found_among_many(momentum: TeachingProblem) -> None:
    class Drawn:
        def __init__(self, inputs: Tensor, targets: Tensor) -> None:
            self._inputs, self._targets, self._times = inputs, targets, 0

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            self._times += 1
            yield self._inputs * self._times
            yield self._targets

    def train(index: int, seed: int) -> Any:
        batch = momentum.train(index, seed)
        return Drawn(*batch) if (index, seed) == (HORIZON - 1, SEEDS[1]) else batch

    problem = dataclasses.replace(momentum, train=train)
    with pytest.raises(
        UserError, match=f"step {HORIZON - 1} cannot be replayed|the batch of step {HORIZON - 1} has changed"
    ):
        together(problem, general_theta(problem))


# -- the contract ------------------------------------------------------------------------------------------------------


class Foreign:
    """A backend of somebody's own, without a base class and without meta-batches."""

    name = "foreign"
    capabilities = l2t.load_backend("rmd").capabilities

    def supports(self, problem: TeachingProblem, horizon: int) -> Any: ...

    def predict(self, problem: TeachingProblem, horizon: int) -> Any: ...

    def teacher_gradient(self, problem: TeachingProblem, theta: Any, **options: Any) -> TeacherGradient:
        return l2t.load_backend("rmd").teacher_gradient(problem, theta, **options)


class ForeignOfMany(Foreign):
    """One that takes several students itself, and says nothing of memory."""

    def teacher_gradients(self, problem: TeachingProblem, theta: Any, **options: Any) -> list[Answer]:
        return l2t.load_backend("rmd[students=3]").teacher_gradients(problem, theta, **options)  # type: ignore


@pytest.mark.parametrize("backend", [Foreign(), ForeignOfMany(), l2t.load_backend("higher")])
def test_a_backend_that_takes_one_student_is_asked_for_each(momentum: TeachingProblem, backend: Any) -> None:
    theta = general_theta(momentum)
    assert students_at_once(backend) == 1
    found = teacher_gradients(backend, momentum, theta, horizon=HORIZON, seeds=SEEDS)
    for ours, theirs in zip(found, alone(momentum, theta), strict=True):
        assert isinstance(ours, TeacherGradient) and isinstance(theirs, TeacherGradient)
        assert relative_error(ours.d_theta, theirs.d_theta) <= 1e-12


def test_seeds_are_taken_in_as_few_and_as_equal_parts_as_there_can_be() -> None:
    assert [list(part) for part in even_parts(range(10), 4)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [list(part) for part in even_parts(range(3), 8)] == [[0, 1, 2]]
    assert even_parts((), 4) == []


def test_more_seeds_than_students_at_once_are_taken_in_parts(momentum: TeachingProblem) -> None:
    theta, seeds = general_theta(momentum), range(5)
    one, two = (l2t.load_backend(name) for name in ("rmd", "rmd[students=2]"))
    ours, theirs = (teacher_gradients(each, momentum, theta, horizon=HORIZON, seeds=seeds) for each in (two, one))
    assert_all_same(ours, theirs)


def test_a_teacher_is_trained_alike_by_students_taken_together_and_one_diverging_is_left_out() -> None:
    problem = diverging([1, 4], float("nan"), at=2)
    ways = [
        train_teacher(problem, l2t.load_backend(name), outer_steps=2, horizon=HORIZON, students=3, seed=0)
        for name in ("rmd", "rmd[students=3]")
    ]
    assert [step.diverged for step in ways[0].curve] == [step.diverged for step in ways[1].curve] == [1, 1]
    assert relative_error(ways[1].theta, ways[0].theta) <= 1e-12


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("rmd[students=0]", "students must be at least 1"),
        ("rmd[students=2,store=reversible]", "store=reversible goes with students=1"),
        ("truncated[students=2,every=3]", "every goes with students=1"),
    ],
)
def test_what_goes_with_one_student_only_says_so(name: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        l2t.load_backend(name)


# -- memory ------------------------------------------------------------------------------------------------------------


def test_a_law_counts_every_student_that_is_taken_at_once_and_one_where_they_cannot_be() -> None:
    one, four = (l2t.load_backend(name) for name in ("rmd", "rmd[students=4]"))
    problem = random_problem()
    held = [backend.law(problem, 100).bytes for backend in (one, four)]  # type: ignore[attr-defined]
    assert held[1] == 4 * held[0]
    taken = [backend.scaling(problem, 100).bytes for backend in (one, four)]  # type: ignore[attr-defined]
    around = [whole - exact for whole, exact in zip(taken, held, strict=True)]
    assert around[0] > 0 and around[1] == pytest.approx(around[0], rel=1e-3), (
        "stacked, they have the tensors of one between them"
    )
    apart = student_problem("dropout")
    teacher_gradients(four, apart, general_theta(apart), horizon=2, seeds=range(4))
    held = [backend.scaling(apart, 100).bytes for backend in (one, four)]  # type: ignore[attr-defined]
    assert held[1] == held[0]


def test_variants_of_a_method_that_takes_students_at_once_do_so_too() -> None:
    names = [str(variant) for variant in l2t.load_backend("rmd[students=4]").variants()]  # type: ignore[attr-defined]
    assert "rmd[store=sqrt,students=4]" in names and not any("reversible" in name for name in names)


def test_a_prediction_is_for_no_more_students_than_there_are() -> None:
    backend = l2t.load_backend("rmd[students=8]")
    at_once = [students_at_once(backend.for_students(count)) for count in (1, 6, 8, 9)]  # type: ignore[attr-defined]
    assert at_once == [1, 6, 8, 5]
