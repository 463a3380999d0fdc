"""Mistakes: each is answered by a clear error that says what to do, before work is lost, by every backend alike."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.backends.rmd import ManualRMD
from l2t_bench.backends.torchopt_implicit import TorchOptImplicit
from l2t_bench.backends.torchopt_unroll import TorchOptUnroll
from l2t_bench.backends.truncated import TruncatedRMD
from l2t_bench.errors import Diverged, L2TError, UnknownNameError, UserError
from l2t_bench.objectives import accuracy
from l2t_bench.problem import TeachingProblem
from l2t_bench.verification import numeric
from l2t_bench.verification.numeric import RecordedRun
from l2t_bench.verification.samples import general_theta, random_batch, random_problem
from l2t_bench.verification.vectors import relative_error

BACKENDS = (
    *("rmd", "truncated[window=3]", "higher", "torchopt", "torchopt[api=meta]", "torchopt-implicit", "functorch"),
    *("implicit", "one-step", "evolution[population=4]", "forward"),
)

every_backend = pytest.mark.parametrize("backend", BACKENDS)


def differentiate(backend: str, problem: TeachingProblem, **arguments: Any) -> l2t.TeacherGradient:
    arguments = {"horizon": 60} | arguments if "steps" not in arguments else arguments
    theta = arguments.pop("theta", None) or general_theta(problem)
    return l2t.load_backend(backend).teacher_gradient(problem, theta, **arguments)


def counted(problem: TeachingProblem) -> tuple[TeachingProblem, list[int]]:
    """The problem, and a list of the batches that were drawn."""
    drawn: list[int] = []

    def train(index: int, seed: int) -> Any:
        drawn.append(index)
        return problem.train(index, seed)

    return dataclasses.replace(problem, train=train), drawn


# -- losses and objectives ---------------------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize(
    ("loss", "answer"),
    [
        (lambda logits, target, phi: logits.sum(-1), r"must return a scalar, not shape \(8,\): take its \.mean\(\)"),
        (lambda logits, target, phi: 1.0, "must return a scalar tensor, not float"),
        (lambda logits, target, phi: None, "must return a scalar tensor, not NoneType"),
        (lambda logits, target, phi: torch.ones(()), "the loss does not depend on the student's parameters"),
        (lambda logits, target, phi: logits.detach().mean(), "the loss does not depend on the student's parameters"),
        (lambda logits, target, phi: phi.sum(), "the loss does not depend on the student's parameters"),
        (lambda logits, target, phi: (logits.argmax(-1) == target).sum(), "the loss does not depend on the student's"),
    ],
    ids=["vector", "number", "nothing", "constant", "detached", "of phi alone", "count of hits"],
)
def test_a_loss_that_cannot_teach_is_refused_at_the_first_step(
    backend: str, loss: Callable[[Any, Any, Any], Any], answer: str
) -> None:
    problem, drawn = counted(dataclasses.replace(random_problem(), loss=loss))
    with pytest.raises(l2t.UserError, match=answer):
        differentiate(backend, problem)
    assert set(drawn) == {0}


@every_backend
def test_a_phi_that_holds_no_tensor_where_one_is_looked_for_is_an_error(backend: str) -> None:
    @dataclasses.dataclass
    class Coefficients:
        value: Tensor

    class Wrapped(nn.Linear):
        def forward(self, features: Tensor) -> Coefficients:  # type: ignore[override]
            return Coefficients(super().forward(features))

    problem = dataclasses.replace(
        random_problem(),
        teacher=Wrapped(1, 4).double(),
        loss=lambda logits, target, phi: (phi.value[target] * nn.functional.cross_entropy(logits, target)).mean(),
    )
    with pytest.raises(UserError, match="gives a Coefficients, in which no tensor of floats is found"):
        differentiate(backend, problem, horizon=3)


@pytest.mark.parametrize("backend", l2t.list_backends())
def test_a_teacher_without_trained_parameters_is_an_error(backend: str) -> None:
    frozen = nn.Linear(1, 16).double().requires_grad_(False)
    for teacher in (nn.Identity(), nn.Sequential(frozen, nn.Unflatten(0, (4, 4)))):
        problem = dataclasses.replace(random_problem(), teacher=teacher)
        with pytest.raises(UserError, match="the teacher has no parameters that are trained"):
            l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=3)


@every_backend
def test_a_loss_of_one_entry_counts_as_a_scalar(backend: str) -> None:
    plain = random_problem()
    boxed = dataclasses.replace(plain, loss=lambda logits, target, phi: plain.loss(logits, target, phi)[None])
    ours, theirs = differentiate(backend, boxed, horizon=5), differentiate(backend, plain, horizon=5)
    for name, tensor in theirs.d_theta.items():
        assert torch.equal(ours.d_theta[name], tensor)


@every_backend
@pytest.mark.parametrize(
    ("objective", "answer"),
    [
        (lambda logits, target: logits.sum(-1), r"objective\(output, target\) must return a scalar, not shape"),
        (accuracy, "must return a scalar tensor, not float"),
    ],
    ids=["vector", "number"],
)
def test_an_objective_that_is_no_scalar_is_an_error(
    backend: str, objective: Callable[[Any, Any], Any], answer: str
) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        differentiate(backend, dataclasses.replace(random_problem(), objective=objective), horizon=3)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if not name.startswith("evolution")])
def test_an_objective_without_derivative_is_an_error_where_one_is_needed(backend: str) -> None:
    hits = dataclasses.replace(
        random_problem(), objective=lambda logits, target: (logits.argmax(-1) == target).double().mean()
    )
    with pytest.raises(l2t.UserError, match="has no derivative by the student's"):
        differentiate(backend, hits, horizon=3)


# -- runs --------------------------------------------------------------------------------------------------------------


@every_backend
@pytest.mark.parametrize("horizon", [0, -5, 2.5, None])
def test_a_horizon_that_is_no_positive_number_is_an_error(backend: str, horizon: Any) -> None:
    problem, drawn = counted(random_problem())
    with pytest.raises(l2t.UserError, match="horizon"):
        differentiate(backend, problem, horizon=horizon)
    assert drawn == []


@pytest.mark.parametrize("horizon", [True, np.float64(4), "4", np.array([4, 5])])
def test_what_is_no_whole_number_is_no_horizon(horizon: Any) -> None:
    with pytest.raises(l2t.UserError, match="horizon must be a positive number of steps"):
        differentiate("rmd", random_problem(), horizon=horizon)


@pytest.mark.parametrize("four", [np.int64(4), np.uint8(4), torch.tensor(4)], ids=repr)
def test_a_whole_number_of_any_library_is_a_horizon(four: Any) -> None:
    problem = random_problem()
    ours, plain = (differentiate("rmd", problem, horizon=horizon) for horizon in (four, 4))
    assert len(ours.steps) == 4 and torch.equal(ours.d_theta["W"], plain.d_theta["W"])


@pytest.mark.parametrize(
    "backend", ["rmd", "rmd[store=sqrt]", "rmd[store=reversible]", "higher", "forward", "one-step"]
)
@pytest.mark.parametrize(
    ("pick", "answer"),
    [
        (lambda steps: steps[:3] + steps[5:], "each once and in order: at 3 comes step 5"),
        (lambda steps: (steps[0],) * 3, "each once and in order: at 1 comes step 0"),
        (lambda steps: steps[::-1], "each once and in order: at 0 comes step 7"),
        (lambda steps: [tuple(steps)], "steps must hold the steps of a recorded run; at 0 it holds tuple"),
        (
            lambda steps: (*steps[:4], dataclasses.replace(steps[4], seed=1)),
            "step 4 was not recorded in the run of student",
        ),
    ],
    ids=["with a gap", "one step again and again", "backwards", "in a list", "of two students"],
)
def test_steps_that_are_no_run_are_an_error(backend: str, pick: Callable[[Any], Any], answer: str) -> None:
    problem = random_problem()
    steps = l2t.record(problem, general_theta(problem), horizon=8)
    with pytest.raises(l2t.UserError, match=answer):
        differentiate(backend, problem, steps=pick(steps))


def test_the_beginning_of_a_recorded_run_is_a_run() -> None:
    problem = dataclasses.replace(
        random_problem(), features=lambda view: torch.tensor([0.1 * view.index], dtype=torch.float64)
    )
    steps = l2t.record(problem, general_theta(problem), horizon=8)
    assert differentiate("rmd", problem, steps=steps[:5]).value == differentiate("rmd", problem, horizon=5).value


@pytest.mark.parametrize(
    ("schedule", "answer"),
    [
        (lambda index: 0.1, "the lr schedule .* fails at step 0: .* takes 1 positional argument but 2 were given"),
        (lambda index, horizon: "fast", "the lr schedule .* fails at step 0: could not convert string to float"),
        (lambda index, horizon: None, "the lr schedule .* fails at step 0: .* it must be a function"),
        (lambda index, horizon: 0.1 if index < 5 else math.nan, "the lr schedule .* gives nan at step 5"),
        (lambda index, horizon: 0.1 * (3 - index), "the lr schedule .* gives -0.1 at step 4"),
        (lambda index, horizon: math.inf, "the lr schedule .* gives inf at step 0"),
    ],
    ids=["of one argument", "a word", "nothing", "no number", "negative", "infinite"],
)
def test_a_learning_rate_that_is_none_is_an_error_before_a_batch_is_drawn(
    schedule: Callable[..., Any], answer: str
) -> None:
    problem, drawn = counted(random_problem(optimizer=l2t.SGD(schedule, 0.9)))
    with pytest.raises(l2t.UserError, match=answer):
        differentiate("rmd", problem, horizon=8)
    assert drawn == []


@pytest.mark.parametrize(
    "batch",
    [{"inputs": torch.zeros(2, 6), "targets": torch.zeros(2).long()}, torch.zeros(2, 6), "xy", (torch.zeros(2, 6),)],
    ids=["a mapping", "a tensor", "a word", "inputs alone"],
)
def test_a_batch_that_is_no_pair_of_inputs_and_targets_is_an_error(batch: Any) -> None:
    problem = dataclasses.replace(random_problem(), train=lambda index, seed: batch)
    with pytest.raises(l2t.UserError, match=r"train\(index, seed\) must return \(inputs, targets\), not "):
        differentiate("rmd", problem)


class Choosing(nn.Module):
    """A teacher that gives an index and a name beside its weights."""

    def __init__(self, *, plain: bool) -> None:
        super().__init__()
        self.weights, self._plain = nn.Linear(1, 4, dtype=torch.float64), plain

    def forward(self, features: Tensor) -> Any:
        weights = self.weights(features)
        return weights if self._plain else {"weights": weights, "first": weights.argmax(), "name": "chosen"}


def choosing(*, plain: bool) -> TeachingProblem:
    def loss(logits: Tensor, target: Tensor, phi: Any) -> Tensor:
        weights = phi if plain else phi["weights"]
        first = phi.argmax() if plain else phi["first"]
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return (each * weights.sigmoid()[target] * (1 + (target == first))).mean()

    return dataclasses.replace(random_problem(), teacher=Choosing(plain=plain), loss=loss)


@pytest.mark.parametrize("backend", [*BACKENDS, "rmd[hvp=for]", "rmd[store=graph]", "rmd[store=reversible]"])
def test_an_index_that_a_teacher_gives_beside_its_weights_is_a_constant(backend: str) -> None:
    found, wanted = (differentiate(backend, choosing(plain=plain), horizon=6).d_theta for plain in (False, True))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-15)
    assert any(tensor.any() for tensor in wanted.values())


@pytest.mark.parametrize("part", [lambda theta: None, lambda theta: [*theta.values()], lambda theta: {"W": np.ones(3)}])
def test_a_theta_that_is_no_dict_of_tensors_is_an_error(part: Callable[[Any], Any]) -> None:
    problem = random_problem()
    with pytest.raises(UserError, match="theta must be a dict of the teacher's tensors by name"):
        l2t.load_backend("rmd").teacher_gradient(problem, part(general_theta(problem)), horizon=3)


@every_backend
def test_theta_of_another_precision_is_an_error_that_names_it(backend: str) -> None:
    problem = random_problem()
    theta = general_theta(problem) | {"V": general_theta(problem)["V"].float()}
    with pytest.raises(
        l2t.UserError, match=r"theta\['V'\] is torch\.float32, the teacher's is torch\.float64: cast it"
    ):
        differentiate(backend, problem, theta=theta)


@pytest.mark.parametrize("backend", ["rmd", "higher", "functorch", "truncated[window=3]"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_student_in_half_precision_is_warned_of_and_no_other(backend: str, dtype: torch.dtype) -> None:
    warnings = differentiate(backend, random_problem().to(dtype=dtype), horizon=4).warnings
    told = any("lost in its rounding" in warning and "take float32" in warning for warning in warnings)
    assert told == (dtype is torch.bfloat16)


def test_a_group_that_no_parameter_fits_is_an_error_of_the_problem() -> None:
    groups = (l2t.Group("*.bias", lr=2.0), l2t.Group("outptu.*", lr=0.0))
    for optimizer in (l2t.SGD(0.3, 0.9, groups=groups), l2t.Adam(0.3, groups=groups)):
        with pytest.raises(
            l2t.UserError, match=r"fits the group 'outptu\.\*'; there are 0\.weight, 0\.bias, 2\.weight"
        ):
            random_problem(optimizer=optimizer)


def test_a_group_that_would_change_nothing_is_an_error_of_the_problem() -> None:
    behind = (l2t.Group("*", lr=0.5), l2t.Group("*.bias", lr=2.0))
    with pytest.raises(l2t.UserError, match=r"fits the group '\*\.bias' belongs to a group before it.*narrower group"):
        random_problem(optimizer=l2t.SGD(0.3, groups=behind))
    random_problem(optimizer=l2t.SGD(0.3, groups=behind[::-1]))
    student = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    student[0].requires_grad_(False)
    with pytest.raises(l2t.UserError, match=r"fit the group '0\.\*' are frozen: 0\.weight, 0\.bias"):
        random_problem(student=student, optimizer=l2t.SGD(0.3, groups=(l2t.Group("0.*", lr=0.5),)))


@every_backend
def test_a_batch_source_that_gives_another_batch_is_found_out_at_once(backend: str) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn: list[int] = []

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        drawn.append(index)
        return torch.randn(8, 6, generator=generator, dtype=torch.float64), random_batch(0)[1]

    with pytest.raises(l2t.UserError, match="it must be a pure function of"):
        differentiate(backend, dataclasses.replace(random_problem(), train=train))
    assert drawn == [0, 0]


@every_backend
def test_theta_of_another_teacher_is_an_error_before_the_run(backend: str) -> None:
    problem, drawn = counted(random_problem())
    other = random_problem(keys=5).init_teacher(0)
    with pytest.raises(l2t.UserError, match=r"theta\['W'\] has shape \(4, 4, 5\), not \(4, 4, 3\)"):
        differentiate(backend, problem, theta=other)
    with pytest.raises(l2t.UserError, match=r"theta has the keys weight; the teacher's are V, W"):
        differentiate(backend, problem, theta={"weight": other["W"]})
    assert drawn == []


@every_backend
def test_steps_of_another_student_are_an_error(backend: str) -> None:
    problem = random_problem()
    steps = l2t.record(problem, general_theta(problem), horizon=3, seed=1)
    with pytest.raises(l2t.UserError, match="pass the seed of that run"):
        differentiate(backend, problem, steps=steps, seed=2)


@every_backend
def test_a_teacher_that_produces_nan_is_named(backend: str) -> None:
    problem = random_problem()
    theta = general_theta(problem)
    theta["W"][0, 0, 0] = torch.nan
    with pytest.raises(Diverged, match="the teacher's phi is not finite at step 0") as caught:
        differentiate(backend, problem, theta=theta)
    assert caught.value.step == 0


@every_backend
def test_a_student_that_produces_nan_is_named_with_the_step(backend: str) -> None:
    healthy = random_problem()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = healthy.train(index, seed)
        return (inputs * torch.nan if index == 7 else inputs), targets

    with pytest.raises(Diverged, match="the student's loss is not finite at step 7: lower the student's lr") as caught:
        differentiate(backend, dataclasses.replace(healthy, train=train), horizon=12)
    assert caught.value.step == 7


@every_backend
def test_a_student_that_explodes_is_named_and_not_returned(backend: str) -> None:
    exploding = dataclasses.replace(
        random_problem(optimizer=l2t.SGD(lr=1e150, momentum=0.9)),
        loss=lambda logits, target, phi: phi.diagonal().mean() * logits.square().mean(),
    )
    with pytest.raises(Diverged, match="is not finite"):
        differentiate(backend, exploding, horizon=20)


@every_backend
def test_an_objective_that_is_nan_at_the_end_is_named(backend: str) -> None:
    problem = dataclasses.replace(random_problem(), objective=lambda logits, target: logits.mean() * torch.nan)
    with pytest.raises(Diverged, match=r"the dev objective .*is not finite at omega_T") as caught:
        differentiate(backend, problem, horizon=4)
    assert caught.value.step == 4


class SignDescent:
    """An optimiser of the user's own, with the methods of the contract, that no backend knows how to pull back."""

    slot_names = ()
    reads_slots = reads_gradients = False

    def lr_at(self, index: int, horizon: int) -> float:
        return 0.1

    def step(self, params: Any, gradients: Any, slots: Any, *, index: int, lr: float) -> Any:
        return {name: params[name] - lr * gradients[name].sign() for name in params}, {}

    def pull_back(self, adjoint: Any, taken: Any) -> Any:
        raise AssertionError("a backend that does not know an optimiser must refuse it")

    hyper_gradients = pull_back


