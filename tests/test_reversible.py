"""The reversible store: exact integer arithmetic, a run undone bit for bit, and the derivative of that very run."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adjoint import Visit
from l2t_bench.errors import Diverged, Refused, UserError
from l2t_bench.gradient import Exactness, TeacherGradient
from l2t_bench.groups import Group, rates
from l2t_bench.measure import Meter
from l2t_bench.modules import cast, same_tensors
from l2t_bench.optimizers import SGD, Optimizer, linear_decay, multistep
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.stores.contract import Room, Wanted, sizes_of
from l2t_bench.stores.exact import LARGEST_DENOMINATOR, ExactRatio, FixedPoint, spilled_bits
from l2t_bench.stores.fixed_sgd import PARAMS, VELOCITY, ratio_of
from l2t_bench.stores.reversible import Reversible
from l2t_bench.tensors import TensorDict
from l2t_bench.verification.samples import general_theta, random_batch, random_problem
from l2t_bench.verification.vectors import cosine, norm_ratio, relative_error

BACKEND = "rmd[store=reversible]"
HEAVY_BALL = SGD(lr=0.3, momentum=0.9)
MODES = {
    "momentum": HEAVY_BALL,
    "dampening": SGD(lr=0.3, momentum=0.9, dampening=0.4),
    "weight decay": SGD(lr=0.3, momentum=0.9, weight_decay=0.05),
    "lr schedule": SGD(lr=linear_decay(0.3), momentum=0.9),
    "milestones": SGD(lr=multistep(0.3, (5, 9)), momentum=0.5),
    "clipping": SGD(lr=0.3, momentum=0.95, clip=0.2),
    "groups": SGD(lr=0.3, momentum=0.9, weight_decay=0.01, groups=(Group("*.bias", lr=2.0, weight_decay=0.0),)),
    "a factor that float32 does not hold": SGD(lr=0.3, momentum=0.9, groups=(Group("*.weight", lr=0.3),)),
    "another ratio": SGD(lr=0.1, momentum=0.937),
}

# -- integers ----------------------------------------------------------------------------------------------------------

RATIOS = ["9/10", "1/2", "99/100", "3/7", "937/1000", "1/4096", "4095/4096"]


def random_integers(count: int, seed: int, magnitude: int = 1 << 59) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-magnitude, magnitude, (count,), generator=generator)


@pytest.mark.parametrize("ratio", RATIOS)
def test_ten_thousand_multiplications_with_sums_between_are_undone_bit_for_bit(ratio: str) -> None:
    exact = ExactRatio(Fraction(ratio), entries=16)
    first = values = random_integers(16, seed=0)
    for index in range(10_000):
        values = exact.multiply(values) + random_integers(16, index, 1 << 40)
    assert not torch.equal(values, first)
    for index in reversed(range(10_000)):
        values = exact.undo(values - random_integers(16, index, 1 << 40))
    assert torch.equal(values, first)
    assert exact.is_empty


@given(
    st.fractions(min_value=Fraction(1, 60), max_value=Fraction(59, 60), max_denominator=LARGEST_DENOMINATOR),
    st.lists(st.integers(-(1 << 60), 1 << 60), min_size=1, max_size=6),
    st.integers(1, 80),
)
def test_a_product_is_within_the_denominator_of_the_true_one_and_is_undone(
    ratio: Fraction, given: list[int], times: int
) -> None:
    exact = ExactRatio(ratio, len(given))
    history = [torch.tensor(given)]
    for _ in range(times):
        history.append(exact.multiply(history[-1]))
        for before, after in zip(history[-2].tolist(), history[-1].tolist(), strict=True):
            assert abs(after - ratio * before) < ratio.denominator
    values = history.pop()
    while history:
        values = exact.undo(values)
        assert torch.equal(values, history.pop())
    assert exact.is_empty


def test_undoing_needs_the_bits_that_were_kept() -> None:
    exact = ExactRatio(Fraction(9, 10), entries=64)
    values = random_integers(64, seed=0)
    product = exact.multiply(exact.multiply(values))
    exact.forget()
    assert not torch.equal(exact.undo(exact.undo(product)), values)


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_bits_kept_are_what_a_multiplication_loses(ratio: str) -> None:
    exact, values = ExactRatio(Fraction(ratio), entries=100), random_integers(100, seed=0)
    constant = exact.bytes
    for index in range(10_000):
        values = exact.multiply(values) + random_integers(100, index, 1 << 40)
    bits = 8 * (exact.bytes - constant) / 100
    assert bits == spilled_bits(Fraction(ratio), 10_000)
    assert bits <= 10_000 * -math.log2(Fraction(ratio)), "the rest is in the buffer of 64 bits, the constant"
    if ratio == "9/10":
        assert bits / 10_000 <= 0.25


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_bits_of_a_long_run_are_known_to_a_spill_without_following_it(ratio: str) -> None:
    exact, values = ExactRatio(Fraction(ratio), entries=1), random_integers(1, seed=0)
    constant = exact.bytes
    for index in range(50_000):
        values = exact.multiply(values) + index
    assert spilled_bits(Fraction(ratio), 50_000) == pytest.approx(8 * (exact.bytes - constant), abs=32)
    per_step = -math.log2(Fraction(ratio))
    assert spilled_bits(Fraction(ratio), 10**9) == pytest.approx(10**9 * per_step, rel=1e-3)


@pytest.mark.parametrize("ratio", ["1", "0", "-1/2", "10/9", "1/4097"])
def test_a_ratio_that_cannot_be_undone_in_64_bits_is_an_error(ratio: str) -> None:
    with pytest.raises(ValueError, match="not a ratio"):
        ExactRatio(Fraction(ratio), entries=1)


def test_fixed_point_is_the_nearest_multiple() -> None:
    kind = FixedPoint(4)
    assert kind.rounded(torch.tensor([0.1, -0.1, 3.0, 0.03])).tolist() == [2.0, -2.0, 48.0, 0.0]
    assert kind.values(torch.tensor([2, -48])).tolist() == [0.125, -3.0]
    assert kind.reach == 2.0**56


# -- the run, undone ---------------------------------------------------------------------------------------------------


def small_problem(optimizer: Optimizer = HEAVY_BALL, dtype: torch.dtype = torch.float64) -> TeachingProblem:
    """Linear softmax regression on eight batches that come round, under one phi: the least that a step can take."""
    batches = [cast(random_batch(seed), torch.device("cpu"), dtype) for seed in range(8)]
    sample = random_problem(nn.Linear(6, 4), optimizer).to(dtype=dtype)
    features = torch.ones(1, dtype=dtype)
    return dataclasses.replace(
        sample,
        train=lambda index, seed: batches[index % 8],
        features=lambda view: features if view.previous is None else view.previous,
    )


def trained(problem: TeachingProblem, horizon: int, *, slots: bool = False) -> tuple[Reversible, list[StudentState]]:
    """The store after a run, and the first and the last of its states."""
    rollout = Rollout(problem, general_theta(problem), horizon=horizon)
    store = Reversible(rollout, Meter(problem.device), Wanted(horizon, slots=slots), Room())
    first = state = store.begin(rollout.initial())
    for index in range(horizon):
        state = store.advance(rollout.step(index, state), state)
    return store, [first, state]


def last_of(visits: Iterator[Visit]) -> Visit:
    """The visit of step 0."""
    for visit in visits:
        last = visit
    return last


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_omega_0_is_recovered_bit_for_bit_after_10_000_steps(dtype: torch.dtype) -> None:
    store, (first, final) = trained(small_problem(SGD(lr=linear_decay(0.3), momentum=0.9), dtype), 10_000)
    kept = store.bytes
    assert not any(torch.equal(final.params[name], param) for name, param in first.params.items())
    found = last_of(store.backwards())
    assert found.step.index == 0
    assert same_tensors(found.state.params, first.params)
    entries, constant = 28, 24  # bytes of a parameter: omega, b and the buffer
    bits = 8 * (kept - constant * entries - 8 * 10_000) / entries / 10_000
    assert 0.1 < bits <= 0.25


@pytest.mark.parametrize("mode", MODES)
def test_every_state_on_the_way_back_is_the_one_on_the_way_forward(mode: str) -> None:
    problem = random_problem(optimizer=MODES[mode])
    rollout = Rollout(problem, general_theta(problem), horizon=60)
    store = Reversible(rollout, Meter(problem.device), Wanted(60, slots=True), Room())
    states = [store.begin(rollout.initial())]
    for index in range(60):
        states.append(store.advance(rollout.step(index, states[-1]), states[-1]))
    states.pop()
    for visit in store.backwards():
        state = states.pop()
        assert same_tensors(visit.state.params, state.params)
        assert same_tensors(visit.state.slots, state.slots)
    assert not states


def test_the_run_begins_at_the_nearest_multiples_of_omega_0() -> None:
    problem = random_problem()
    _, (first, _) = trained(problem, 1)
    for name, param in problem.init_student(0).params.items():
        torch.testing.assert_close(first.params[name], param, rtol=0, atol=2.0**-49)


@pytest.mark.parametrize("momentum", [0.9, 0.5, 0.99])
def test_the_law_is_what_is_held(momentum: float) -> None:
    problem = small_problem(SGD(lr=0.1, momentum=momentum))
    store, _ = trained(problem, 700)
    sizes = sizes_of(problem.init_student(0), ("momentum",), momentum)
    assert store.bytes == Reversible.law(Wanted(700), sizes, Room()).bytes


# -- its derivative ----------------------------------------------------------------------------------------------------


class Rounded(torch.autograd.Function):
    """A number whose value is another one; the derivative passes by."""

    @staticmethod
    def forward(*arguments: Any) -> Tensor:
        _, _, value = arguments
        return value.clone()

    @staticmethod
    def backward(*arguments: Any) -> tuple[Tensor, None]:
        _, bar = arguments
        return bar, None


class Entries:
    """One tensor's fixed-point run by whole numbers of any size, one entry at a time: no buffer that could overflow."""

    def __init__(self, param: Tensor, ratio: Fraction) -> None:
        self.shape, self.ratio = param.shape, ratio
        self.params = [round(entry * 2**PARAMS.bits) for entry in param.flatten().tolist()]
        self.velocity, self.digits = [0] * len(self.params), [0] * len(self.params)

    def take_in(self, gradient: Tensor, *, first: bool) -> Tensor:
        n, d = self.ratio.numerator, self.ratio.denominator
        for at, entry in enumerate(gradient.flatten().tolist()):
            if not first:
                quotient, digit = divmod(self.velocity[at], d)
                self.digits[at], low = divmod(self.digits[at] * d + digit, n)
                self.velocity[at] = quotient * n + low
            self.velocity[at] += round(entry * 2**VELOCITY.bits)
        return self.tensor(self.velocity, VELOCITY)

    def move(self, lr: float) -> Tensor:
        for at, entry in enumerate(self.velocity):
            self.params[at] -= round(float(entry) * 2.0**-VELOCITY.bits * (lr * 2.0**PARAMS.bits))
        return self.tensor(self.params, PARAMS)

    def tensor(self, integers: list[int], kind: FixedPoint) -> Tensor:
        values = [float(entry) * 2.0**-kind.bits for entry in integers]
        return torch.tensor(values, dtype=torch.float64).reshape(self.shape)


