"""The teaching problem: pure, replayable, and it changes nothing that it was handed."""

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.modules import same_tensors
from l2t_bench.problem import Step, StudentState, StudentView, TeachingProblem, forward_seed
from l2t_bench.rollout import Rollout, train_student
from l2t_bench.verification.samples import general_theta, random_batch, random_problem

BACKENDS = (
    *("rmd", "truncated[window=3]", "higher", "torchopt", "torchopt[api=meta]", "torchopt-implicit", "functorch"),
    *("implicit", "one-step", "evolution[population=4]", "forward"),
)


def first_step(problem: TeachingProblem, seed: int = 0) -> Step:
    features = torch.zeros(1, dtype=problem.dtype)
    return Step(0, problem.train(0, seed), features, 0.1, forward_seed(seed, 0))


def restless() -> nn.Module:
    """Dropout and BatchNorm: random in train mode, and with buffers that a forward pass writes into."""
    return nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Dropout(0.4), nn.Linear(9, 4))


def value_and_gradient(problem: TeachingProblem, horizon: int = 4) -> tuple[float, dict[str, Tensor]]:
    result = l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=horizon)
    return result.value, result.d_theta


# -- omega_0 -----------------------------------------------------------------------------------------------------------


def test_omega_0_is_drawn_by_the_layers_reset_parameters() -> None:
    problem = random_problem()
    params = problem.init_student(5).params
    assert list(params) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    reach = 6**-0.5  # of nn.Linear: uniform in +-1/sqrt(inputs)
    assert params["0.weight"].abs().max() <= reach and params["0.weight"].abs().max() > 0.8 * reach
    assert params["0.weight"].unique().numel() == params["0.weight"].numel()


def test_one_seed_gives_one_student_bit_for_bit_and_another_seed_another() -> None:
    problem = random_problem(student=restless())
    torch.manual_seed(1)
    first = problem.init_student(7)
    torch.manual_seed(2)
    again = random_problem(student=restless()).init_student(7)
    assert same_tensors((first.params, first.buffers), (again.params, again.buffers))
    assert not same_tensors(first.params, problem.init_student(8).params)
    assert first.slots == {}


def test_teacher_and_student_of_one_seed_do_not_share_their_draws() -> None:
    problem = dataclasses.replace(random_problem(student=nn.Linear(6, 4)), teacher=nn.Linear(6, 4).double())
    assert not torch.equal(problem.init_student(0).params["weight"], problem.init_teacher(0)["weight"])


class RawParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.body = nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        scaled: Tensor = self.body(inputs) * self.scale
        return scaled


class SelfResetting(RawParameter):
    def reset_parameters(self) -> None:
        nn.init.uniform_(self.scale, 1, 2)


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(6, 2)
        self.head = nn.Linear(6, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.mix(inputs, inputs, inputs, need_weights=False)[0])
        return logits


@pytest.mark.parametrize(
    ("student", "uncovered"),
    [(RawParameter(), "scale"), (Attentive(), "mix.in_proj_weight, mix.in_proj_bias")],
    ids=["raw parameter", "MultiheadAttention"],
)
def test_a_parameter_that_no_reset_parameters_covers_is_an_error_unless_init_is_given(
    student: nn.Module, uncovered: str
) -> None:
    problem = random_problem(student=student)
    with pytest.raises(l2t.UserError, match=f"no reset_parameters covers {uncovered}: give TeachingProblem an init="):
        problem.init_student(0)
    own = {name: torch.full_like(param, 0.5) for name, param in student.named_parameters()}
    given = dataclasses.replace(problem, init=lambda seed: own).init_student(0).params
    assert same_tensors(given, own)


def test_a_modules_own_reset_parameters_covers_its_raw_parameters() -> None:
    params = random_problem(student=SelfResetting()).init_student(0).params
    assert ((params["scale"] >= 1) & (params["scale"] <= 2)).all() and params["scale"].unique().numel() == 4


def test_a_teachers_raw_parameter_keeps_the_value_it_was_born_with() -> None:
    teacher = nn.ParameterList([torch.tensor([1.0, 2.0])])
    theta = dataclasses.replace(random_problem(), teacher=teacher).init_teacher(0)
    assert theta["0"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("spoil", "answer"),
    [
        (lambda params: {name: params[name] for name in list(params)[1:]}, r"it differs in 0\.weight"),
        (lambda params: {**params, "more": params["0.bias"]}, "it differs in more"),
        (lambda params: {**params, "0.bias": torch.zeros(3)}, r"init= gives 0\.bias shape \(3,\), the student \(7,\)"),
    ],
    ids=["missing", "too many", "shape"],
)
def test_an_init_that_does_not_fit_the_student_is_an_error(spoil: Callable[[Any], Any], answer: str) -> None:
    problem = random_problem()
    wrong = spoil(problem.init_student(0).params)
    with pytest.raises(l2t.UserError, match=answer):
        dataclasses.replace(problem, init=lambda seed: wrong).init_student(0)


