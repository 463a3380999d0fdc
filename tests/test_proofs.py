"""What proves the backends right: the ladder of checks, in float64, on random data and on real digits."""

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.gradient import Exactness, Refused
from l2t_bench.groups import Group
from l2t_bench.modules import mix_seeds, same_tensors, seeded
from l2t_bench.optimizers import SGD, linear_decay
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.verification import checks
from l2t_bench.verification.checks import Differences
from l2t_bench.verification.ladder import OPTIMIZERS, converged, section, verify, with_fewer_dev_examples
from l2t_bench.verification.reference import check_reference, load_reference, reference_path
from l2t_bench.verification.samples import Quadratic, general_theta, random_batch, random_problem
from l2t_bench.verification.subject import Check, Outcome, Subject
from l2t_bench.verification.vectors import inner, random_directions, relative_error

EXACT = ("rmd", "higher", "torchopt", "torchopt[api=meta]", "functorch")
APPROXIMATE = ("torchopt-implicit", "implicit", "one-step", "evolution[population=4]", "forward")
ALL = (*EXACT, "truncated[window=7]", *APPROXIMATE)
DIGITS = ("digits/mlp[lr=0.05,refresh=5]", "digits/lenet[lr=0.05,refresh=5]")
SMOOTH_MLP = "digits/mlp[hidden=8,nonlinearity=tanh,keys=2,features=none,dev=100,lr=0.1]"
SMOOTH_LENET = "digits/lenet[hidden=8,nonlinearity=tanh,pool=average,keys=1,features=none,dev=40,lr=0.1]"


_ADAM = ("Adam", "Adam, weight decay", "AdamW", "Adam, groups")
REFUSED_OPTIMIZERS = {
    "higher": _ADAM,
    "torchopt": _ADAM,
    "torchopt[api=meta]": (*_ADAM, "clipping", "groups"),
    "torchopt-implicit": (*_ADAM, "groups"),
    "implicit": ("AdamW",),  # with a decay it comes to rest at no stationary point of a loss
}


def taking(backends: tuple[str, ...], modes: tuple[str, ...] = tuple(OPTIMIZERS)) -> list[tuple[str, str]]:
    """Backend and optimiser where the one does not refuse the other."""
    return [(name, mode) for name in backends for mode in modes if mode not in REFUSED_OPTIMIZERS.get(name, ())]


HARDEST = ("Nesterov", "clipping", "AdamW")


def quickly(pairs: list[tuple[str, str]], hardest: tuple[str, ...] = HARDEST) -> list[Any]:
    """All of them, those of other methods than ``rmd`` slow unless they are the hardest."""
    return [
        pytest.param(name, mode, marks=() if name == "rmd" or mode in hardest else pytest.mark.slow)
        for name, mode in pairs
    ]


@pytest.mark.parametrize("backend", ALL)
def test_exactly_these_optimisers_are_refused_and_never_without_a_way_out(backend: str) -> None:
    for mode, optimizer in OPTIMIZERS.items():
        answer = l2t.load_backend(backend).supports(random_problem(optimizer=optimizer), 10)
        assert bool(answer) == (mode not in REFUSED_OPTIMIZERS.get(backend, ())), (mode, answer)
        assert not isinstance(answer, Refused) or "rmd" in str(answer)


def subject(backend: str, problem: TeachingProblem, horizon: int, seed: int = 0) -> Subject:
    theta = general_theta(problem, seed)
    loaded = l2t.load_backend(backend)
    return Subject(loaded, problem, theta, seed, loaded.teacher_gradient(problem, theta, horizon=horizon, seed=seed))


def assert_passed(check: Check) -> None:
    assert check.outcome is Outcome.PASSED, f"{check.name}: {check.figure:.3g} > {check.bound:.3g} ({check.note})"


# -- 1: the student is the one that torch.optim trains -----------------------------------------------------------------


