"""Compiled steps: the plain ones to rounding, under every store; plain ones, with a reason, where they cannot be."""

import dataclasses
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.backend import Backend
from l2t_bench.gradient import TeacherGradient
from l2t_bench.measure import Meter
from l2t_bench.modules import same_tensors
from l2t_bench.optimizers import SGD, linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.steppers import catalogue, compiling, sharing
from l2t_bench.steppers import compiled as compiled_module
from l2t_bench.steppers.rows import row_form
from l2t_bench.steppers.traced import Traced
from l2t_bench.steppers.tracing import given
from l2t_bench.tensors import TensorDict
from l2t_bench.verification.ladder import OPTIMIZERS, section
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.students import STUDENTS, student_problem
from l2t_bench.verification.subject import Outcome
from l2t_bench.verification.vectors import relative_error

HORIZON = 8
NOT_COMPILED = ("unused", "transformer, dropout")  # plain torch takes their steps, and a warning says why


def both(
    problem: TeachingProblem, options: str = "", backend: str = "rmd"
) -> tuple[TensorDict, TeacherGradient, TeacherGradient]:
    """theta, and the gradients of one recorded run by plain and by compiled steps."""
    theta = general_theta(problem)
    plain = l2t.load_backend(f"{backend}[{options}]").teacher_gradient(problem, theta, horizon=HORIZON)
    compiled = l2t.load_backend(f"{backend}[{','.join(filter(None, ('engine=compiled', options)))}]")
    return theta, plain, compiled.teacher_gradient(problem, theta, steps=plain.steps)


def assert_same(plain: TeacherGradient, compiled: TeacherGradient, bound: float = 1e-12) -> None:
    assert not compiled.warnings, compiled.warnings
    assert compiled.cost.seconds_compile > 0
    assert relative_error(compiled.d_theta, plain.d_theta) <= bound
    assert relative_error(compiled.final.params, plain.final.params) <= bound
    assert compiled.value == pytest.approx(plain.value, rel=bound)
    if plain.d_omega0 is not None and compiled.d_omega0 is not None:
        assert relative_error(compiled.d_omega0, plain.d_omega0) <= bound
    assert set(compiled.hyper) == set(plain.hyper)
    for name, tensor in plain.hyper.items():
        assert torch.allclose(compiled.hyper[name], tensor, bound, bound * float(tensor.abs().max()))


@pytest.fixture(scope="module")
def momentum() -> TeachingProblem:
    return random_problem(optimizer=SGD(lr=linear_decay(0.3), momentum=0.9, dampening=0.3, weight_decay=0.05))


def test_a_compiled_run_gives_the_plain_runs_gradient_and_health(momentum: TeachingProblem) -> None:
    _, plain, compiled = both(momentum)
    assert_same(plain, compiled)
    assert plain.health is not None and compiled.health is not None
    assert compiled.health.norms == pytest.approx(plain.health.norms, rel=1e-12)


@pytest.mark.parametrize("store", ["sqrt", "binomial", "disk"])
def test_every_store_of_states_takes_compiled_steps(momentum: TeachingProblem, store: str) -> None:
    _, plain, compiled = both(momentum, f"store={store}")
    assert relative_error(compiled.d_theta, plain.d_theta) <= 1e-12 and not compiled.warnings


@pytest.mark.parametrize("options", ["window=3", "window=3,every=4"])
def test_a_truncated_run_does(momentum: TeachingProblem, options: str) -> None:
    _, plain, compiled = both(momentum, options, "truncated")
    assert relative_error(compiled.d_theta, plain.d_theta) <= 1e-12 and not compiled.warnings


@pytest.mark.slow
def test_hyper_gradients_come_of_compiled_steps_too(momentum: TeachingProblem) -> None:
    _, plain, compiled = both(momentum, "hyper=true")
    assert_same(plain, compiled)


@pytest.mark.slow
def test_adam_whose_correction_changes_with_the_step_is_compiled_once() -> None:
    problem = random_problem(optimizer=Adam(lr=linear_decay(0.03), weight_decay=0.05, clip=0.09))
    assert_same(*both(problem)[1:])


