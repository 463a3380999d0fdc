"""Micro-benchmarks: the rollout, the reverse pass and the whole outer step of each backend on digits/mlp.

``make benchmark`` runs them and keeps the figures under .benchmarks/; the test suite skips them.
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import l2t_bench as l2t
from l2t_bench.gradient import Cost

BACKENDS = ("rmd", "truncated[window=10]", "higher", "torchopt", "torchopt-implicit", "functorch")
PHASES = ("rollout", "reverse", "outer step")
HORIZON = 50


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


def cases() -> list[object]:
    """Backends by phase, each with a clock of its own, grouped by phase in the printed tables."""
    clocks = [(backend, phase, PhaseClock(phase)) for phase in PHASES for backend in BACKENDS]
    return [
        pytest.param(
            backend,
            clock,
            marks=pytest.mark.benchmark(group=f"{phase}, T={HORIZON}", timer=clock),
            id=f"{phase}-{backend}",
        )
        for backend, phase, clock in clocks
    ]


@pytest.mark.parametrize(("name", "clock"), cases())
def test_digits_mlp(benchmark: BenchmarkFixture, name: str, clock: PhaseClock) -> None:
    backend = l2t.load_backend(name)
    problem = l2t.build_problem("digits/mlp")
    theta = problem.init_teacher(0)

    def outer_step() -> float:
        result = backend.teacher_gradient(problem, theta, horizon=HORIZON)
        clock.advance(result.cost)
        return result.value

    value = benchmark.pedantic(outer_step, rounds=10, warmup_rounds=2)
    assert 0 < value < 1
