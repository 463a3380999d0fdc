"""Micro-benchmarks: the rollout, the reverse pass and the whole outer step of each backend.

``make benchmark`` runs them and keeps the figures under .benchmarks/, ``l2t-bench report`` shows them; the test suite
skips them. The backends of a problem and horizon take turns in one process, so that what the machine does besides falls
on all of them; each case then reports the seconds that its backend's phase took in those turns. What is compiled is
compiled before, in a cache that is empty, and its seconds are told apart. A backend that would not fit into memory is
left out by prediction. Some works are also taken in a process of their own for each method: for the peak above the
start, and in turn with plain student training. Problems whose data are not there are skipped.
"""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import l2t_bench as l2t
from l2t_bench.data.catalogue import DATA_SETS
from l2t_bench.errors import UserError
from l2t_bench.fitting import bytes_left, fits_by_far, predict_bytes
from l2t_bench.gradient import Cost
from l2t_bench.problem import TeachingProblem
from l2t_bench.resident import available_bytes, release_free_memory, resident_bytes
from l2t_bench.units import told

SCHEMA = 1  # of extra_info: reports/benchmark_record.py reads it
COMPILED = "rmd[engine=compiled]"
COMPILED_SQRT = "rmd[engine=compiled,store=sqrt]"
COMPILED_ACTIVATIONS = "rmd[engine=compiled,activations=all]"
PEERS = ("higher", "torchopt", "functorch")  # other libraries, that give the same gradient
EVOLUTION = "evolution[population=4]"  # the least that it takes: more perturbed students take proportionally longer
WHOLE = (EVOLUTION, "forward")  # these go there and nowhere back: their outer steps alone are timed
BACKENDS = (
    *("rmd", COMPILED, "truncated[window=10]", "higher", "torchopt", "torchopt-implicit", "functorch"),
    *("implicit", "one-step", *WHOLE),
)
DEAR = ("implicit", *WHOLE)  # of large works, a round of these takes up to minutes
PHASES = ("rollout", "reverse", "outer step")
WARM_UP = 10


@dataclass(frozen=True)
class Work:
    """A problem and horizon. ``peers``: the ratio to the fastest peer that ``ours`` is to reach.

    ``ours``: compiled steps, unless compiling takes longer than all else here. ``also``: more of our methods than
    everywhere. ``alone``: the methods that are also
    taken in processes of their own; ``memory``: the ratio of peaks to ``higher`` that compiled ones are to reach.
    ``slow`` works are for ``make benchmark-all``, and of ``large`` ones the methods that are ``DEAR``.
    """

    problem: str
    horizon: int
    rounds: int = 5
    peers: float | None = None
    ours: str = COMPILED
    also: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    memory: float | None = None
    slow: bool = False
    large: bool = False

    @property
    def name(self) -> str:
        return f"{self.problem}, T={self.horizon}"

    @property
    def backends(self) -> tuple[str, ...]:
        return (*(self.ours if name == COMPILED else name for name in BACKENDS), *self.also)


TO_TRAINING = 3.5  # the ratio of an outer step to plain student training that compiled steps are to reach
DIGITS = "digits/mlp[batch=20,features=none]"
MLP = "mnist/mlp[batch=20,dev=1000,features=none]"
RESNET = "cifar10/resnet8[batch=128,dev=1000,features=none]"
LENET, LARGE_LENET = (f"mnist/lenet[batch={batch},dev=1000,features=none]" for batch in (20, 500))
WORKS = (
    Work(DIGITS, 20),
    Work(DIGITS, 100),
    Work(DIGITS, 500, peers=0.30, alone=("rmd", COMPILED)),
    Work(MLP, 20),
    Work(MLP, 100),
    Work(MLP, 200, peers=0.45, alone=("rmd", COMPILED, COMPILED_SQRT, *PEERS), memory=0.4),
    Work(MLP, 500, large=True),
    Work(LENET, 20),
    Work(LENET, 100, peers=0.75, alone=("rmd", COMPILED), large=True),
    Work(LENET, 500, rounds=3, large=True),
    Work(LARGE_LENET, 20, peers=1.0, also=(COMPILED_ACTIVATIONS,), alone=("rmd", COMPILED), large=True),
    Work(RESNET, 20, rounds=3, peers=0.95, ours="rmd[store=graph]", large=True),
    Work(LARGE_LENET, 100, rounds=3, slow=True),
    Work(LARGE_LENET, 500, rounds=3, slow=True),
)


