"""Algorithm 1 climbs as it says; teaching a student is plain training; nothing is chosen on test."""

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import Diverged, UserError
from l2t_bench.health import END_ALONE
from l2t_bench.lessons import accuracy_on, choose, teach, teach_fixed_loss, with_lr
from l2t_bench.losses.image import cross_entropy
from l2t_bench.modules import module_at, same_tensors
from l2t_bench.optimizers import SGD
from l2t_bench.peaks import PhasePeak
from l2t_bench.problem import TeachingProblem
from l2t_bench.suites.settings import TeachingSettings
from l2t_bench.suites.teaching import teaching_cell
from l2t_bench.tensors import TensorDict, global_norm, mean_of
from l2t_bench.trainer.contribution import Contribution
from l2t_bench.trainer.outer_step import outer_step_of
from l2t_bench.training import (
    SeedRange,
    Selection,
    TeacherOptimizer,
    TeacherTraining,
    clipped,
    distance,
    standard_error,
    train_teacher,
)
from l2t_bench.verification.samples import general_theta, random_batch, random_problem

HORIZON = 8


def train(problem: TeachingProblem, **options: object) -> TeacherTraining:
    settings = {"outer_steps": 4, "horizon": HORIZON, "theta": general_theta(problem), **options}
    return train_teacher(problem, l2t.load_backend("rmd"), **settings)  # type: ignore[arg-type]


def test_theta_climbs_by_adam_on_the_mean_of_the_students_clipped_gradients() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    outer_steps, students, clip = 3, 2, 1e-3
    settings = TeacherOptimizer(lr=0.1, betas=(0.9, 0.99), clip=clip)
    trained = train(problem, outer_steps=outer_steps, students=students, optimizer=settings)

    first = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    second = {name: torch.zeros_like(tensor) for name, tensor in theta.items()}
    for step in range(outer_steps):
        gradients = [
            l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=HORIZON, seed=step * students + student)
            for student in range(students)
        ]
        assert all(global_norm(each.d_theta) > clip for each in gradients), (
            "the clip must bite for this test to mean much"
        )
        mean = mean_of([clipped(each.d_theta, clip) for each in gradients])
        lr = 0.1 * (1 - step / outer_steps)
        for name, gradient in mean.items():
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.99 * second[name] + 0.01 * gradient**2
            unbiased = first[name] / (1 - 0.9 ** (step + 1))
            scale = (second[name] / (1 - 0.99 ** (step + 1))).sqrt() + 1e-8
            theta[name] = theta[name] + lr * unbiased / scale
    for name, tensor in theta.items():
        torch.testing.assert_close(trained.theta[name], tensor, rtol=1e-10, atol=1e-12)


def test_clipping_scales_the_whole_gradient_and_only_a_long_one() -> None:
    gradient = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert same_tensors(clipped(gradient, 5.0), gradient)
    assert same_tensors(clipped(gradient, None), gradient)
    short = clipped(gradient, 1.0)
    assert short["a"].item() == pytest.approx(0.6) and short["b"].item() == pytest.approx(0.8)


def test_the_callers_theta_is_left_alone() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    before = {name: tensor.clone() for name, tensor in theta.items()}
    trained = train(problem, theta=theta)
    assert same_tensors(theta, before) and not same_tensors(trained.theta, before)


def test_the_same_seed_gives_the_same_teacher_bit_for_bit_and_another_does_not() -> None:
    problem = random_problem()
    one, two, other = train(problem, seed=1), train(problem, seed=1), train(problem, seed=2)
    assert same_tensors(one.theta, two.theta) and not same_tensors(one.theta, other.theta)


def test_training_raises_the_objective_of_students_it_has_not_seen() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    trained = train(problem, outer_steps=25, students=2, optimizer=TeacherOptimizer(lr=0.05, clip=None))

    def value(teacher: TensorDict) -> float:
        values = [
            l2t.load_backend("rmd").teacher_gradient(problem, teacher, horizon=HORIZON, seed=seed).value
            for seed in SeedRange.FRESH.seeds(6)
        ]
        return sum(values) / len(values)

    assert value(trained.theta) > value(theta) + 0.01


