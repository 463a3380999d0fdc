"""What no step back reads of a state is not kept with it: the gradient is the same, and memory a fraction."""

import dataclasses
import subprocess
import sys

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.adam import Adam
from l2t_bench.batches import Batch
from l2t_bench.gradient import TeacherGradient
from l2t_bench.metabatch.problem import stacked_problem
from l2t_bench.optimizers import Optimizer
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.resident import resident_bytes
from l2t_bench.steppers import compiling, sharing
from l2t_bench.steppers.compiling import Functions, Kept, bytes_kept
from l2t_bench.steppers.rows import Places
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.vectors import relative_error

HORIZON = 12


@pytest.fixture(autouse=True)
def traced_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is taken as it is traced: what it reads is in it, and no compiler is waited for."""
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)


@pytest.fixture
def products_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too, and those of float64."""
    monkeypatch.setattr(sharing, "_WORTH", 0)


def plain_and_compiled(problem: TeachingProblem, backend: str) -> tuple[TeacherGradient, TeacherGradient]:
    theta, name = general_theta(problem), backend.partition("[")[0]
    plain = l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=HORIZON)
    options = backend.removeprefix(name).strip("[]")
    compiled = l2t.load_backend(f"{name}[{','.join(filter(None, (options, 'engine=compiled,activations=all')))}]")
    return plain, compiled.teacher_gradient(problem, theta, steps=plain.steps)


def unread(problem: TeachingProblem) -> set[str]:
    (functions,) = {held for held in problem.derived.values() if isinstance(held, Functions)}
    return set(functions.unread)


def digits(options: str = "") -> TeachingProblem:
    return l2t.build_problem(f"digits/mlp[hidden=30,dev=50{options}]", dtype="float64")


@pytest.mark.usefixtures("products_kept")
@pytest.mark.parametrize("backend", ["rmd", "truncated[window=5]"])
def test_a_first_layers_weights_pass_and_the_gradient_is_that_of_plain_torch(backend: str) -> None:
    problem = digits()
    plain, compiled = plain_and_compiled(problem, backend)
    assert not compiled.warnings
    assert relative_error(compiled.d_theta, plain.d_theta) < 1e-12
    assert unread(problem) == {"hidden.weight", "hidden.bias", "output.bias"}, "what a ReLU gave is kept"


@pytest.mark.usefixtures("products_kept")
def test_what_the_optimiser_reads_on_the_way_back_does_not_pass() -> None:
    problem = dataclasses.replace(digits(), optimizer=l2t.SGD(lr=0.1, momentum=0.9, weight_decay=0.01), name="decaying")
    plain, compiled = plain_and_compiled(problem, "rmd[hyper=true]")
    assert unread(problem) == set(), "the derivative by the decay is by all of them"
    assert float(compiled.hyper["weight_decay"]) == pytest.approx(float(plain.hyper["weight_decay"]), rel=1e-12)


def uneven(problem: TeachingProblem, every: int) -> TeachingProblem:
    """Each ``every``-th batch has one example less."""

    def train(index: int, seed: int) -> Batch:
        inputs, targets = problem.train(index, seed)
        return (inputs[1:], targets[1:]) if index % every == every - 1 else (inputs, targets)

    return dataclasses.replace(problem, train=train, name="uneven")


@pytest.mark.usefixtures("products_kept")
@pytest.mark.parametrize("backend", ["rmd", "truncated[window=7]"])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_plain_torch_goes_back_to_whole_states_amid_compiled_steps(every: int, backend: str) -> None:
    problem = uneven(random_problem(), every)
    plain, compiled = plain_and_compiled(problem, backend)
    assert "are shaped otherwise" in compiled.warnings[0]
    assert unread(problem), "else there is nothing to lose"
    assert relative_error(compiled.d_theta, plain.d_theta) < 1e-12