def test_what_init_returns_is_copied_and_not_trained_in_place() -> None:
    problem = random_problem()
    own = problem.init_student(3).params
    before = copy.deepcopy(own)
    given = dataclasses.replace(problem, init=lambda seed: own)
    value_and_gradient(given)
    for param in given.init_student(3).params.values():
        param.zero_()
    assert same_tensors(own, before)


# -- purity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_modules_handed_in_are_never_changed(backend: str) -> None:
    student = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 4)).double().eval()
    teacher = l2t.AttentionTeacher(4, features=1, keys=3, noise=0.3).double().train()
    before = copy.deepcopy((student.state_dict(), teacher.state_dict()))
    problem = dataclasses.replace(random_problem(), student=student, teacher=teacher)
    loaded = l2t.load_backend(backend)
    if loaded.supports(problem, 5):
        loaded.teacher_gradient(problem, general_theta(problem), horizon=5)
    else:
        with pytest.raises(l2t.Refused):
            loaded.teacher_gradient(problem, general_theta(problem), horizon=5)
    assert same_tensors((student.state_dict(), teacher.state_dict()), before)
    assert not student.training and not student[1].training and teacher.training
    assert all(param.grad is None and param.requires_grad for param in (*student.parameters(), *teacher.parameters()))


def test_a_module_changed_after_it_was_handed_in_does_not_change_the_problem() -> None:
    student = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 4))
    problem = random_problem(student=student)
    before = value_and_gradient(problem)
    with torch.no_grad():
        student[0].weight.fill_(torch.nan)
    student.eval()
    student.add_module("later", nn.Linear(4, 2))
    after = value_and_gradient(problem)
    assert after[0] == before[0] and same_tensors(after[1], before[1])


def random_states() -> tuple[bytes, object, object]:
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), str(np.random.get_state())


@pytest.mark.parametrize("backend", BACKENDS)
def test_global_random_states_are_as_they_were(backend: str) -> None:
    students = restless() if l2t.load_backend(backend).capabilities.dropout else None
    problem = random_problem(student=students)
    theta = general_theta(problem)
    before = random_states()
    problem.init_student(3)
    problem.init_teacher(3)
    problem.train_loss(*_params_and_buffers(problem), problem.phi(theta, torch.zeros(1).double()), first_step(problem))
    l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=4)
    assert random_states() == before


def _params_and_buffers(problem: TeachingProblem) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = problem.init_student(0)
    return state.params, state.buffers