def test_calls_in_a_row_are_the_same_bits_and_compile_once(momentum: TeachingProblem) -> None:
    theta = general_theta(momentum)
    backend = l2t.load_backend("rmd[engine=compiled]")
    first, second = (backend.teacher_gradient(momentum, theta, horizon=HORIZON) for _ in range(2))
    assert second.cost.seconds_compile == 0
    assert all(torch.equal(first.d_theta[name], second.d_theta[name]) for name in theta)
    assert all(torch.equal(first.final.params[name], param) for name, param in second.final.params.items())


def test_a_theta_in_another_order_and_lying_otherwise_is_the_same_theta(momentum: TeachingProblem) -> None:
    theta, _, compiled = both(momentum)
    other = {name: tensor.mT.contiguous().mT for name, tensor in reversed(theta.items())}
    assert list(other) != list(theta) and any(not tensor.is_contiguous() for tensor in other.values())
    found = l2t.load_backend("rmd[engine=compiled]").teacher_gradient(momentum, other, steps=compiled.steps)
    assert all(torch.equal(found.d_theta[name], tensor) for name, tensor in compiled.d_theta.items())


def test_the_result_does_not_keep_the_trajectory_alive(momentum: TeachingProblem) -> None:
    compiled = both(momentum)[2]
    held = {tensor.untyped_storage().nbytes() for tensor in compiled.final.params.values()}
    row = row_form(compiled.final.params, torch.device("cpu")).size
    assert held == {row}


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_ladder_is_climbed_with_compiled_steps_under_every_optimiser(optimizer: str) -> None:
    problem = dataclasses.replace(random_problem(optimizer=OPTIMIZERS[optimizer]), name=optimizer)
    assert_climbed(problem)


@pytest.mark.slow
@pytest.mark.parametrize("student", [student for student in STUDENTS if student not in NOT_COMPILED])
def test_the_ladder_is_climbed_with_compiled_steps_by_every_kind_of_student(student: str) -> None:
    assert_climbed(student_problem(student))


@pytest.mark.slow
def test_a_lenet_with_relu_and_max_pooling_is_compiled_to_the_plain_runs_gradient() -> None:
    """The ladder's has tanh and average pooling, for central differences."""
    problem = l2t.build_problem("digits/lenet[batch=20,filters=4,hidden=20]", dtype="float64")
    theta = general_theta(problem)
    plain = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=5)
    compiled = l2t.load_backend("rmd[engine=compiled]").teacher_gradient(problem, theta, steps=plain.steps)
    assert not compiled.warnings and compiled.cost.seconds_compile > 0
    assert relative_error(compiled.d_theta, plain.d_theta) < 1e-12


@pytest.mark.slow
def test_a_transformer_with_dropout_whose_compiled_steps_are_others_goes_in_plain_torch_and_says_so() -> None:
    assert_plain(student_problem("transformer, dropout"), "its compiled steps differ from the plain ones")


def assert_climbed(problem: TeachingProblem) -> None:
    backend = l2t.load_backend("rmd[engine=compiled]")
    result = backend.teacher_gradient(problem, general_theta(problem), horizon=4)
    assert not result.warnings, result.warnings
    found = section(backend, problem, horizons=(4, 8))
    failed = [f"{check.name}: {check.figure:.3g}" for check in found.checks if check.outcome is Outcome.FAILED]
    assert not failed and not found.refused, (failed, found.refused)


@pytest.mark.slow
def test_products_forward_over_reverse_are_compiled_too(momentum: TeachingProblem) -> None:
    _, plain, compiled = both(momentum, "hvp=for")
    assert_same(plain, compiled)


# -- where steps cannot be compiled ------------------------------------------------------------------------------------


def assert_plain(problem: TeachingProblem, reason: str) -> None:
    """Plain steps, one warning, the plain gradient bit for bit."""
    _, plain, compiled = both(problem)
    assert [reason in warning for warning in compiled.warnings] == [True], compiled.warnings
    assert all(torch.equal(compiled.d_theta[name], tensor) for name, tensor in plain.d_theta.items())