@pytest.mark.usefixtures("products_kept")
@pytest.mark.parametrize("optimizer", [Adam(lr=0.05), l2t.SGD(lr=0.3, momentum=0.9, nesterov=True, clip=0.05)], ids=str)
def test_under_other_optimisers_too(optimizer: Optimizer) -> None:
    problem = uneven(dataclasses.replace(random_problem(), optimizer=optimizer), 3)
    plain, compiled = plain_and_compiled(problem, "rmd")
    assert unread(problem)
    assert relative_error(compiled.d_theta, plain.d_theta) < 1e-12


@pytest.mark.usefixtures("products_kept")
def test_of_students_that_are_taken_at_once_too() -> None:
    problem, seeds = digits(",features=none"), range(3)
    theta, backend = general_theta(problem), "rmd[engine=compiled,activations=all,students=3]"
    method = l2t.load_backend(backend)
    together = method.teacher_gradients(problem, theta, horizon=HORIZON, seeds=seeds)  # type: ignore[attr-defined]
    assert unread(stacked_problem(problem, 3))
    for seed, found in zip(seeds, together, strict=True):
        alone = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=HORIZON, seed=seed)
        assert not found.warnings and relative_error(found.d_theta, alone.d_theta) < 1e-12


@pytest.mark.usefixtures("products_kept")
def test_what_a_step_keeps_is_known_when_it_is_compiled() -> None:
    problem, kept = digits(), Kept("all", slots=False, hyper=False)
    assert bytes_kept(problem, kept) is None
    plain_and_compiled(problem, "rmd")
    output, hidden = 10 * 30, 20 * (30 + 10)  # its weights; both layers' products of a batch of 20
    assert 8 * (output + hidden) <= (bytes_kept(problem, kept) or 0) <= 8 * 1.5 * (output + hidden)
    assert bytes_kept(problem, dataclasses.replace(kept, hyper=True)) is None, "that keeps more"


_GROWN = """
import torch
import l2t_bench as l2t
from l2t_bench.resident import release_free_memory, whole_pages
from l2t_bench.steppers import compiling
torch.set_num_threads(1)
compiling._compiled = lambda traced, random: traced.graph  # as in the tests' own process
problem = l2t.build_problem("digits/mlp[hidden=2000,batch=5,dev=50,features=none]")
size = 4 * sum(param.numel() for param in problem.init_student(0).params.values())
with whole_pages():
    for backend in ("rmd", "rmd[engine=compiled]"):
        peaks = []
        for horizon in (5, 20, 120):  # the first for what is made once
            release_free_memory()
            cost = l2t.load_backend(backend).teacher_gradient(problem, problem.init_teacher(0), horizon=horizon).cost
            peaks.append(cost.host_bytes or 0)
        print((peaks[2] - peaks[1]) / 100 / size)
"""


def test_memory_does_not_grow_by_what_passes() -> None:
    """By bytes of a step more, in states, of a new process: a heap in which others have left holes grows by more."""
    if resident_bytes() is None:
        pytest.skip("this platform does not tell a process's memory")
    found = subprocess.run([sys.executable, "-c", _GROWN], capture_output=True, text=True, check=True).stdout
    plain, compiled = map(float, found.split())
    assert plain == pytest.approx(1, rel=0.1)
    assert compiled < 0.3


def test_what_passes_takes_turns_at_two_places_and_the_last_state_has_its_own() -> None:
    params = {"first": torch.zeros(3), "second": torch.zeros(2)}
    places = Places(StudentState(params, {}), range(4, 8), slots_kept=False, passing={"first"})
    held = [places.of(index).params for index in range(4, 8)]
    assert all(list(each) == list(params) for each in held)
    first, second = ([each[name].data_ptr() for each in held] for name in params)
    assert first[0] == first[2] != first[1] == first[3] and len(set(second)) == 4
    assert not {*first, *second} & {tensor.data_ptr() for tensor in places.of(8).params.values()}