def unrolled(problem: TeachingProblem, theta: TensorDict, run: TeacherGradient) -> tuple[TensorDict, TensorDict]:
    """omega_T and d_theta of the fixed-point run, written out and differentiated by autograd through every step."""
    sgd: Any = problem.optimizer
    theta = {name: tensor.clone().requires_grad_() for name, tensor in theta.items()}
    state = problem.init_student(0)
    entries = {name: Entries(param, ratio_of(sgd.momentum)) for name, param in state.params.items()}
    params = {name: own.tensor(own.params, PARAMS).requires_grad_() for name, own in entries.items()}
    buffer: TensorDict = {}
    with torch.enable_grad():
        for step in run.steps:
            loss, _ = problem.train_loss(params, state.buffers, problem.phi(theta, step.features), step)
            gradients = dict(
                zip(params, torch.autograd.grad(loss, list(params.values()), create_graph=True), strict=True)
            )
            if sgd.clip is not None:
                length = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
                gradients = {n: g * (sgd.clip / (length + 1e-6)).clamp(max=1.0) for n, g in gradients.items()}
            for name, own in entries.items():
                rate = rates(name, sgd.groups, sgd.weight_decay)
                lr, decay = step.lr * rate.lr, rate.weight_decay
                gradient = gradients[name] + decay * params[name] if decay else gradients[name]
                gain = 1 - sgd.dampening if step.index else 1.0
                into = sgd.momentum * buffer[name] + gain * gradient if step.index else gradient
                scaled = gradient.detach() * (gain * 2.0**VELOCITY.bits) * 2.0**-VELOCITY.bits
                buffer[name] = Rounded.apply(into, own.take_in(scaled, first=not step.index))
                params[name] = Rounded.apply(params[name] - lr * buffer[name], own.move(lr))
        total = sum(len(targets) for _, targets in problem.dev_batches)
        value = sum(
            problem.dev_objective(params, state.buffers, batch) * (len(batch[1]) / total)
            for batch in problem.dev_batches
        )
        found = torch.autograd.grad(value, list(theta.values()))
    return {name: param.detach() for name, param in params.items()}, dict(zip(theta, found, strict=True))