def test_a_student_that_looks_at_its_inputs_values_goes_in_plain_torch() -> None:
    assert_plain(student_problem("unused"), "its steps cannot be traced")


class Remembering(nn.Module):
    """A linear student with a buffer that its forward pass replaces by ``after`` of it and of the output."""

    seen: Tensor

    def __init__(self, after: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.after = nn.Linear(6, 4), after
        self.register_buffer("seen", torch.zeros(1, 4, dtype=torch.int32))

    def forward(self, inputs: Tensor) -> Any:
        output = self.layer(inputs)
        if self.training:
            self.seen = self.after(self.seen, output.detach())
        return output


@pytest.mark.parametrize(
    "after",
    [
        lambda seen, output: torch.cat([seen, output[:1].int()]),
        lambda seen, output: (seen + 1).to(torch.int64 if seen.dtype is torch.int32 else torch.int32),
    ],
)
def test_a_student_whose_buffers_change_their_form_goes_in_plain_torch(after: Any) -> None:
    assert_plain(random_problem(Remembering(after)), "the buffer seen is")


@pytest.fixture
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is taken as it is traced: the constants of compiled code are in it, and no compiler is waited for."""
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)


_CHANGED = "a step is another one than when its steps were compiled"


@pytest.mark.usefixtures("traced_only")
def test_a_loss_that_has_changed_since_it_was_compiled_goes_in_plain_torch() -> None:
    plain, temperature = random_problem(), [1.0]
    problem = dataclasses.replace(plain, loss=lambda output, *rest: plain.loss(output / temperature[0], *rest))
    assert_same(*both(problem)[1:])
    temperature[0] = 2.0
    assert_plain(problem, _CHANGED)
    temperature[0] = 1.0
    assert not both(problem)[2].warnings


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("within", [False, True])
def test_steps_compiled_outside_of_autocast_are_not_taken_inside_it_nor_the_other_way_round(within: bool) -> None:
    plain = random_problem()
    problem = dataclasses.replace(plain.to(dtype=torch.float32), name="float32")
    theta = general_theta(problem)

    def taken(engine: str, inside: bool) -> TeacherGradient:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=inside):
            return l2t.load_backend(f"rmd[engine={engine}]").teacher_gradient(problem, theta, horizon=HORIZON)

    outside, inside = taken("eager", False), taken("eager", True)
    assert relative_error(inside.d_theta, outside.d_theta) > 1e-3
    for now in (within, not within):
        found, wanted = taken("compiled", now), inside if now else outside
        assert found.cost.seconds_compile > 0, "each is another step"
        assert relative_error(found.d_theta, wanted.d_theta) < 1e-5
    for now in (within, not within):
        assert taken("compiled", now).cost.seconds_compile == 0


@pytest.mark.usefixtures("traced_only")
def test_a_number_that_torchs_settings_decide_upon_is_no_constant_of_compiled_steps() -> None:
    """A loss in the default dtype."""
    plain = random_problem()
    problem = dataclasses.replace(
        plain, loss=lambda *given: plain.loss(*given) * (torch.ones(1) / 3).double().square().mean()
    )
    assert_same(*both(problem)[1:])
    torch.set_default_dtype(torch.float64)
    try:
        assert_same(*both(problem)[1:])
    finally:
        torch.set_default_dtype(torch.float32)


class Turned(torch.autograd.Function):
    """The identity; its gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("optimizer", [SGD(lr=0.3, momentum=0.9), SGD(lr=0.01), Adam(lr=0.03)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_loss_of_the_same_value_whose_gradient_has_changed_goes_in_plain_torch(
    optimizer: Any, dtype: torch.dtype
) -> None:
    plain, factor = random_problem(optimizer=optimizer).to(dtype=dtype), [1.0]
    problem = dataclasses.replace(plain, loss=lambda output, *rest: plain.loss(Turned.apply(output, factor[0]), *rest))
    for _ in range(2):
        assert not both(problem)[2].warnings
    factor[0] = 0.5
    assert_plain(problem, _CHANGED)


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("changed", [range(5, 7), range(2, 3), range(4, 5)])
def test_a_loss_that_is_another_one_at_some_steps_is_an_error_in_the_first_compiled_run(changed: range) -> None:
    plain, now = random_problem(), [0]

    def train(index: int, seed: int) -> Any:
        now[0] = index
        return plain.train(index, seed)

    problem = dataclasses.replace(
        plain, train=train, loss=lambda *given: plain.loss(*given) * (2 if now[0] in changed else 1)
    )
    for engine in ("eager", "compiled"):
        with pytest.raises(l2t.UserError, match=f"step {changed[0]} cannot be replayed"):
            l2t.load_backend(f"rmd[engine={engine}]").teacher_gradient(problem, general_theta(problem), horizon=HORIZON)


@pytest.mark.usefixtures("traced_only")
def test_a_number_that_a_batch_carries_beside_its_tensors_is_no_constant_in_silence() -> None:
    plain = random_problem()

    def train(index: int, seed: int) -> Any:
        inputs, targets = plain.train(index, seed)
        targets.weight = 2.0 if index >= 3 else 1.0
        return inputs, targets

    problem = dataclasses.replace(
        plain, train=train, loss=lambda o, t, phi: plain.loss(o, t, phi) * getattr(t, "weight", 1.0)
    )
    with pytest.raises(l2t.UserError, match="step 3 cannot be replayed"):
        both(problem)


@pytest.mark.usefixtures("traced_only")
@pytest.mark.parametrize("place", [4, 7])
def test_a_loss_that_changes_on_the_way_in_a_later_run_is_looked_at_in_its_middle_and_at_its_end(place: int) -> None:
    plain, changes, now = random_problem(), [99], [0]

    def train(index: int, seed: int) -> Any:
        now[0] = index
        return plain.train(index, seed)

    problem = dataclasses.replace(
        plain, train=train, loss=lambda *given: plain.loss(*given) * (2 if now[0] == changes[0] else 1)
    )
    theta, backend = general_theta(problem), l2t.load_backend("rmd[engine=compiled]")
    backend.teacher_gradient(problem, theta, horizon=HORIZON)
    changes[0] = place
    with pytest.raises(l2t.UserError, match=f"step {place} cannot be replayed"):
        backend.teacher_gradient(problem, theta, horizon=HORIZON)


def test_compiled_steps_that_are_wrong_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: spoilt(traced))
    assert_plain(random_problem(), "its compiled steps differ from the plain ones by")


def spoilt(traced: Traced) -> Any:
    """The graph as it is, but that what it writes into its last place is a little off."""

    def function(*inputs: Tensor) -> Any:
        found = traced.graph(*inputs)
        inputs[-1].mul_(1.001)
        return found

    return function


def test_a_compiler_that_fails_is_told_once_and_asked_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def failing(traced: Traced, random: bool) -> Any:
        asked.append(1)
        raise RuntimeError("no compiler here\nand more of it")

    monkeypatch.setattr(compiling, "_compiled", failing)
    problem = random_problem()
    assert_plain(problem, "its steps cannot be compiled: RuntimeError: no compiler here; the run")
    assert_plain(problem, "no compiler here")
    assert len(asked) == 1


_ELSEWHERE = """
import l2t_bench as l2t
from l2t_bench.verification.samples import general_theta, random_problem
problem = random_problem()
theta = general_theta(problem)
results = [l2t.load_backend(n).teacher_gradient(problem, theta, horizon=4) for n in ("rmd", "rmd[engine=compiled]")]
print(results[1].warnings)
print(max(float((results[0].d_theta[n] - results[1].d_theta[n]).abs().max()) for n in theta) < 1e-12)
"""
_COUNTED = """
from torch._dynamo.utils import counters
found = counters["inductor"]
print(f"compiled {found['fxgraph_cache_miss']}, from the cache {found['fxgraph_cache_hit']}")
"""


def elsewhere(environment: dict[str, str], then: str = "") -> list[str]:
    """In a process of its own: compiled steps' warnings, whether plain ones give the same, and what ``then`` says."""
    own = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE + then], env=own, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-3 if then else -2 :]