class SometimesDeaf(nn.Module):
    """A student whose second head is reached only by batches whose first input is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 7)
        self.always = nn.Linear(7, 4)
        self.sometimes = nn.Linear(7, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(inputs))
        logits = self.always(hidden)
        return logits + self.sometimes(hidden) if inputs[0, 0] > 0 else logits


@pytest.mark.parametrize(("backend", "mode"), quickly(taking(ALL)))
def test_the_rollout_trains_the_student_that_torch_optim_trains(backend: str, mode: str) -> None:
    problem = random_problem(optimizer=OPTIMIZERS[mode])
    assert_passed(checks.check_forward_parity(subject(backend, problem, 50)))


@pytest.mark.parametrize(("backend", "mode"), quickly(taking(EXACT)))
def test_a_parameter_unused_in_some_steps_moves_and_differentiates_as_one_with_zero_gradients(
    backend: str, mode: str
) -> None:
    optimizer = OPTIMIZERS[mode]
    if "groups" in mode:  # of this student's own parameters, that of the unused head among them
        groups = (Group("*.bias", lr=2.0, weight_decay=0.0), Group("sometimes.*", lr=0.5))
        optimizer = dataclasses.replace(optimizer, groups=groups)  # type: ignore[type-var]
    problem = random_problem(student=SometimesDeaf(), optimizer=optimizer)
    flags = [float(problem.train(index, 0)[0][0, 0]) > 0 for index in range(12)]
    assert True in flags and False in flags, "the sample must have steps of both kinds"
    found = subject(backend, problem, 12)
    assert_passed(checks.check_forward_parity(found))
    assert_passed(checks.check_directions(found, bound=1e-7))


FIRST_STEP_IS_ANOTHER = ("dampening",)
"""Where c_0 is not c_t: what a library that remembers its first call outside the state gets wrong in a second run."""


@pytest.mark.parametrize(("backend", "mode"), quickly(taking(ALL), (*HARDEST, *FIRST_STEP_IS_ANOTHER)))
def test_a_second_rollout_with_the_same_object_is_as_good_as_the_first(backend: str, mode: str) -> None:
    problem = random_problem(optimizer=OPTIMIZERS[mode])
    first = subject(backend, problem, 50, seed=0)
    second = dataclasses.replace(
        first, seed=1, result=first.backend.teacher_gradient(problem, first.theta, horizon=50, seed=1)
    )
    assert_passed(checks.check_forward_parity(second))
    fresh = l2t.load_backend(backend).teacher_gradient(problem, first.theta, horizon=50, seed=1)
    assert same_tensors(second.result.d_theta, fresh.d_theta)


# -- 2: central differences --------------------------------------------------------------------------------------------


@cache
def differences_of(problem: str, horizon: int) -> tuple[TeachingProblem, Differences]:
    """The central differences of a problem's run: they know no backend, so one set serves all."""
    built = (
        random_problem(optimizer=OPTIMIZERS[problem])
        if problem in OPTIMIZERS
        else l2t.build_problem(problem, dtype="float64")
    )
    return built, checks.entry_differences(subject("rmd", built, horizon))


@pytest.mark.parametrize(("backend", "problem"), quickly([*taking(EXACT), *((name, SMOOTH_MLP) for name in EXACT)]))
def test_every_entry_of_d_theta_is_its_central_difference(backend: str, problem: str) -> None:
    built, differences = differences_of(problem, 12)
    assert_passed(checks.check_entries(subject(backend, built, 12), differences))


@pytest.mark.slow
@pytest.mark.parametrize("backend", EXACT)
def test_every_entry_of_d_theta_is_its_central_difference_on_a_smooth_lenet(backend: str) -> None:
    built, differences = differences_of(SMOOTH_LENET, 6)
    assert_passed(checks.check_entries(subject(backend, built, 6), differences))