STEPS_ARE_ENOUGH = ("functorch", "evolution[population=4]", "forward")
"""The backends that need no adjoint of the optimiser: its step is all they take."""


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in STEPS_ARE_ENOUGH])
def test_an_optimiser_that_a_backend_does_not_know_is_refused_before_the_run(backend: str) -> None:
    problem, drawn = counted(dataclasses.replace(random_problem(), optimizer=SignDescent()))
    with pytest.raises(l2t.Refused, match="does not differentiate SignDescent; it can do SGD") as caught:
        differentiate(backend, problem)
    assert drawn == [] and caught.value.instead.startswith("it can do SGD")
    assert not l2t.load_backend(backend).supports(problem, 10)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in STEPS_ARE_ENOUGH])
def test_an_optimiser_of_ones_own_that_is_called_as_one_of_ours_is_not_taken_for_it(backend: str) -> None:
    own = type("SGD", (l2t.SGD,), {"step": SignDescent.step})
    with pytest.raises(l2t.Refused, match=r"does not differentiate \S+\.SGD; it can do SGD"):
        differentiate(backend, random_problem(optimizer=own(0.1, 0.9)))


class Halving(SignDescent):
    """Descent along g / (1 + g^2): smooth, and nobody's."""

    def step(self, params: Any, gradients: Any, slots: Any, *, index: int, lr: float) -> Any:
        return {name: params[name] - lr * g / (1 + g * g) for name, g in gradients.items()}, {}