@pytest.mark.parametrize("missing", [{"CXX": "/nowhere/c++"}, {"TORCHINDUCTOR_CACHE_DIR": "/proc/none"}])
def test_without_a_compiler_or_a_cache_to_write_the_steps_are_plain(missing: dict[str, str], tmp_path: Any) -> None:
    warnings, same = elsewhere({"TORCHINDUCTOR_CACHE_DIR": str(tmp_path), **missing})
    assert "its steps cannot be " in warnings and "plain torch" in warnings and same == "True"


@pytest.mark.slow
def test_what_one_process_has_compiled_another_has_from_the_cache_on_disk(tmp_path: Path) -> None:
    """A step and a step back: two graphs."""
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    assert elsewhere(kept, _COUNTED) == ["()", "True", "compiled 2, from the cache 0"]
    assert elsewhere(kept, _COUNTED) == ["()", "True", "compiled 0, from the cache 2"]


@pytest.mark.slow
def test_a_cache_that_is_corrupt_spoils_no_result(tmp_path: Path) -> None:
    """Where torch does not make its files anew by itself, the steps are plain, with one warning that names a file."""
    kept = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    assert elsewhere(kept) == ["()", "True"]
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.suffix != ".lock"]
    good = {file: file.read_bytes() for file in files}
    for spoilt in (lambda held: b"", lambda held: held[: len(held) // 2], lambda held: held[::-1]):
        for file in files:
            file.write_bytes(spoilt(good[file]))
        warnings, same = elsewhere(kept)
        assert same == "True" and (warnings == "()" or warnings.count("the run was taken in plain torch") == 1)


def test_steps_of_another_shape_go_in_plain_torch_and_are_counted() -> None:
    plain = random_problem()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return (inputs[:5], targets[:5]) if index in (4, 7) else (inputs, targets)

    problem = dataclasses.replace(plain, train=train)
    _, exact, compiled = both(problem)
    assert len(compiled.warnings) == 1 and "2 of 8 steps, the first of them step 4" in compiled.warnings[0]
    assert relative_error(compiled.d_theta, exact.d_theta) <= 1e-12


def shaped(problem: TeachingProblem, size: Callable[[int, int], int]) -> TeachingProblem:
    """The problem with batches of ``size(index, seed)`` examples."""

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = problem.train(index, seed)
        return inputs[: size(index, seed)], targets[: size(index, seed)]

    return dataclasses.replace(problem, train=train)


@pytest.mark.parametrize("small", [0, 1])
def test_a_smaller_batch_that_comes_first_is_not_taken_for_the_rule(small: int) -> None:
    problem = shaped(random_problem(), lambda index, seed: 5 if index == small else 7)
    _, exact, compiled = both(problem)
    assert len(compiled.warnings) == small, "the first step goes in plain torch at any size"
    assert all("1 of 8 steps, the first of them step 1" in warning for warning in compiled.warnings)
    assert relative_error(compiled.d_theta, exact.d_theta) <= 1e-12 and compiled.cost.seconds_compile > 0


def test_where_no_two_steps_are_shaped_alike_nothing_is_compiled() -> None:
    _, exact, compiled = both(shaped(random_problem(), lambda index, seed: 1 + index))
    assert len(compiled.warnings) == 1 and "no two steps are shaped alike" in compiled.warnings[0]
    assert compiled.cost.seconds_compile == 0 and same_tensors(compiled.d_theta, exact.d_theta)


def test_another_run_of_another_shape_compiles_once_more_says_so_and_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled_module, "MOST_SHAPES", 2)
    problem = shaped(random_problem(), lambda index, seed: 5 + seed)
    theta, backend = general_theta(problem), l2t.load_backend("rmd[engine=compiled]")
    said = []
    for seed in (0, 1, 2, 0, 1):
        found = backend.teacher_gradient(problem, theta, horizon=HORIZON, seed=seed)
        plain = l2t.load_backend("rmd").teacher_gradient(problem, theta, steps=found.steps, seed=seed)
        assert relative_error(found.d_theta, plain.d_theta) <= 1e-12
        said.append(" ".join(found.warnings))
    assert said[0] == said[3] == said[4] == "", "its functions are there"
    assert "compiled once more, for steps shaped otherwise" in said[1]
    assert "steps of more than 2 shapes, and no more are compiled" in said[2]


def test_a_batch_source_that_cannot_be_replayed_is_caught_under_compiled_steps_too(momentum: TeachingProblem) -> None:
    class Drawn:
        def __init__(self, inputs: Tensor, targets: Tensor) -> None:
            self._inputs, self._targets, self._times = inputs, targets, 0

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Iterator[Tensor]:
            self._times += 1
            yield self._inputs * self._times
            yield self._targets

    def train(index: int, seed: int) -> Any:
        batch = momentum.train(index, seed)
        return Drawn(*batch) if index == 5 else batch

    problem = dataclasses.replace(momentum, train=train)
    with pytest.raises(l2t.UserError, match=r"step 5 cannot be replayed|the batch of step 5 has changed"):
        l2t.load_backend("rmd[engine=compiled]").teacher_gradient(problem, general_theta(problem), horizon=HORIZON)


def test_a_store_that_keeps_graphs_says_which_engine_it_goes_with() -> None:
    with pytest.raises(l2t.UserError, match="store=graph goes with engine=eager only"):
        l2t.load_backend("rmd[store=graph,engine=compiled]")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("activations=all", r"activations=all goes with engine=compiled\|graphed\|auto and store=all only"),
        ("engine=compiled,store=sqrt,activations=all", "activations=all goes with"),
        ("engine=compiled,activations=most", "activations must be one of some, all, not 'most'"),
    ],
)
def test_activations_are_kept_by_compiled_steps_where_all_states_are_and_else_refused(options: str, told: str) -> None:
    with pytest.raises(l2t.UserError, match=told):
        l2t.load_backend(f"rmd[{options}]")