def test_the_untrained_teacher_is_kept_when_training_only_hurts() -> None:
    problem = random_problem(optimizer=SGD(lr=2.0, momentum=0.9))
    good = {"W": torch.eye(4).double()[:, :, None].repeat(1, 1, 3), "V": torch.zeros(3, 1).double()}
    backend = l2t.load_backend("rmd")

    class Downhill:
        """A backend that points the wrong way."""

        name, capabilities = backend.name, backend.capabilities
        supports, predict = backend.supports, backend.predict

        def teacher_gradient(self, *arguments: object, **options: object) -> l2t.TeacherGradient:
            found = backend.teacher_gradient(*arguments, **options)  # type: ignore[arg-type]
            return dataclasses.replace(found, d_theta={name: -tensor for name, tensor in found.d_theta.items()})

    learnable = dataclasses.replace(problem, dev=[problem.train(index, 5) for index in range(3)])
    fixed = dataclasses.replace(learnable, train=lambda index, seed: problem.train(index % 3, 5))
    trained = train_teacher(
        fixed,
        Downhill(),  # type: ignore[arg-type]
        outer_steps=6,
        horizon=60,
        theta=good,
        optimizer=TeacherOptimizer(lr=0.5, schedule="constant"),
        selection=Selection(every=3, students=3),
    )
    assert [judged.outer_step for judged in trained.selection] == [0, 3, 6]
    assert trained.selected_outer_step == 0 and same_tensors(trained.theta, good)
    assert not same_tensors(trained.last_theta, good)


def exploding_for(seeds: set[int]) -> TeachingProblem:
    """Random data, but infinite inputs in the first batch of some students."""
    calm = random_problem()

    def batch(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = calm.train(index, seed)
        return (inputs * math.inf if seed in seeds and index == 0 else inputs), targets

    return dataclasses.replace(calm, train=batch)


def test_a_student_that_diverges_is_left_out_and_counted() -> None:
    trained = train(exploding_for({2}), outer_steps=2, students=2)
    assert [record.diverged for record in trained.curve] == [0, 1]
    assert all(math.isfinite(record.value) for record in trained.curve)


def test_a_step_that_loses_all_its_students_leaves_theta_where_it_is() -> None:
    short = train(exploding_for({1}), outer_steps=2, optimizer=TeacherOptimizer(schedule="constant"))
    alone = train(random_problem(), outer_steps=1, optimizer=TeacherOptimizer(schedule="constant"))
    assert [record.diverged for record in short.curve] == [0, 1]
    assert same_tensors(short.theta, alone.theta)


def test_a_training_that_loses_every_student_says_so() -> None:
    with pytest.raises(Diverged, match="every student of every outer step"):
        train(exploding_for(set(range(10))), outer_steps=2)


def test_the_students_that_judge_are_never_those_that_were_learned_from() -> None:
    ranges = [set(kind.seeds(1000)) for kind in SeedRange]
    assert len(set().union(*ranges)) == 1000 * len(SeedRange)
    with pytest.raises(UserError):
        SeedRange.TUNING.seeds(2, first=999_999)


@pytest.mark.parametrize("wrong", [{"outer_steps": 0}, {"students": 0}, {"horizon": 0}])
def test_numbers_that_are_not_positive_are_mistakes(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError):
        train(random_problem(), **wrong)


def test_a_fixed_loss_teaches_the_student_that_a_plain_training_loop_teaches() -> None:
    problem = random_problem(optimizer=SGD(lr=0.2, momentum=0.9, weight_decay=0.01))
    ours = teach_fixed_loss(problem, cross_entropy, horizon=40, seed=3)
    start = problem.init_student(3)
    student = module_at(problem.student, start.params)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
    for index in range(40):
        inputs, targets = problem.train(index, 3)
        optimizer.zero_grad()
        nn.functional.cross_entropy(student(inputs), targets).backward()
        optimizer.step()
    for name, param in student.named_parameters():
        torch.testing.assert_close(ours.params[name], param.detach(), rtol=0, atol=1e-12)


def test_teaching_under_theta_is_the_rollout_that_backends_differentiate() -> None:
    problem = random_problem()
    theta = general_theta(problem)
    taught = teach(problem, theta, horizon=HORIZON, seed=5)
    rolled = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=HORIZON, seed=5).final
    assert same_tensors(taught.params, rolled.params)