def test_an_optimiser_of_ones_own_is_differentiated_where_its_step_is_enough() -> None:
    problem = dataclasses.replace(random_problem(), optimizer=Halving())
    found = differentiate("functorch", problem, horizon=12)
    entries = sum(tensor.numel() for tensor in problem.init_teacher(0).values())
    forwards = differentiate(f"forward[directions={entries}]", problem, steps=found.steps)
    assert relative_error(found.d_theta, forwards.d_theta) < 1e-12
    differences = numeric.central_differences(RecordedRun(problem, general_theta(problem), found.steps, 0), 1e-3)
    assert relative_error(found.d_theta, differences) < 1e-7


# -- names and options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "answer"),
    [
        (lambda: l2t.load_backend("rdm"), "no backend 'rdm': did you mean 'rmd'?"),
        (lambda: l2t.load_backend("functorh"), "no backend 'functorh': did you mean 'functorch'?"),
        (lambda: l2t.load_backend("torchopt_implicit"), "no backend 'torchopt_implicit': did you mean"),
        (lambda: l2t.build_problem("digits/mpl"), "no problem 'digits/mpl': did you mean 'digits/mlp'?"),
        (lambda: l2t.build_problem("minst/lenet"), "no problem 'minst/lenet': did you mean 'mnist/lenet'?"),
        (
            lambda: l2t.load_backend("xyz"),
            "no backend 'xyz'; there are evolution, forward, functorch, higher, implicit, ",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(load: Callable[[], Any], answer: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load()
    assert str(caught.value).startswith(answer)


@pytest.mark.parametrize(
    ("load", "answer"),
    [
        (lambda: l2t.load_backend("rmd[window=5]"), "rmd has no option 'window'; its options are store"),
        (
            lambda: l2t.load_backend("truncated[windo=5]"),
            "truncated has no option 'windo': did you mean 'window'?; its options are store",
        ),
        (lambda: l2t.load_backend("higher[store=all]"), "higher has no option 'store'; it has no options"),
        (lambda: l2t.load_backend("rmd[store=some]"), "rmd: store must be one of all, sqrt"),
        (lambda: l2t.load_backend("truncated[window=0]"), "truncated: window must be at least 1 step, not 0"),
        (lambda: l2t.load_backend("truncated[window=ten]"), "truncated: window must be a whole number, not 'ten'"),
        (lambda: l2t.load_backend("torchopt[api=metta]"), "torchopt: api must be one of functional, meta, not 'metta'"),
        (lambda: l2t.load_backend("implicit[solver=cgg]"), "implicit: solver must be one of cg, neumann, nystrom, "),
        (lambda: l2t.load_backend("implicit[rank=5]"), "implicit: rank is of solver=nystrom, and must be above 0"),
        (lambda: l2t.load_backend("implicit[solver=nystrom,rank=0]"), "implicit: rank is of solver=nystrom, and must"),
        (lambda: l2t.load_backend("implicit[solver=neumann,alpha=-1]"), "implicit: alpha is of solver=neumann, and"),
        (
            lambda: l2t.load_backend("implicit[solver=nystrom,iterations=5]"),
            "implicit: iterations are of all solvers but",
        ),
        (lambda: l2t.load_backend("implicit[iterations=0]"), "implicit: iterations are of all solvers but nystrom, "),
        (lambda: TorchOptUnroll(api="metta"), "torchopt: there is no api 'metta'"),  # type: ignore[arg-type]
        (lambda: TorchOptImplicit(solver="gmres"), "torchopt-implicit: there is no solver 'gmres'"),  # type: ignore[arg-type]
        (
            lambda: TorchOptImplicit(damping=math.nan),
            "torchopt-implicit: iterations and batches must be at least 1, damping",
        ),
        (
            lambda: TorchOptImplicit(damping=math.inf),
            "torchopt-implicit: iterations and batches must be at least 1, damping",
        ),
        (lambda: l2t.load_backend("one-step[epsilon=0]"), "one-step: epsilon must be a positive number, not 0"),
        (lambda: l2t.load_backend("forward[directions=0]"), "forward: directions must be at least 1, not 0"),
        (
            lambda: l2t.load_backend("evolution[estimator=se]"),
            "evolution: estimator must be one of es, pes, antithetic",
        ),
        (
            lambda: l2t.load_backend("evolution[population=5]"),
            "evolution: antithetic goes in pairs: an even population",
        ),
        (lambda: l2t.load_backend("evolution[estimator=es,population=1]"), "evolution: population must be at least 2"),
        (lambda: l2t.load_backend("evolution[sigma=0]"), "evolution: sigma must be a positive number, not 0"),
        (lambda: l2t.load_backend("evolution[window=0]"), "evolution: window must be at least 1 step, not 0"),
        (lambda: l2t.load_backend("rmd[store]"), "'store' in 'rmd[store]' is not of the form option=value"),
    ],
)
def test_a_wrong_option_of_a_backend_is_answered_with_those_it_has(load: Callable[[], Any], answer: str) -> None:
    with pytest.raises(l2t.UserError) as caught:
        load()
    assert str(caught.value).startswith(answer)


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda: TruncatedRMD(window=2.5), "truncated: window must be a whole number, not 2.5"),  # type: ignore[arg-type]
        (lambda: TruncatedRMD(every=True), "truncated: every must be a whole number, not True"),
        (lambda: ManualRMD(students=1.0), "rmd: students must be a whole number, not 1.0"),  # type: ignore[arg-type]
        (lambda: ManualRMD(snapshots="3"), "rmd: snapshots must be a whole number, not '3'"),  # type: ignore[arg-type]
    ],
)
def test_a_count_that_is_no_whole_number_is_an_error_in_python_too(make: Callable[[], Any], answer: str) -> None:
    with pytest.raises(UserError, match=f"^{answer}"):
        make()


