"""Micro-benchmarks: the rollout, the reverse pass and the whole outer step of each backend.

``make benchmark`` runs them and keeps the figures under .benchmarks/; the test suite skips them. The backends of a
problem and horizon take turns in one process, so that what the machine does besides falls on all of them; each case
then reports the seconds that its backend's phase took in those turns. Problems that need MNIST are skipped without it.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import l2t_bench as l2t
from l2t_bench.data.root import data_root
from l2t_bench.errors import UserError
from l2t_bench.gradient import Cost

BACKENDS = (
    "rmd",
    "rmd[engine=compiled]",
    "truncated[window=10]",
    "higher",
    "torchopt",
    "torchopt-implicit",
    "functorch",
)
PHASES = ("rollout", "reverse", "outer step")
ROUNDS, WARM_UP = 5, 10
PROBLEMS: Mapping[str, tuple[int, ...]] = {
    "digits/mlp[batch=20,features=none]": (20, 100, 500),
    "mnist/mlp[batch=20,dev=1000,features=none]": (20, 100, 500),
    "mnist/lenet[batch=20,dev=1000,features=none]": (20, 100),
    "mnist/lenet[batch=500,dev=1000,features=none]": (20,),
}


class PhaseClock:
    """A timer that advances by the seconds that a backend reports for one phase: it times a part of a call."""

    __name__ = "PhaseClock"  # pytest-benchmark writes the timer's name into its record

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._seconds = 0.0

    def __call__(self) -> float:
        return self._seconds

    def advance(self, cost: Cost) -> None:
        """Add one call's seconds."""
        self._seconds += {
            "rollout": cost.seconds_forward,
            "reverse": cost.seconds_reverse,
            "outer step": cost.seconds,
        }[self._phase]


@cache
def turns(problem_name: str, horizon: int) -> Mapping[str, list[Cost]]:
    """The costs of every backend, ``ROUNDS`` of each, taken in turn after a short run of each."""
    problem = l2t.build_problem(problem_name)
    theta = problem.init_teacher(0)
    backends = {name: l2t.load_backend(name) for name in BACKENDS}
    for backend in backends.values():
        backend.teacher_gradient(problem, theta, horizon=WARM_UP)
    found: dict[str, list[Cost]] = {name: [] for name in backends}
    for _ in range(ROUNDS):
        for name, backend in backends.items():
            found[name].append(backend.teacher_gradient(problem, theta, horizon=horizon).cost)
    return found


def cases() -> Iterator[object]:
    """Problem by horizon by phase by backend, each with a clock of its own, grouped in the printed tables."""
    for problem, horizons in PROBLEMS.items():
        for horizon in horizons:
            for phase in PHASES:
                for backend in BACKENDS:
                    clock = PhaseClock(phase)
                    mark = pytest.mark.benchmark(group=f"{problem}, T={horizon}, {phase}", timer=clock)
                    yield pytest.param(
                        problem, horizon, backend, clock, marks=mark, id=f"{problem}-{horizon}-{phase}-{backend}"
                    )


def data_is_there(problem: str) -> bool:
    try:
        return not problem.startswith("mnist") or (data_root() / "mnist").is_dir()
    except UserError:
        return False


@pytest.mark.parametrize(("problem", "horizon", "backend", "clock"), list(cases()))
def test_outer_step(benchmark: BenchmarkFixture, problem: str, horizon: int, backend: str, clock: PhaseClock) -> None:
    if not data_is_there(problem):
        pytest.skip("MNIST is not in the data root")
    if not benchmark.enabled or benchmark.disabled:
        pytest.skip("only timed on demand")
    costs = iter(turns(problem, horizon)[backend])
    benchmark.pedantic(lambda: clock.advance(next(costs)), rounds=ROUNDS, iterations=1)
    benchmark.extra_info.update({"problem": problem, "horizon": horizon, "backend": backend})