def test_accuracy_counts_examples_and_not_batches() -> None:
    class Says(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            return super().forward(inputs) * 0 + torch.tensor([0.0, 1.0, 0.0, 0.0])

    problem = dataclasses.replace(
        random_problem(student=Says(6, 4)),
        dev=[(torch.zeros(3, 6).double(), torch.ones(3).long()), (torch.zeros(1, 6).double(), torch.zeros(1).long())],
    )
    assert accuracy_on(problem, problem.init_student(0)) == 0.75
    with pytest.raises(UserError, match="no test set"):
        accuracy_on(problem, problem.init_student(0), "test")


def test_the_first_of_the_best_is_chosen_and_every_score_kept() -> None:
    best, table = choose([0.1, 0.2, 0.4], lambda lr: {0.1: 0.5, 0.2: 0.9, 0.4: 0.9}[lr])
    assert best == 0.2 and table == {0.1: 0.5, 0.2: 0.9, 0.4: 0.9}


def test_another_lr_leaves_the_rest_of_the_optimiser() -> None:
    changed = with_lr(random_problem(optimizer=SGD(lr=0.1, momentum=0.9, nesterov=True)), 0.5).optimizer
    assert changed == SGD(lr=0.5, momentum=0.9, nesterov=True)


def test_selection_and_training_never_look_at_test() -> None:
    def untouchable() -> object:
        raise AssertionError("the test set was looked at")

    problem = dataclasses.replace(random_problem(), test=untouchable)
    train(problem, selection=Selection(every=2, students=2))


def test_a_students_batches_are_a_function_of_its_seed() -> None:
    assert same_tensors(random_batch(4), random_batch(4)) and not same_tensors(random_batch(4), random_batch(5))


# -- whether a gradient is usable -----------------------------------------------------------------------------------


def test_the_standard_error_of_a_mean_gradient_is_that_of_its_entries_together() -> None:
    gradients = [{"a": torch.tensor([1.0, 0.0])}, {"a": torch.tensor([3.0, 0.0])}, {"a": torch.tensor([2.0, 3.0])}]
    stacked = torch.stack([gradient["a"] for gradient in gradients])
    assert standard_error(gradients) == pytest.approx(float((stacked.var(0).sum() / 3).sqrt()))
    assert standard_error(gradients[:1]) is None, "one student says nothing of the noise between students"


def test_the_curve_says_how_far_theta_moved_and_how_noisy_its_gradient_was() -> None:
    problem = random_problem()
    training = train(problem, students=3)
    assert all(record.noise is not None and record.noise > 0 and record.moved > 0 for record in training.curve)
    assert training.travelled == pytest.approx(distance(training.last_theta, general_theta(problem)))
    assert training.travelled <= sum(record.moved for record in training.curve) * (1 + 1e-9)
    assert all(record.noise is None for record in train(problem, students=1).curve)


# -- where the time goes ----------------------------------------------------------------------------------------------


class Phases:
    """Keeps what it is told, in order; the blocks that it opens do not nest."""

    def __init__(self) -> None:
        self.entered: list[str] = []
        self.added: dict[str, list[tuple[float, PhasePeak | None]]] = {}
        self.open = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        assert not self.open
        self.open = True
        self.entered.append(name)
        yield
        self.open = False

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        assert not self.open, "a teacher gradient that is taken inside a phase would count twice"
        self.added.setdefault(name, []).append((seconds, peak))


def test_every_gradient_update_and_judgement_is_told_by_phase() -> None:
    phases = Phases()
    trained = train(
        random_problem(), outer_steps=3, students=2, selection=Selection(every=2, students=1), phases=phases
    )
    assert phases.entered == [
        *("evaluation", "teacher update"),
        "teacher update",
        *("evaluation", "teacher update"),
        "evaluation",
    ]
    assert {name: len(told) for name, told in phases.added.items()} == {"rollout": 6, "dev": 6, "reverse": 6}
    told = sum(seconds for each in phases.added.values() for seconds, _ in each)
    assert told == pytest.approx(sum(record.seconds for record in trained.curve))
    assert all(isinstance(peak, PhasePeak) for each in phases.added.values() for _, peak in each)


def test_the_time_of_a_student_that_is_lost_is_not() -> None:
    phases = Phases()
    train(exploding_for({2}), outer_steps=2, students=2, phases=phases)
    assert len(phases.added["rollout"]) == 4 and len(phases.added["reverse"]) == 3


def test_a_teaching_cells_time_and_memory_are_split_by_phase(tmp_path: Path) -> None:
    """The whole of what it does: what is in no phase is the little between them."""
    settings = TeachingSettings(
        problem="digits/mlp[train=60,dev=60,split=3,lr=1.2,schedule=linear]",
        horizon=40, outer_steps=4, select_every=2, select_students=2, learned_grid=(1.2,), tuning_students=1,
        fresh_students=2,
    )  # fmt: skip
    recorder, begun = Recorder(tmp_path), time.perf_counter()
    teaching_cell("rmd", settings, "cpu", 0, recorder)
    whole = time.perf_counter() - begun
    phases = recorder.phases
    assert {"build", "rollout", "dev", "reverse", "teacher update", "evaluation"} <= set(phases)
    assert sum(phase["seconds"] for phase in phases.values()) > 0.8 * whole
    assert all(phase["host_peak_bytes"] for phase in phases.values())


def test_an_outer_step_tells_of_its_students_adjoints_and_warnings() -> None:
    calm = train(random_problem()).curve[0]
    assert calm.adjoint_growth is not None and calm.adjoint_growth > 0
    assert (calm.exploded, calm.died, calm.warnings) == (0, 0, ())
    assert "usable" in calm.adjoint_said
    wild = train(random_problem(optimizer=SGD(lr=40.0, momentum=0.9)), horizon=40, students=2).curve
    told = [step for step in wild if step.exploded or step.died]
    assert told and all(step.warnings and "adjoint" in step.warnings[0] for step in told)
    assert all(step.adjoint_said in step.warnings for step in told)
    backend = l2t.load_backend("one-step")
    (unwatched,) = train_teacher(random_problem(), backend, outer_steps=1, horizon=4).curve
    assert unwatched.adjoint_growth is None and unwatched.adjoint_said == END_ALONE


@pytest.mark.slow
def test_a_memory_limit_is_looked_at_before_the_first_outer_step_and_leaves_no_trace() -> None:
    problem, told = random_problem(), list[object]()
    with pytest.raises(l2t.Refused, match=r"rmd would take .* at horizon 10000, and 35 MB are left; these would fit"):
        train(problem, horizon=10_000, memory_limit="35MB", on_outer_step=told.append)
    assert not told
    limited, free = train(problem, memory_limit="1GB"), train(problem)
    assert all(torch.equal(tensor, free.theta[name]) for name, tensor in limited.theta.items())


def test_a_memory_limit_counts_the_students_that_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2t_bench.fitting.would_fit", lambda *_: [])
    problem, backend = random_problem(), l2t.load_backend("rmd[students=4]")
    with pytest.raises(l2t.Refused, match=r"rmd\[students=4\] would take"):
        train_teacher(problem, backend, outer_steps=1, horizon=100_000, students=4, memory_limit="1MB")
    with pytest.raises(l2t.Refused, match=r"rmd would take"):
        train_teacher(problem, backend, outer_steps=1, horizon=100_000, students=1, memory_limit="1MB")


@pytest.mark.parametrize("limit", [0, -5, True, "8 apples"])
def test_a_memory_limit_that_is_none_is_an_error(limit: int | str) -> None:
    with pytest.raises(UserError, match="a size is "):
        train(random_problem(), memory_limit=limit)


def test_without_a_memory_limit_no_short_run_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2t_bench.fitting.short_sizes", lambda *_: pytest.fail("a short run was made"))
    assert len(train(random_problem()).curve) >= 1


@pytest.mark.slow
def test_a_teacher_whose_gradients_do_not_fit_is_not_begun(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, memory_limit=1)
    with pytest.raises(l2t.Refused, match="at horizon 300"):
        teaching_cell("rmd", TeachingSettings(), "cpu", 0, recorder)


@pytest.mark.parametrize("name", ["cross-entropy", "smooth01[form=error]", "large-margin", "label-smoothing", "focal"])
def test_a_teaching_cell_takes_any_fixed_loss_by_its_name_with_an_lr_of_its_own(tmp_path: Path, name: str) -> None:
    settings = TeachingSettings(
        problem="digits/mlp[train=60,dev=60,hidden=10]",
        horizon=10, cross_entropy_grid=(0.1,), fixed_grid=(0.1,), tuning_students=1, fresh_students=2,
    )  # fmt: skip
    measured = teaching_cell(name, settings, "cpu", 0, Recorder(tmp_path))
    assert (measured["loss"], measured["outer_steps"], len(measured["students"])) == (name, 0, 2)
    assert {tried["schedule"] for tried in measured["lr_grid"]} == {"constant", "linear"}


def test_a_teaching_cell_of_a_loss_that_is_none_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smooth02"):
        teaching_cell("smooth02", TeachingSettings(), "cpu", 0, Recorder(tmp_path))


def test_a_gradient_whose_squares_are_too_large_for_float32_is_clipped_and_has_a_length() -> None:
    steep = {"W": torch.full((4,), 1e25)}
    assert clipped(steep, 1.0)["W"].tolist() == pytest.approx([0.5] * 4)
    given = Contribution(steep, value=0.5, seconds=1.0, health=None, warnings=())
    assert outer_step_of(0, [given], 1).gradient_norm == pytest.approx(2e25)