@pytest.mark.parametrize("backend", EXACT)
def test_d_omega0_is_its_central_difference(backend: str) -> None:
    problem, loaded = random_problem(), l2t.load_backend(backend)
    theta = general_theta(problem)
    start = problem.init_student(0).params
    result = loaded.teacher_gradient(problem, theta, horizon=12)
    assert result.d_omega0 is not None

    def value_from(direction: dict[str, Tensor], size: float) -> float:
        moved = {name: param + size * direction[name] for name, param in start.items()}
        there = dataclasses.replace(problem, init=lambda seed: moved)
        return loaded.teacher_gradient(there, theta, steps=result.steps).value

    for direction in random_directions(start, 4):
        measured = (value_from(direction, 1e-4) - value_from(direction, -1e-4)) / 2e-4
        assert measured == pytest.approx(inner(result.d_omega0, direction), rel=1e-6, abs=1e-9)


# -- 3, 11: forward mode, and a step uphill ----------------------------------------------------------------------------


@pytest.mark.parametrize("problem", DIGITS)
@pytest.mark.parametrize("backend", EXACT)
def test_d_theta_along_a_direction_is_one_forward_mode_pass_on_real_architectures(backend: str, problem: str) -> None:
    built = l2t.build_problem(problem, dtype="float64")
    assert_passed(checks.check_forward_probe(subject(backend, built, 20), count=1))


@pytest.mark.parametrize("backend", EXACT)
def test_a_small_step_along_d_theta_raises_the_objective_as_predicted(backend: str) -> None:
    assert_passed(checks.check_ascent(subject(backend, l2t.build_problem(DIGITS[0], dtype="float64"), 20)))


# -- 4: exact backends agree -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [name for name in EXACT if name != "rmd"])
@pytest.mark.parametrize("problem", DIGITS)
def test_exact_backends_agree_in_float64_on_digits_with_momentum(problem: str, peer: str) -> None:
    ours = subject("rmd", l2t.build_problem(problem, dtype="float64"), 50)
    assert_passed(checks.check_agreement(ours, l2t.load_backend(peer), bound=1e-12))


@pytest.mark.parametrize("peer", [name for name in EXACT if name != "rmd"])
@pytest.mark.parametrize("problem", DIGITS)
def test_exact_backends_agree_in_float32(problem: str, peer: str) -> None:
    ours = subject("rmd", l2t.build_problem(problem, dtype="float32"), 20)
    assert_passed(checks.check_agreement(ours, l2t.load_backend(peer), bound=1e-5))


@pytest.mark.parametrize(("peer", "mode"), quickly(taking(EXACT[1:])))
def test_exact_backends_agree_under_every_optimiser_option(peer: str, mode: str) -> None:
    ours = subject("rmd", random_problem(optimizer=OPTIMIZERS[mode]), 60)
    assert_passed(checks.check_agreement(ours, l2t.load_backend(peer), bound=1e-12))


@pytest.mark.parametrize("backend", EXACT)
def test_a_teacher_and_a_student_may_have_names_of_parameters_in_common(backend: str) -> None:
    teacher = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Unflatten(0, (4, 4))).double()
    problem = dataclasses.replace(random_problem(), teacher=teacher)
    found = subject(backend, problem, 6)
    assert set(found.theta) < set(found.result.final.params)
    assert_passed(checks.check_all_entries(found))
    assert found.result.d_omega0 is not None and set(found.result.d_omega0) == set(found.result.final.params)


# -- 5: replay ---------------------------------------------------------------------------------------------------------


def restless_problem() -> TeachingProblem:
    """Dropout, train-mode BatchNorm, and an augmentation that is drawn inside the student's forward pass."""

    class Jitter(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs + 0.1 * torch.randn_like(inputs) if self.training else inputs

    student = nn.Sequential(Jitter(), nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.3), nn.Linear(9, 4))
    return random_problem(student=student)


@pytest.mark.parametrize("backend", ALL)
def test_recorded_steps_replay_bit_for_bit_with_dropout_batch_norm_and_augmentation(backend: str) -> None:
    assert_passed(checks.check_replay(subject(backend, restless_problem(), 15)))


