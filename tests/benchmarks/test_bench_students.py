"""Micro-benchmark: an outer step of several small students, taken one by one and in one vmapped rollout.

The ways take turns in one process. Each case reports the seconds of the whole outer step in those turns, and
``extra_info`` its median over that of the same engine one by one.
"""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import l2t_bench as l2t
from l2t_bench.metabatch.contract import teacher_gradients

PROBLEM, HORIZON, STUDENTS, ROUNDS, WARM_UP = "digits/mlp[batch=20,features=none]", 100, 8, 7, 10
WAYS: Mapping[str, str] = {  # a way, and the same engine one by one
    "rmd": "rmd",
    f"rmd[students={STUDENTS}]": "rmd",
    "rmd[engine=compiled]": "rmd[engine=compiled]",
    f"rmd[engine=compiled,students={STUDENTS}]": "rmd[engine=compiled]",
}


class Seconds:
    """A timer that advances by the seconds that were measured in turn with the others."""

    __name__ = "Seconds"  # pytest-benchmark writes the timer's name into its record

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds


@cache
def turns() -> Mapping[str, list[float]]:
    """The seconds of every way, ``ROUNDS`` of each, taken in turn after a short run of each.

    Who comes after whom is drawn anew for each round, the same in every session.
    """
    problem = l2t.build_problem(PROBLEM)
    theta, backends = problem.init_teacher(0), {way: l2t.load_backend(way) for way in WAYS}
    for backend in backends.values():
        teacher_gradients(backend, problem, theta, horizon=WARM_UP, seeds=range(STUDENTS))
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    generator = random.Random(0)
    for _ in range(ROUNDS):
        for way, backend in generator.sample(list(backends.items()), len(backends)):
            begun = time.perf_counter()
            results = teacher_gradients(backend, problem, theta, horizon=HORIZON, seeds=range(STUDENTS))
            found[way].append(time.perf_counter() - begun)
            assert not any(result.warnings for result in results if isinstance(result, l2t.TeacherGradient))
    return found


def cases() -> Iterator[object]:
    """Every way, with a timer of its own."""
    for way in WAYS:
        timer = Seconds()
        mark = pytest.mark.benchmark(group=f"{PROBLEM}, T={HORIZON}, {STUDENTS} students", timer=timer)
        yield pytest.param(way, timer, marks=mark, id=way)


@pytest.mark.parametrize(("way", "timer"), list(cases()))
def test_students_of_an_outer_step(benchmark: BenchmarkFixture, way: str, timer: Seconds) -> None:
    if not benchmark.enabled or benchmark.disabled:
        pytest.skip("only timed on demand")
    seconds = iter(turns()[way])
    benchmark.pedantic(lambda: timer.advance(next(seconds)), rounds=ROUNDS, iterations=1)
    ratio = statistics.median(turns()[way]) / statistics.median(turns()[WAYS[way]])
    benchmark.extra_info.update({"problem": PROBLEM, "horizon": HORIZON, "backend": way, "ratio": ratio})