@pytest.mark.parametrize("mode", MODES)
def test_d_theta_is_that_of_unrolling_the_same_fixed_point_run(mode: str) -> None:
    problem = random_problem(optimizer=MODES[mode])
    theta = general_theta(problem)
    ours = l2t.load_backend(BACKEND).teacher_gradient(problem, theta, horizon=20)
    final, d_theta = unrolled(problem, theta, ours)
    assert same_tensors(ours.final.params, final), "the same run, bit for bit"
    assert relative_error(ours.d_theta, d_theta) < 1e-12


def test_d_theta_is_that_of_unrolling_over_many_spilled_words() -> None:
    problem = small_problem(SGD(lr=0.1, momentum=0.5))
    theta = general_theta(problem)
    ours = l2t.load_backend(BACKEND).teacher_gradient(problem, theta, horizon=150)
    final, d_theta = unrolled(problem, theta, ours)
    assert same_tensors(ours.final.params, final)
    assert relative_error(ours.d_theta, d_theta) < 1e-12


@pytest.mark.parametrize("mode", MODES)
def test_the_derivative_is_that_of_a_neighbour_of_plain_training(mode: str) -> None:
    problem = random_problem(optimizer=MODES[mode])
    theta = general_theta(problem)
    plain, ours = (
        l2t.load_backend(name).teacher_gradient(problem, theta, horizon=50)
        for name in ("rmd[hyper=true]", "rmd[store=reversible,hyper=true]")
    )
    assert ours.d_omega0 is not None and plain.d_omega0 is not None
    assert (plain.exactness, ours.exactness) == (Exactness.EXACT, Exactness.QUANTISED)
    assert relative_error(ours.d_theta, plain.d_theta) < 1e-8
    assert relative_error(ours.d_omega0, plain.d_omega0) < 1e-8
    assert set(ours.hyper) == {"lr", "momentum", "weight_decay"}
    assert relative_error(ours.hyper, plain.hyper) < 1e-8
    assert relative_error(ours.final.params, plain.final.params) < 1e-9