def test_a_method_that_keeps_all_activations_has_the_same_gradient_by_more_that_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large batch on a small student: what its products give is more than a quarter of what a step takes in."""
    problem = l2t.build_problem("digits/mlp[batch=300,hidden=100,features=none]")
    theta = general_theta(problem)
    plain = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=4)
    kept = {}

    def watched(forward: Traced, back: Traced, activations: Any) -> tuple[Traced, Traced]:
        pair = sharing.shared(forward, back, activations)
        kept[activations] = sum(tensor.nbytes for tensor in pair[1].inputs[len(back.inputs) :])
        return pair

    monkeypatch.setattr(compiling, "shared", watched)
    for activations in ("some", "all"):
        backend = l2t.load_backend(f"rmd[engine=compiled,activations={activations}]")
        assert_same(plain, backend.teacher_gradient(problem, theta, steps=plain.steps), bound=1e-5)
    assert kept["some"] < kept["all"]
    assert isinstance(backend, Backend) and list(map(str, backend.variants())) == [str(backend)]
    auto = l2t.load_backend("rmd[engine=auto,activations=all]")
    assert isinstance(auto, Backend) and str(auto.settled(problem, 5)) == "rmd"


def test_a_compiled_method_has_variants_that_go_with_it_and_a_memory_that_is_measured(
    momentum: TeachingProblem,
) -> None:
    backend = l2t.load_backend("rmd[engine=compiled]")
    assert isinstance(backend, Backend)
    names = [str(variant) for variant in backend.variants()]
    assert "rmd[store=sqrt,engine=compiled]" in names and not any("graph" in name for name in names)
    assert backend.scaling(momentum, 100).bytes is None, "what its steps keep hangs on the student"
    plain = l2t.load_backend("rmd")
    assert isinstance(plain, Backend) and plain.scaling(momentum, 100).bytes is not None


def test_auto_compiles_once_a_problem_has_come_to_enough_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PAYS_FROM", 2 * HORIZON)
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    problem = random_problem()
    theta, backend = general_theta(problem), l2t.load_backend("rmd[engine=auto]")
    compiled = [backend.teacher_gradient(problem, theta, horizon=HORIZON).cost.seconds_compile > 0 for _ in range(3)]
    assert compiled == [False, True, False], "the second run comes to it, the third has it"


def test_auto_takes_a_step_of_many_operators_in_plain_torch_without_tracing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PAYS_FROM", 1)
    monkeypatch.setattr(catalogue, "MOST_OPERATORS", 100)
    monkeypatch.setattr("l2t_bench.steppers.compiled.compiled_steps", lambda wish: pytest.fail("traced"))
    problem = l2t.build_problem(
        "numbers/lstm1[embedding=3,hidden=4,train=60,dev=5,test=6,largest=99,pieces=30,source_vocabulary=34,"
        "target_vocabulary=34,batch=3,count=2,dev_sentences=5,train_batches=1]",
        dtype="float64",
    )
    theta = problem.init_teacher(0)
    found = l2t.load_backend("rmd[engine=auto]").teacher_gradient(problem, theta, horizon=3)
    (warning,) = found.warnings
    assert "operators, which take minutes to compile: auto does it up to 100" in warning
    plain = l2t.load_backend("rmd").teacher_gradient(problem, theta, steps=found.steps)
    assert relative_error(found.d_theta, plain.d_theta) == 0


@pytest.mark.parametrize("most", [1, 1000])
def test_what_auto_is_settled_at_beforehand_leaves_large_steps_in_plain_torch_too(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher's training and a prediction settle the engine before their runs."""
    monkeypatch.setattr(catalogue, "PAYS_FROM", 1)
    monkeypatch.setattr(catalogue, "MOST_OPERATORS", most)
    asked: list[object] = []
    monkeypatch.setattr("l2t_bench.steppers.compiled.compiled_steps", lambda wish: asked.append(wish) or "not here")
    backend, problem = l2t.load_backend("rmd[engine=auto]"), l2t.build_problem("digits/mlp[hidden=4,dev=50]")
    trainer = l2t.TeacherTrainer(problem, None, backend, outer_steps=1, horizon=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that were not compiled
        trainer.train()
        backend.predict(problem, 20)
    assert bool(asked) == (most > 1)


# -- the parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        torch.zeros(4, 3),
        torch.zeros(3, 4, dtype=torch.float64),
        torch.zeros(4, 3).t(),
        torch.zeros(1, 4).expand(3, 4),
        torch.zeros(3, 4, device="meta"),
    ],
)
def test_a_step_whose_batch_is_of_another_shape_dtype_layout_or_device_is_of_another_form(other: Tensor) -> None:
    targets, features = torch.zeros(3, dtype=torch.int64), torch.zeros(1)
    forms = [found.form for inputs in (torch.ones(3, 4), other) if (found := given((inputs, targets), features))]
    assert len(forms) == 2 and forms[0] != forms[1]


def test_a_phase_inside_another_is_no_part_of_it() -> None:
    meter = Meter(torch.device("cpu"))
    with meter.phase("outer"):
        with meter.phase("inner"):
            held = torch.ones(64 << 20, dtype=torch.uint8)
            del held
        torch.zeros(1)
    assert meter.seconds["inner"] > 10 * meter.seconds["outer"] >= 0
    assert set(meter.peaks) == {"outer", "inner"}


def test_rows_of_one_allocation_are_aligned_contiguous_and_apart() -> None:
    like = {"w": torch.zeros(3, 5), "b": torch.zeros(3), "n": torch.zeros((), dtype=torch.int64)}
    form = row_form(like, torch.device("cpu"))
    rows = form.rows(3)
    for count, row in enumerate(rows):
        for name, tensor in row.items():
            assert tensor.shape == like[name].shape and tensor.dtype == like[name].dtype and tensor.is_contiguous()
            assert tensor.data_ptr() % 64 == rows[0]["w"].data_ptr() % 64
            tensor.fill_(count)
    assert [float(row["w"].sum()) for row in rows] == [0, 15, 30] and int(rows[2]["n"]) == 2