def test_dropout_replays_by_the_steps_seed_and_by_nothing_else() -> None:
    problem = random_problem(student=restless())
    params, buffers = _params_and_buffers(problem)
    step, phi = first_step(problem), torch.eye(4, dtype=torch.float64)
    torch.manual_seed(1)
    first, _ = problem.train_loss(params, buffers, phi, step)
    torch.manual_seed(2)
    again, _ = problem.train_loss(params, buffers, phi, step)
    other, _ = problem.train_loss(params, buffers, phi, dataclasses.replace(step, seed=step.seed + 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_batch_norm_statistics_are_returned_and_not_written_in_place() -> None:
    problem = random_problem(student=restless())
    params, buffers = _params_and_buffers(problem)
    before = copy.deepcopy(buffers)
    _, after = problem.train_loss(params, buffers, torch.eye(4, dtype=torch.float64), first_step(problem))
    assert same_tensors(buffers, before)
    assert set(after) == set(before) and int(after["1.num_batches_tracked"]) == 1
    hidden = F.linear(problem.train(0, 0)[0], params["0.weight"], params["0.bias"])
    torch.testing.assert_close(after["1.running_mean"], 0.1 * hidden.mean(0))
    torch.testing.assert_close(after["1.running_var"], 0.9 + 0.1 * hidden.var(0))
    assert not any(buffer.requires_grad for buffer in after.values())


def test_the_dev_pass_is_in_eval_mode_and_leaves_the_statistics_alone() -> None:
    problem = random_problem(student=restless())
    params, buffers = _params_and_buffers(problem)
    before = copy.deepcopy(buffers)
    values = {float(problem.dev_objective(params, buffers, random_batch(1))) for _ in range(3)}
    assert len(values) == 1, "dropout must be off"
    assert same_tensors(buffers, before)


# -- dev ---------------------------------------------------------------------------------------------------------------


def test_dev_as_one_pair_a_list_a_tuple_of_batches_or_a_function_is_the_same_objective() -> None:
    parts = [random_batch(1, 20), random_batch(2, 3), random_batch(3, 8)]
    whole = tuple(torch.cat(part) for part in zip(*parts, strict=True))
    expected_value, expected = value_and_gradient(dataclasses.replace(random_problem(), dev=whole))
    for dev in (parts, tuple(parts), lambda: parts, lambda: whole):
        value, d_theta = value_and_gradient(dataclasses.replace(random_problem(), dev=dev))
        assert value == pytest.approx(expected_value, rel=1e-13)
        for name, tensor in expected.items():
            torch.testing.assert_close(d_theta[name], tensor, rtol=1e-11, atol=1e-14)


def test_unequal_dev_batches_are_weighted_by_their_examples() -> None:
    problem = dataclasses.replace(random_problem(), dev=[random_batch(1, 20), random_batch(2, 3)])
    result = l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=3)
    values = [
        float(problem.dev_objective(result.final.params, result.final.buffers, batch)) for batch in problem.dev_batches
    ]
    assert values[0] != pytest.approx(values[1], rel=1e-3), "the sample must tell the weights apart"
    assert result.value == pytest.approx((20 * values[0] + 3 * values[1]) / 23, rel=1e-14)


def test_a_dev_function_is_called_once_and_only_when_it_is_needed() -> None:
    calls: list[int] = []

    def dev() -> tuple[Tensor, Tensor]:
        calls.append(1)
        return random_batch(1)

    problem = dataclasses.replace(random_problem(), dev=dev)
    problem.init_student(0)
    assert calls == []
    value_and_gradient(problem), value_and_gradient(problem)
    assert calls == [1]


def test_prepare_dev_makes_the_batches_of_the_last_omega_from_a_view_of_it() -> None:
    seen: list[StudentView] = []

    def prepare(view: StudentView, seed: int) -> list[tuple[Tensor, Tensor]]:
        seen.append(view)
        inputs, _ = random_batch(100 + seed, 15)
        return [(inputs, view.predict(inputs).argmax(-1))]  # the student's own answers: right by construction

    problem = dataclasses.replace(random_problem(), prepare_dev=prepare)
    result = l2t.load_backend("rmd").teacher_gradient(problem, general_theta(problem), horizon=3, seed=9)
    assert [(view.index, view.horizon) for view in seen] == 2 * [(3, 3)]  # the second is held to the first, once
    inputs, _ = random_batch(109, 15)
    logits = problem.predict(result.final, inputs)
    assert result.value == pytest.approx(float(logits.softmax(-1).max(-1).values.mean()), rel=1e-14)


@pytest.mark.parametrize(
    ("dev", "answer"),
    [
        ([], "dev holds no batch"),
        (list(random_batch(1)), "dev must be one"),
        ([random_batch(1)[0]], "dev must be one"),
        ([(1, 2, 3)], "dev must be one"),
        ((torch.zeros(0, 6), torch.zeros(0)), "holds no example"),
        ((1, 2), "first dimension counts the examples"),
        ((torch.tensor(1.0), torch.tensor(2)), "first dimension counts the examples"),
    ],
    ids=["none", "a pair as a list", "a tensor", "a triple", "empty", "no tensors", "scalars"],
)
def test_a_dev_set_of_another_form_is_answered_with_the_form(dev: Any, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        _ = dataclasses.replace(random_problem(), dev=dev).dev_batches


def test_a_problem_without_test_set_says_so() -> None:
    with pytest.raises(l2t.UserError, match="problem random has no test set"):
        _ = random_problem().test_batches


# -- outputs, coefficients, views --------------------------------------------------------------------------------------


class TwoOutputs(nn.Module):
    """Logits and the hidden layer that they are made of, as a tuple or as a dict."""

    def __init__(self, form: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 7), nn.Linear(7, 4)
        self.form = form

    def forward(self, inputs: Tensor) -> Any:
        hidden = torch.tanh(self.body(inputs))
        return self.form(self.head(hidden), hidden)


@pytest.mark.parametrize("backend", ["rmd", "higher", "torchopt", "torchopt[api=meta]", "functorch"])
def test_a_student_may_return_a_tuple_or_a_dict(backend: str) -> None:
    def penalised(logits: Tensor, hidden: Tensor, target: Tensor, phi: Tensor) -> Tensor:
        return bilinear_sigmoid(logits, target, phi) + 0.1 * hidden.square().mean()

    forms = [
        (lambda a, b: (a, b), lambda out, t, phi: penalised(out[0], out[1], t, phi), lambda out: out[0]),
        (
            lambda a, b: {"logits": a, "hidden": b},
            lambda out, t, phi: penalised(out["logits"], out["hidden"], t, phi),
            lambda out: out["logits"],
        ),
        (
            lambda a, b: torch.cat([a, b], dim=-1),
            lambda out, t, phi: penalised(out[:, :4], out[:, 4:], t, phi),
            lambda out: out[:, :4],
        ),
    ]
    expected_accuracy = l2t.ExpectedAccuracy()
    results = []
    for form, loss, logits in forms:
        problem = dataclasses.replace(
            random_problem(),
            student=TwoOutputs(form).double(),
            loss=loss,
            objective=lambda out, target, logits=logits: expected_accuracy(logits(out), target),
        )
        found = l2t.load_backend(backend).teacher_gradient(problem, general_theta(problem), horizon=5)
        results.append(found.d_theta)
    for d_theta in results[1:]:
        for name, tensor in results[0].items():
            assert tensor.norm() > 1e-6
            torch.testing.assert_close(d_theta[name], tensor, rtol=1e-12, atol=1e-15)


class TwoCoefficients(nn.Module):
    """phi as a dict of two tensors: a weight for each of two terms."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(1, 2)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        first, second = F.softplus(self.body(features)).unbind()
        return {"likelihood": first, "size": second}


@pytest.mark.parametrize("backend", ["rmd", "higher", "torchopt", "functorch"])
def test_a_teacher_may_return_a_dict_of_coefficients(backend: str) -> None:
    def loss(logits: Tensor, target: Tensor, phi: dict[str, Tensor]) -> Tensor:
        return phi["likelihood"] * F.cross_entropy(logits, target) + phi["size"] * logits.square().mean()

    problem = dataclasses.replace(random_problem(), teacher=TwoCoefficients().double(), loss=loss)
    theta = general_theta(problem)
    found = l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=5)
    size = 1e-5
    for name, tensor in theta.items():
        ends = []
        for sign in (1, -1):
            moved = {**theta, name: tensor + sign * size * torch.ones_like(tensor)}
            ends.append(l2t.load_backend("rmd").teacher_gradient(problem, moved, steps=found.steps).value)
        assert float(found.d_theta[name].sum()) == pytest.approx((ends[0] - ends[1]) / (2 * size), rel=1e-6)


class Decoding(nn.Linear):
    def decode(self, inputs: Tensor) -> Tensor:
        assert not self.training and not torch.is_grad_enabled()
        return self(inputs).argmax(-1)


def test_features_may_decode_with_the_student_as_it_is_at_that_step() -> None:
    inputs, _ = random_batch(50, 12)
    decoded: list[Tensor] = []

    def features(view: StudentView) -> Tensor:
        decoded.append(view.decode(inputs))
        assert torch.equal(decoded[-1], view.predict(inputs).argmax(-1))
        return decoded[-1].double().mean().reshape(1)

    problem = dataclasses.replace(random_problem(), student=Decoding(6, 4).double(), features=features)
    state = problem.init_student(0)
    l2t.record(problem, general_theta(problem), horizon=3)
    assert len(decoded) == 3
    assert torch.equal(decoded[0], F.linear(inputs, state.params["weight"], state.params["bias"]).argmax(-1))


def test_decoding_with_a_student_that_cannot_is_an_error() -> None:
    problem = dataclasses.replace(random_problem(), features=lambda view: view.decode(random_batch(1)[0]))
    with pytest.raises(l2t.UserError, match=r"the student \(Sequential\) has no decode method"):
        l2t.record(problem, general_theta(problem), horizon=1)


def view_at(problem: TeachingProblem, index: int, horizon: int) -> StudentView:
    return problem.view(problem.init_student(0), index, horizon, 0, None)


def test_no_features_means_the_share_of_the_run_that_is_over() -> None:
    features = random_problem().step_features(view_at(random_problem(), 3, 12))
    assert features.tolist() == [0.25] and features.dtype == torch.float64


@pytest.mark.parametrize(
    ("features", "answer"),
    [
        (lambda view: torch.zeros(2, 2), r"must return a 1-D tensor, not \(2, 2\)"),
        (lambda view: torch.tensor(1.0), r"must return a 1-D tensor, not \(\)"),
        (lambda view: [0.5], "must return a 1-D tensor, not list"),
        (lambda view: None, "must return a 1-D tensor, not NoneType"),
    ],
)
def test_features_of_another_form_are_an_error(features: Callable[[StudentView], Any], answer: str) -> None:
    problem = dataclasses.replace(random_problem(), features=features)
    with pytest.raises(l2t.UserError, match=answer):
        problem.step_features(view_at(problem, 0, 1))


def test_features_are_constants_in_the_students_dtype() -> None:
    weight = torch.ones(3, requires_grad=True)
    problem = dataclasses.replace(random_problem(), features=lambda view: 2 * weight)
    features = problem.step_features(view_at(problem, 0, 1))
    assert features.dtype == torch.float64 and not features.requires_grad


def test_a_view_predicts_in_eval_mode_without_gradients() -> None:
    problem = random_problem(student=restless())
    view = view_at(problem, 0, 1)
    inputs = random_batch(1)[0]
    assert torch.equal(view.predict(inputs), view.predict(inputs)) and not view.predict(inputs).requires_grad


# -- another precision -------------------------------------------------------------------------------------------------


def test_a_problem_in_another_precision_is_the_same_problem() -> None:
    exact = random_problem()
    rough = exact.to(dtype=torch.float32)
    assert (exact.dtype, rough.dtype) == (torch.float64, torch.float32)
    inputs, targets = rough.train(3, 1)
    assert inputs.dtype == torch.float32 and targets.dtype == torch.int64
    torch.testing.assert_close(inputs.double(), exact.train(3, 1)[0], rtol=1e-6, atol=1e-6)
    # another precision draws other numbers: start both from one student
    start = exact.init_student(0).params
    exact = dataclasses.replace(exact, init=lambda seed: start)
    rough = exact.to(dtype=torch.float32)
    theta = general_theta(exact)
    rough_theta = {name: tensor.float() for name, tensor in theta.items()}
    for backend in ("rmd", "functorch"):
        loaded = l2t.load_backend(backend)
        ours = loaded.teacher_gradient(exact, theta, horizon=5)
        theirs = loaded.teacher_gradient(rough, rough_theta, horizon=5)
        assert theirs.value == pytest.approx(ours.value, rel=1e-5)
        for name, tensor in ours.d_theta.items():
            assert theirs.d_theta[name].dtype == torch.float32
            torch.testing.assert_close(theirs.d_theta[name].double(), tensor, rtol=1e-3, atol=1e-6)


def test_dev_test_and_prepared_batches_are_cast_too() -> None:
    problem = dataclasses.replace(
        random_problem(), test=lambda: [random_batch(5)], prepare_dev=lambda view, seed: random_batch(6)
    ).to(dtype=torch.float32)
    prepared = problem.final_dev_batches(problem.init_student(0), 1, 0)
    for batches in (problem.dev_batches, problem.test_batches, prepared):
        assert {inputs.dtype for inputs, _ in batches} == {torch.float32}
        assert {targets.dtype for _, targets in batches} == {torch.int64}


# -- parts that do not fit ---------------------------------------------------------------------------------------------


def frozen_student() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Linear(7, 4)).requires_grad_(False)


@pytest.mark.parametrize(
    ("parts", "answer"),
    [
        ({"student": lambda inputs: inputs}, r"student must be a torch\.nn\.Module, not function"),
        ({"teacher": 3}, r"teacher must be a torch\.nn\.Module, not int"),
        ({"student": nn.Tanh()}, "the student has no parameters"),
        ({"student": frozen_student()}, "all of the student's parameters are frozen: there is nothing to train"),
        ({"optimizer": torch.optim.SGD}, r"optimizer must be like l2t\.SGD, not type"),
        ({"optimizer": "sgd"}, r"optimizer must be like l2t\.SGD, not str"),
    ],
    ids=["student", "teacher", "nothing to train", "frozen", "torch's optimiser", "a name"],
)
def test_a_part_that_is_no_such_part_is_named_when_the_problem_is_made(parts: dict[str, Any], answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        dataclasses.replace(random_problem(), **parts)


def test_a_state_without_slots_carries_no_momentum() -> None:
    problem = random_problem()
    final = train_student(Rollout(problem, general_theta(problem), horizon=2))
    assert set(final.slots) == {"momentum"} and set(final.slots["momentum"]) == set(final.params)
    kept: StudentState = final.without_slots()
    assert kept.slots == {} and same_tensors(kept.params, final.params)