@pytest.mark.parametrize("five", [5, np.int64(5)])
def test_a_whole_number_of_any_library_is_a_count(five: Any) -> None:
    assert TruncatedRMD(window=five).window == 5


@pytest.mark.parametrize("backend", ["torchopt-implicit", "implicit"])
@pytest.mark.parametrize("option", ["damping=-1", "iterations=0", "batches=0"])
def test_a_number_that_an_implicit_backend_cannot_use_is_an_error(backend: str, option: str) -> None:
    with pytest.raises(l2t.UserError, match=option.split("=", maxsplit=1)[0]):
        l2t.load_backend(f"{backend}[{option}]")


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("batch=0", "the batch size must be at least 1"),
        ("batch=2.5", "batch must be a whole number"),
        ("train=0", "train and dev must each hold an example"),
        ("dev=-1", "train and dev must each hold an example"),
        ("split=-1", "the seed of the split must not be negative"),
        ("lr=0", "lr must be a positive number"),
        ("lr=-0.1", "lr must be a positive number"),
        ("lr=nan", "lr must be a finite number"),
        ("schedule=linaer", "schedule must be one of constant, linear, multistep, not 'linaer': did you mean 'linear'"),
        ("momentum=1", r"momentum must be in \[0, 1\)"),
        ("momentum=-0.1", r"momentum must be in \[0, 1\)"),
        ("dampening=inf", "dampening must be a finite number"),
        ("weight_decay=-1e-4", "weight_decay must not be negative"),
        ("nesterov=true,momentum=0", "Nesterov momentum needs momentum > 0 and dampening = 0"),
        ("nesterov=true,dampening=0.5", "Nesterov momentum needs momentum > 0 and dampening = 0"),
        ("nesterov=1", "nesterov must be true or false"),
        ("beta=0", "beta must be positive"),
        ("features=all", "features must be one of paper, none"),
        ("refresh=0", "every and train_batches must be at least 1"),
        ("keys=0", "classes, features and keys must be at least 1"),
        ("noise=-1", "noise must not be negative"),
        ("smoothing=2", r"smoothing in \[0, 1\]"),
        ("dev_chunk=0", "dev_chunk must be at least 1"),
        ("hidden=0", "the hidden layer must have at least one unit"),
        ("nonlinearity=sin", "nonlinearity must be one of relu, tanh"),
        ("window=3", "has no option 'window'; its options are batch, train, dev, "),
    ],
)
@pytest.mark.parametrize("name", ["digits/mlp", "mnist/lenet"])
def test_a_wrong_option_of_a_problem_is_an_error_when_it_is_built_and_not_later(
    name: str, option: str, answer: str
) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.build_problem(f"{name}[{option}]")