class PhaseClock:
    """A timer that advances by seconds that something else has measured: it times a part of a call."""

    __name__ = "PhaseClock"  # pytest-benchmark writes the timer's name into its record

    def __init__(self) -> None:
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def advance(self, seconds: float) -> None:
        self._seconds += seconds


def seconds_of(cost: Cost, phase: str) -> float:
    return {"rollout": cost.seconds_forward, "reverse": cost.seconds_reverse, "outer step": cost.seconds}[phase]


# -- in turn


@cache
def problem_of(name: str) -> TeachingProblem:
    """A problem is built once: what is compiled for it serves all its horizons."""
    return l2t.build_problem(name)


@cache
def seconds_compile(problem_name: str, backend: str) -> float:
    """What a backend compiled for, in a short run that warms it up."""
    problem = problem_of(problem_name)
    theta = problem.init_teacher(0)
    return l2t.load_backend(backend).teacher_gradient(problem, theta, horizon=WARM_UP).cost.seconds_compile


def refused(problem_name: str, backend: str) -> str | None:
    """Why a backend does not do a problem, which some find out in a run alone."""
    try:
        seconds_compile(problem_name, backend)
    except l2t.Refused as refusal:
        return str(refusal)
    return None


@dataclass(frozen=True)
class Turns:
    """The costs of each backend, one a round, and of those that were left out the reason."""

    costs: Mapping[str, list[Cost]]
    left_out: Mapping[str, str]

    def seconds_compile(self, backend: str) -> float:
        """What came to it beside the short run that warms up: the first long one holds every step to plain torch."""
        return sum(cost.seconds_compile for cost in self.costs[backend])


@cache
def turns(work: Work, backends: tuple[str, ...]) -> Turns:
    """The backends in turn, as often as the work has rounds, each warmed up before."""
    problem = problem_of(work.problem)
    theta = problem.init_teacher(0)
    reasons = {name: refused(work.problem, name) for name in backends}  # and warmed up, each before it is looked at
    reasons = {name: reason or too_large(name, problem, work.horizon) for name, reason in reasons.items()}
    fitting = {name: l2t.load_backend(name) for name, reason in reasons.items() if reason is None}
    costs: dict[str, list[Cost]] = {name: [] for name in fitting}
    for order in orders(tuple(fitting), work.rounds):
        for name in order:
            costs[name].append(fitting[name].teacher_gradient(problem, theta, horizon=work.horizon).cost)
    return Turns(costs, {name: reason for name, reason in reasons.items() if reason is not None})


def orders(names: tuple[str, ...], rounds: int) -> Iterator[list[str]]:
    """In what order each round takes them, drawn anew: nobody always comes after the same one, in whose caches."""
    generator = random.Random(0)  # the same in every session
    for _ in range(rounds):
        yield generator.sample(names, len(names))


def too_large(name: str, problem: TeachingProblem, horizon: int) -> str | None:
    """Why a backend is left out: what it would take, by its law and short runs, and what is left."""
    backend = l2t.load_backend(name)
    release_free_memory()
    left = bytes_left(None, problem, resident_bytes() or 0, available_bytes())
    if left is None or fits_by_far(backend, problem, horizon, left):
        return None
    predicted = predict_bytes(backend, problem, horizon)
    return None if predicted <= left else f"would take {told(predicted)}, and {told(left)} are left"


def cases() -> Iterator[Any]:
    """Work by phase by backend, each with a clock of its own, grouped in the printed tables."""
    for work in WORKS:
        for phase in PHASES:
            for backend in work.backends:
                if phase == "outer step" or backend not in WHOLE:
                    yield case(work, phase, backend, f"{work.name}, {phase}", f"{work.problem}-{work.horizon}-{phase}")


def case(work: Work, phase: str, backend: str, group: str, label: str) -> Any:
    clock = PhaseClock()
    slow = work.slow or (work.large and backend in DEAR)
    marks = [pytest.mark.benchmark(group=group, timer=clock), *([pytest.mark.slow] if slow else [])]
    return pytest.param(work, phase, backend, clock, marks=marks, id=f"{label}-{backend}")