@pytest.mark.parametrize("backend", EXACT)
def test_exact_backends_differentiate_dropout_batch_norm_and_augmentation(backend: str) -> None:
    found = subject(backend, restless_problem(), 12)
    assert_passed(checks.check_directions(found, bound=1e-7))
    assert_passed(checks.check_forward_parity(found))


def test_a_recorded_run_is_the_same_run_for_every_backend() -> None:
    problem = restless_problem()
    theta = general_theta(problem)
    steps = l2t.record(problem, theta, horizon=15, seed=4)
    finals: list[StudentState] = [
        l2t.load_backend(name).teacher_gradient(problem, theta, steps=steps, seed=4).final for name in ALL
    ]
    for final in finals[1:]:
        for name, tensor in finals[0].params.items():
            torch.testing.assert_close(final.params[name], tensor, rtol=0, atol=1e-14)
        for name, tensor in finals[0].buffers.items():
            torch.testing.assert_close(final.buffers[name], tensor, rtol=0, atol=1e-14)


# -- 6: truncation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["random", DIGITS[0]])
def test_truncated_to_the_whole_run_equals_rmd_bit_for_bit(problem: str) -> None:
    built = random_problem() if problem == "random" else l2t.build_problem(problem, dtype="float64")
    whole, exact = l2t.load_backend("truncated[window=30]"), l2t.load_backend("rmd")
    assert_passed(checks.check_whole_window(subject("truncated[window=30]", built, 30), exact, whole))


@pytest.mark.parametrize("window", [1, 4, 11])
def test_truncated_is_the_derivative_of_the_last_steps_alone(window: int) -> None:
    found = subject(f"truncated[window={window}]", random_problem(optimizer=OPTIMIZERS["Nesterov"]), 12)
    assert found.result.exactness is Exactness.TRUNCATED
    assert_passed(checks.check_all_entries(found, start=12 - window))


def test_truncation_loses_something_and_the_ladder_says_how_much() -> None:
    reported = {check.name: check.figure for check in section(l2t.load_backend("truncated"), random_problem()).checks}
    assert reported["cosine to the exact gradient"] < 0.99


# -- 7: the implicit gradient ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    [
        *("torchopt-implicit", "torchopt-implicit[solver=normal-cg]"),
        *(f"implicit[solver={solver}]" for solver in ("cg", "conjugate-residual", "nystrom", "neumann")),
    ],
)
def test_the_implicit_gradient_of_a_quadratic_is_its_closed_form(backend: str) -> None:
    assert_passed(checks.check_closed_form(converged(l2t.load_backend(backend))))


def test_an_exact_backend_finds_the_same_closed_form_by_the_whole_run() -> None:
    quadratic = Quadratic()
    result = l2t.load_backend("rmd").teacher_gradient(
        quadratic.problem(), {"weight": torch.ones(4, 1).double()}, horizon=200
    )
    assert relative_error(result.d_theta, {"weight": quadratic.d_theta()}) < 1e-8


# -- 10: nothing is left behind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ALL)
def test_three_calls_in_a_row_give_the_same_and_leave_nothing_behind(backend: str) -> None:
    assert_passed(checks.check_repeatable(subject(backend, restless_problem(), 8)))


# -- the reference set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", EXACT)
def test_exact_backends_give_the_reference_gradients(backend: str) -> None:
    for check in check_reference(l2t.load_backend(backend)):
        assert_passed(check)


def test_the_reference_set_is_small_and_its_gradients_are_not_trivial() -> None:
    assert reference_path().stat().st_size < 1_000_000
    cases = load_reference()
    assert len(cases) >= 4
    for case in cases:
        assert all(float(torch.linalg.vector_norm(part)) > 1e-8 for part in case.d_theta.values()), case.name