def test_sizes_beyond_the_data_are_an_error_when_the_data_are_read() -> None:
    for options, answer in [
        ("train=1500,dev=400", "train=1500 and dev=400 are more than the 1797 examples there are"),
        ("train=10,batch=20", "10 training examples are fewer than a batch of 20"),
    ]:
        with pytest.raises(l2t.UserError, match=answer):
            l2t.build_problem(f"digits/mlp[{options}]").train(0, 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "double precision", ""])
def test_another_dtype_than_the_two_is_an_error(dtype: str) -> None:
    with pytest.raises(l2t.UserError, match="dtype must be float32 or float64, not"):
        l2t.build_problem("digits/mlp", dtype=dtype)


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "", "cuda:x"])
def test_a_device_that_nothing_here_runs_on_is_an_error(device: str) -> None:
    with pytest.raises(l2t.UserError, match="give cpu, cuda or cuda:N"):
        l2t.build_problem("digits/mlp", device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with pytest.raises(l2t.UserError, match="this machine has no GPU that torch can use"):
        l2t.build_problem("digits/mlp", device="cuda")


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"lr": 0.0}, "lr must be a positive number or a schedule"),
        ({"lr": float("inf")}, "lr must be a positive number or a schedule"),
        ({"lr": 0.1, "weight_decay": float("nan")}, "weight_decay must not be negative"),
        ({"lr": 0.1, "dampening": float("nan")}, "dampening must be a finite number"),
        ({"lr": 0.1, "momentum": float("nan")}, r"momentum must be in \[0, 1\)"),
    ],
)
def test_numbers_that_torchs_sgd_would_not_take_are_an_error(options: dict[str, float], answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.SGD(**options)  # type: ignore[arg-type]


def test_every_error_of_ours_is_one_family_and_a_mistake_is_a_value_error() -> None:
    assert issubclass(l2t.UserError, L2TError) and issubclass(l2t.UserError, ValueError)
    assert issubclass(l2t.Refused, L2TError) and issubclass(l2t.Diverged, L2TError)
    assert not issubclass(l2t.Diverged, l2t.UserError), "a diverged student is a result, not a mistake"
    assert not l2t.Refused("no") and str(l2t.Refused("no", "but yes")) == "no; but yes"


def test_an_objective_that_is_no_scalar_is_said_before_the_student_trains() -> None:
    drawn: list[int] = []
    problem = random_problem()

    def counted(index: int, seed: int) -> object:
        drawn.append(index)
        return problem.train(index, seed)

    vector = dataclasses.replace(
        problem, train=counted, objective=lambda output, target: torch.softmax(output, -1)[:, 0]
    )
    with pytest.raises(UserError, match="take its"):
        l2t.load_backend("rmd").teacher_gradient(vector, vector.init_teacher(0), horizon=30)
    assert max(drawn) == 0