@pytest.mark.parametrize("hvp", ["ror", "for"])
def test_a_float32_student_is_near_plain_training_in_both_modes_of_differentiation(hvp: str) -> None:
    problem = random_problem().to(dtype=torch.float32)
    theta = general_theta(problem)
    plain = l2t.load_backend(f"rmd[hvp={hvp}]").teacher_gradient(problem, theta, horizon=50).d_theta
    ours = l2t.load_backend(f"rmd[store=reversible,hvp={hvp}]").teacher_gradient(problem, theta, horizon=50).d_theta
    assert all(tensor.dtype == torch.float32 for tensor in ours.values())
    assert cosine(ours, plain) > 0.9999
    assert norm_ratio(ours, plain) == pytest.approx(1, abs=1e-3)


class Noisy(nn.Module):
    """BatchNorm and dropout, and a buffer that each step changes and the loss reads."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, 4))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("mask", torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.scale.mul_(0.99)
        return self.layers(inputs) * self.scale * self.mask


def test_batch_norm_dropout_and_buffers_that_change_are_replayed() -> None:
    problem = random_problem(Noisy())
    theta = general_theta(problem)
    plain, ours = (l2t.load_backend(name).teacher_gradient(problem, theta, horizon=30) for name in ("rmd", BACKEND))
    assert relative_error(ours.d_theta, plain.d_theta) < 1e-8
    assert relative_error(ours.final.buffers, plain.final.buffers) < 1e-8


def test_the_way_back_keeps_only_buffers_that_change_and_are_read() -> None:
    store, _ = trained(random_problem(Noisy()), 4)
    visits = list(store.backwards())
    scales = [round(visit.state.buffers["scale"].item(), 4) for visit in visits]
    assert scales == [0.9703, 0.9801, 0.99, 1.0]
    assert len({id(visit.state.buffers["mask"]) for visit in visits}) == 1
    assert len({id(visit.state.buffers["layers.1.running_mean"]) for visit in visits}) == 1


def test_a_recorded_run_is_replayed_and_gives_the_same_bit_for_bit() -> None:
    problem = random_problem()
    backend, theta = l2t.load_backend(BACKEND), general_theta(problem)
    first = backend.teacher_gradient(problem, theta, horizon=30)
    again = backend.teacher_gradient(problem, theta, steps=first.steps)
    assert same_tensors(first.d_theta, again.d_theta)


@pytest.mark.parametrize("window", [7, 30, 50])
def test_truncated_goes_back_along_it_and_says_what_the_whole_run_is(window: int) -> None:
    problem = random_problem()
    theta = general_theta(problem)
    plain = l2t.load_backend(f"truncated[window={window}]").teacher_gradient(problem, theta, horizon=30)
    ours = l2t.load_backend(f"truncated[window={window},store=reversible]").teacher_gradient(problem, theta, horizon=30)
    assert relative_error(ours.d_theta, plain.d_theta) < 1e-8
    assert ours.exactness is (Exactness.TRUNCATED if window == 7 else Exactness.QUANTISED)


def test_a_truncated_run_keeps_no_bits_of_the_steps_before_its_window() -> None:
    problem = small_problem(SGD(lr=0.1, momentum=0.5))
    rollout = Rollout(problem, general_theta(problem), horizon=300)
    wanted = Wanted(300, first=290)
    store = Reversible(rollout, Meter(problem.device), wanted, Room())
    state = store.begin(rollout.initial())
    for index in range(300):
        state = store.advance(rollout.step(index, state), state)
    sizes = sizes_of(problem.init_student(0), ("momentum",), 0.5)
    assert store.bytes == Reversible.law(wanted, sizes, Room()).bytes == 28 * 24 + 300 * 8


# -- what it cannot do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "reason", "instead"),
    [
        (l2t.Adam(lr=0.01), "a step of Adam cannot be undone", "store=sqrt"),
        (SGD(lr=0.1), "SGD without momentum cannot be undone", "store=sqrt"),
        (SGD(lr=0.1, momentum=0.9, nesterov=True), "Nesterov", "train without nesterov"),
        (
            SGD(lr=0.1, momentum=0.123456789),
            "momentum 0.123456789 is not a ratio",
            "0.12345679012345678 = 10/81 is one",
        ),
        (SGD(lr=0.1, momentum=1e-9), "momentum 1e-09 is not a ratio", "store=sqrt"),
        (SGD(lr=0.1, momentum=1 - 1e-9), "is not a ratio", "store=sqrt"),
    ],
)
def test_what_cannot_be_undone_is_refused_with_what_to_use(optimizer: Optimizer, reason: str, instead: str) -> None:
    problem = random_problem(optimizer=optimizer)
    for backend in (BACKEND, "truncated[store=reversible]"):
        verdict = l2t.load_backend(backend).supports(problem, 10)
        assert isinstance(verdict, Refused)
        assert reason in verdict.reason
        assert instead in verdict.instead


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.999, 0.937, 0.5, 1 / 3, 1 - 1 / 300])
def test_a_momentum_that_is_a_ratio_of_small_integers_is_taken(momentum: float) -> None:
    assert l2t.load_backend(BACKEND).supports(random_problem(optimizer=SGD(lr=0.1, momentum=momentum)), 10)


def test_a_student_that_leaves_the_range_stops_with_the_step_before_anything_wraps_around() -> None:
    problem = small_problem(SGD(lr=lambda index, horizon: 1e9 if index == 6 else 0.01, momentum=0.9))
    with pytest.raises(
        Diverged, match=r"the change of a parameter is .* at step 6, outside the range of fixed point"
    ) as caught:
        l2t.load_backend(BACKEND).teacher_gradient(problem, general_theta(problem), horizon=20)
    assert caught.value.step == 6
    assert len(caught.value.history) == 1


def test_a_student_that_begins_out_of_range_stops_at_once() -> None:
    problem = small_problem()
    far = {name: param + 5000 for name, param in problem.init_student(0).params.items()}
    with pytest.raises(Diverged, match=r"a parameter is 5e\+03 at step 0, outside .* \(up to 4096\)"):
        l2t.load_backend(BACKEND).teacher_gradient(
            dataclasses.replace(problem, init=lambda seed: far), general_theta(problem), horizon=5
        )


def test_a_gradient_that_is_no_number_stops_with_the_step() -> None:
    problem = small_problem()
    batches = problem.train

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = batches(index, seed)
        return (inputs * math.nan if index == 3 else inputs), targets

    with pytest.raises(Diverged, match="the gradient is nan at step 3") as caught:
        l2t.load_backend(BACKEND).teacher_gradient(
            dataclasses.replace(problem, train=train), general_theta(problem), horizon=5
        )
    assert caught.value.step == 3


class Counting(nn.Module):
    """A student that keeps something between calls: its output drifts with the number of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        self.calls = [0]

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls[0] += 1
        return self.layer(inputs) * (1 + 1e-12 * self.calls[0])