def test_the_reference_set_holds_against_forward_mode_too() -> None:
    for case in load_reference():
        result = l2t.load_backend("rmd").teacher_gradient(case.problem, case.theta, steps=case.steps)
        known = dataclasses.replace(result, d_theta=case.d_theta)
        assert_passed(
            checks.check_forward_probe(Subject(l2t.load_backend("rmd"), case.problem, case.theta, 0, known), 1)
        )


# -- chunks, outputs, schedules: the contract's promises ---------------------------------------------------------------


@pytest.mark.parametrize("backend", ALL)
def test_a_dev_set_in_unequal_chunks_gives_the_gradient_of_the_whole(backend: str) -> None:
    whole = dataclasses.replace(random_problem(), dev=random_batch(9, 31))
    inputs, targets = random_batch(9, 31)
    chunks = list(zip(inputs.split(8), targets.split(8), strict=True))
    theta = general_theta(whole)
    one = l2t.load_backend(backend).teacher_gradient(whole, theta, horizon=10)
    many = l2t.load_backend(backend).teacher_gradient(dataclasses.replace(whole, dev=chunks), theta, steps=one.steps)
    assert many.value == pytest.approx(one.value, rel=1e-14)
    assert relative_error(many.d_theta, one.d_theta) < 1e-12


@pytest.mark.parametrize("backend", EXACT)
def test_dev_batches_made_of_the_final_student_are_constants(backend: str) -> None:
    def prepare(view: l2t.StudentView, seed: int) -> list[tuple[Tensor, Tensor]]:
        inputs, _ = random_batch(mix_seeds(seed, 5), 24)
        return [(inputs, view.predict(inputs).argmin(-1))]  # the answers that the student thinks least likely

    problem = dataclasses.replace(random_problem(), prepare_dev=prepare)
    assert_passed(checks.check_all_entries(subject(backend, problem, 10)))


@pytest.mark.parametrize("backend", EXACT)
def test_a_dictionary_of_outputs_and_a_tuple_of_coefficients_differentiate(backend: str) -> None:
    class Student(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(6, 5), nn.Linear(5, 4)

        def forward(self, inputs: Tensor) -> dict[str, Tensor]:
            hidden = torch.tanh(self.body(inputs))
            return {"logits": self.head(hidden), "hidden": hidden, "weight": self.head.weight}

    class Teacher(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 5)

        def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.layer(features)
            return torch.nn.functional.softplus(raw[:4]), raw[4]

    def loss(output: dict[str, Tensor], target: Tensor, phi: tuple[Tensor, Tensor]) -> Tensor:
        log_p = torch.log_softmax(output["logits"], -1)
        weighted = -(phi[0][target] * log_p.gather(-1, target[:, None])[:, 0]).mean()
        return weighted + phi[1] * (output["hidden"].square().mean() + output["weight"].square().mean())

    problem = TeachingProblem(
        student=Student().double(),
        teacher=Teacher().double(),
        loss=loss,
        objective=lambda output, target: torch.softmax(output["logits"], -1).gather(-1, target[:, None]).mean(),
        optimizer=SGD(lr=linear_decay(0.2), momentum=0.9, weight_decay=0.01),
        train=lambda index, seed: random_batch(mix_seeds(seed, index)),
        dev=random_batch(3, 25),
    )
    assert_passed(checks.check_all_entries(subject(backend, problem, 10)))


@pytest.mark.parametrize("backend", ALL)
def test_the_callers_random_state_and_theta_stay_as_they_were(backend: str) -> None:
    problem = restless_problem()
    theta = general_theta(problem)
    before = {name: tensor.clone() for name, tensor in theta.items()}
    with seeded(5, torch.device("cpu")):
        untouched = torch.rand(3)
    with seeded(5, torch.device("cpu")):
        l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=5)
        assert torch.equal(torch.rand(3), untouched)
    assert same_tensors(theta, before) and not any(tensor.requires_grad for tensor in theta.values())