@pytest.fixture
def selected(request: pytest.FixtureRequest, work: Work) -> tuple[str, ...]:
    """The backends of this work that the session times: who asks for a few with ``-k`` waits for no others."""
    items = [item for item in request.session.items if getattr(item, "function", None) is test_outer_step]
    asked = {item.callspec.params["backend"] for item in items if item.callspec.params["work"] == work}  # type: ignore[attr-defined]
    return tuple(name for name in work.backends if name in asked)


@pytest.mark.usefixtures("compile_cache")
@pytest.mark.parametrize(("work", "phase", "backend", "clock"), list(cases()))
def test_outer_step(
    benchmark: BenchmarkFixture, selected: tuple[str, ...], work: Work, phase: str, backend: str, clock: PhaseClock
) -> None:
    check_can_be_timed(benchmark, work)
    taken = turns(work, selected)
    if backend in taken.left_out:
        pytest.skip(taken.left_out[backend])
    costs = iter(taken.costs[backend])
    benchmark.pedantic(lambda: clock.advance(seconds_of(next(costs), phase)), rounds=work.rounds, iterations=1)
    wanted = work.peers if backend == work.ours and phase == "outer step" else None
    benchmark.extra_info.update(
        told_of(work, phase, backend),
        alone=False,
        turns=work.name,
        seconds_compile=seconds_compile(work.problem, backend) + taken.seconds_compile(backend),
        left_out=dict(taken.left_out),
        at_most=[] if wanted is None else [{"of": "time", "against": "fastest peer", "ratio": wanted}],
    )


def told_of(work: Work, phase: str, backend: str) -> dict[str, Any]:
    """What a report must know of an entry."""
    return {
        "schema": SCHEMA,
        "problem": work.problem,
        "horizon": work.horizon,
        "phase": phase,
        "backend": backend,
        "peer": backend in PEERS,
    }


def check_can_be_timed(benchmark: BenchmarkFixture, work: Work) -> None:
    if not data_is_there(work.problem):
        pytest.skip(f"{work.problem.partition('/')[0]} is not in the data root")
    if not benchmark.enabled or benchmark.disabled:
        pytest.skip("only timed on demand")


def data_is_there(problem: str) -> bool:
    data_set = DATA_SETS[problem.partition("/")[0]]
    try:
        return any(file.is_file() for file in data_set.files())
    except UserError:
        return False


# -- each in a process of its own


@cache
def alone(work: Work, backend: str) -> Mapping[str, Any]:
    """What ``alone.py`` measures, with as many threads as here."""
    script = str(Path(__file__).with_name("alone.py"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-P", script, work.problem, str(work.horizon), backend, str(work.rounds)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def alone_cases() -> Iterator[Any]:
    for work in WORKS:
        for backend in work.alone:
            for phase in ("outer step", "student training"):
                yield case(work, phase, backend, f"{work.name}, alone", f"{work.problem}-{work.horizon}-{phase}")


@pytest.mark.usefixtures("compile_cache")
@pytest.mark.parametrize(("work", "phase", "backend", "clock"), list(alone_cases()))
def test_alone(benchmark: BenchmarkFixture, work: Work, phase: str, backend: str, clock: PhaseClock) -> None:
    check_can_be_timed(benchmark, work)
    found = alone(work, backend)
    seconds = iter(found[phase])
    benchmark.pedantic(lambda: clock.advance(next(seconds)), rounds=work.rounds, iterations=1)
    benchmark.extra_info.update(
        told_of(work, phase, backend),
        alone=True,
        turns=f"{work.name}, {backend} alone",
        seconds_compile=found["seconds_compile"],
        at_most=wanted_alone(work, backend) if phase == "outer step" else [],
        **({"peak_above_start_bytes": found["peak_above_start_bytes"]} if phase == "outer step" else {}),
    )


def wanted_alone(work: Work, backend: str) -> list[dict[str, Any]]:
    """The ratios that methods of compiled steps are to reach."""
    wanted = []
    if backend == COMPILED:
        wanted.append({"of": "time", "against": "student training", "ratio": TO_TRAINING})
    if work.memory is not None and backend in (COMPILED, COMPILED_SQRT):
        wanted.append({"of": "memory", "against": "higher", "ratio": work.memory})
    return wanted