def test_a_gradient_that_is_another_one_in_its_last_bits_is_caught_at_its_step() -> None:
    problem = random_problem(Counting())
    with pytest.raises(UserError, match="step 19 cannot be undone: its gradient"):
        l2t.load_backend(BACKEND).teacher_gradient(problem, general_theta(problem), horizon=20)


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_10_000_steps_of_lenet_take_less_than_a_twentieth_of_the_memory_of_every_state() -> None:
    problem = l2t.build_problem("digits/lenet")
    whole, ours = (
        l2t.load_backend(name).scaling(problem, 10_000).bytes
        for name in ("rmd", BACKEND)  # type: ignore[attr-defined]
    )
    assert ours < whole / 20


def test_a_step_takes_one_gradient_more_than_with_every_state_kept() -> None:
    problem = random_problem()
    cost = l2t.load_backend(BACKEND).teacher_gradient(problem, general_theta(problem), horizon=30).cost
    assert (cost.gradients, cost.vector_products, cost.recomputed_steps) == (30, 30, 60)


# -- what a student may not do -----------------------------------------------------------------------------------------


class Shortened(nn.Module):
    """Writes into its first parameter in the forward pass: always, where a batch says so, or behind autograd's back."""

    def __init__(self, when: Callable[[Tensor], bool], *, hidden: bool = False) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(6, 7), nn.Linear(7, 4)
        self._when, self._hidden = when, hidden

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training and self._when(inputs):
            with torch.no_grad():
                weight = self.first.weight.data if self._hidden else self.first.weight
                weight.clamp_(-0.2, 0.2)
        out: Tensor = self.out(torch.tanh(self.first(inputs)))
        return out


def differentiated(student: nn.Module, store: str = "reversible", horizon: int = 12) -> l2t.TeacherGradient:
    problem = random_problem(student=student)
    return l2t.load_backend(f"rmd[store={store}]").teacher_gradient(problem, general_theta(problem), horizon=horizon)


@pytest.mark.parametrize("store", ["reversible", "all", "sqrt", "graph"])
def test_a_student_that_writes_into_its_parameters_is_an_error_at_the_step_where_it_does(store: str) -> None:
    seventh = random_problem().train(7, 0)[0]
    for student, step in (
        (Shortened(lambda inputs: True), 0),
        (Shortened(lambda inputs: True, hidden=True), 0),
        (Shortened(lambda inputs: torch.equal(inputs, seventh)), 7),
    ):
        with pytest.raises(UserError, match=f"writes into its parameters at step {step}: no derivative is taken"):
            differentiated(student, store)


def test_one_that_could_and_does_not_is_taught() -> None:
    never = Shortened(lambda inputs: False)
    assert relative_error(differentiated(never).d_theta, differentiated(never, "all").d_theta) < 1e-8