# -- students that a user may bring ------------------------------------------------------------------------------------


class Tied(nn.Module):
    """An embedding whose weights are also the output layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(11, 5), nn.Linear(5, 5)
        self.output = nn.Linear(5, 11, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.output(torch.tanh(self.hidden(self.embedding(words).mean(1))))


class Reader(nn.Module):
    """A recurrent layer or a whole Transformer layer between an embedding and an output layer."""

    def __init__(self, kind: str, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding, self.output = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.kind = kind
        if kind == "lstm":
            self.body: nn.Module = nn.LSTM(8, 8, batch_first=True)
        else:
            self.body = nn.TransformerEncoderLayer(8, 2, 12, dropout=dropout, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        read = self.body(self.embedding(words))
        return self.output((read[0] if self.kind == "lstm" else read).mean(1))


def word_problem(student: nn.Module) -> TeachingProblem:
    def words(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(mix_seeds(seed, 23))
        return torch.randint(11, (8, 5), generator=generator), torch.randint(11, (8,), generator=generator)

    fixed = {name: param.detach().double() for name, param in student.named_parameters()}
    return dataclasses.replace(
        random_problem(),
        student=student.double(),
        teacher=l2t.AttentionTeacher(11, features=1, keys=2, noise=0.3).double(),
        train=lambda index, seed: words(mix_seeds(seed, index)),
        dev=words(999),
        init=lambda seed: fixed,
    )


STUDENTS = {
    "tied weights": Tied,
    "LSTM": lambda: Reader("lstm"),
    "Transformer layer": lambda: Reader("transformer"),
}


@pytest.mark.parametrize("kind", STUDENTS)
@pytest.mark.parametrize("backend", EXACT)
def test_tied_weights_recurrence_and_attention_are_differentiated_or_refused(backend: str, kind: str) -> None:
    problem = word_problem(STUDENTS[kind]())
    if not l2t.load_backend(backend).supports(problem, 10):
        assert (backend, kind) == ("torchopt[api=meta]", "tied weights")
        return
    found = subject(backend, problem, 10)
    assert_passed(checks.check_forward_parity(found))
    assert_passed(checks.check_directions(found, count=3, bound=1e-7))


@pytest.mark.parametrize("backend", EXACT)
def test_dropout_inside_attention_is_replayed_or_refused_and_never_drawn_otherwise(backend: str) -> None:
    problem = word_problem(Reader("transformer", dropout=0.2))
    if backend == "functorch":
        with pytest.raises(Refused, match="other random numbers"):
            subject(backend, problem, 5)
        return
    found = subject(backend, problem, 10)
    assert_passed(checks.check_forward_parity(found))
    assert_passed(checks.check_directions(found, count=3, bound=1e-7))


# -- how much of a dev set is taken ------------------------------------------------------------------------------------


def test_a_large_dev_set_is_proved_on_its_first_thousand_examples_and_the_title_says_so() -> None:
    problem = random_problem()
    batches = [(torch.randn(400, 6, dtype=torch.float64), torch.randint(4, (400,))) for _ in range(4)]
    large = dataclasses.replace(problem, dev=batches, name="mine")
    few = with_fewer_dev_examples(large)
    assert few.name == "mine, 800 of 1,600 dev examples" and same_tensors(few.dev_batches, tuple(batches[:2]))
    one = with_fewer_dev_examples(dataclasses.replace(large, dev=[(torch.cat([b[0] for b in batches]), batches[0][1])]))
    assert len(one.dev_batches) == 1
    assert with_fewer_dev_examples(dataclasses.replace(large, dev=batches[:2])).name == "mine"
    prepared = dataclasses.replace(large, prepare_dev=lambda view, seed: batches)
    assert with_fewer_dev_examples(prepared) is prepared
    (found,) = verify(l2t.load_backend("rmd"), dataclasses.replace(large, train=problem.train))
    assert found.problem == few.name and not found.failed
