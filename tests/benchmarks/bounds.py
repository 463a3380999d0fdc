"""The figures that are claimed of memory and time, each held to its bound: a row a claim, as Markdown.

``python tests/benchmarks/bounds.py [--problem P] [--shorter N]`` takes three quarters of an hour of one core, most of
it the 10,000 steps at the end; ``--shorter N`` divides every horizon by N, to try the script out. Each figure is
measured in a process of its own: peaks above the start as gradient cells measure them (``alone.py``), times in turn in
one process. The exit code is 1 where a bound is not reached.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from alone import WARM_UP, peaks_above_start

import l2t_bench as l2t
from l2t_bench.backend import Run
from l2t_bench.measure import Meter
from l2t_bench.resident import available_bytes
from l2t_bench.rollout import Rollout
from l2t_bench.stored import StoredRMD
from l2t_bench.units import told

ALL, SQRT, REVERSIBLE = "rmd", "rmd[store=sqrt]", "rmd[store=reversible]"
ROUNDS = 5  # of the methods that are timed in turn
SHORT = 200  # the horizon up to which a peak is the median of three runs, and not of one
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """A figure, the bound that it is to stay below, and how it was found."""

    name: str
    value: float
    bound: float
    found: str

    @property
    def reached(self) -> bool:
        return self.value <= self.bound

    @property
    def row(self) -> str:
        verdict = "reached" if self.reached else "not reached"
        return f"| {self.name} | {self.value:#.3g} | {self.bound:.3g} | {verdict} | {self.found} |"


def claims(problem: str, shorter: int) -> Iterator[Claim]:
    """Each as it has been measured; the longest last."""
    at = {horizon: horizon // shorter for horizon in (200, 500, 2_000, 10_000)}
    yield of_memory(problem, at[200], "rmd", "higher", 1 / 4)
    yield of_time(problem, at[500], SQRT, ALL, 1.45)
    yield of_memory(problem, at[2_000], SQRT, ALL, 1 / 10)
    yield of_time(problem, at[2_000], SQRT, ALL, 1.45, rounds=3)
    bits = fresh(bits_kept, problem, at[2_000])
    yield Claim(f"bits per parameter and step, momentum 0.9, T={at[2_000]:,}", bits, 0.25, "what the store holds")
    yield of_long_memory(problem, at[10_000], (at[200], at[2_000]), 1 / 20)


def of_memory(problem: str, horizon: int, method: str, against: str, bound: float) -> Claim:
    peaks = [peak(problem, horizon, name) for name in (method, against)]
    found = " over ".join(map(told, peaks))
    return Claim(f"memory of `{method}` over `{against}`, T={horizon:,}", peaks[0] / peaks[1], bound, found)


def of_time(problem: str, horizon: int, method: str, against: str, bound: float, rounds: int = ROUNDS) -> Claim:
    ratios = fresh(ratios_in_turn, problem, horizon, method, against, rounds)
    found = f"median of {len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f}"
    return Claim(f"time of `{method}` over `{against}`, T={horizon:,}", statistics.median(ratios), bound, found)


def of_long_memory(problem: str, horizon: int, shorter: tuple[int, int], bound: float) -> Claim:
    """``reversible`` over ``all``, whose peak is that of two shorter horizons carried on where it would not fit."""
    carried_on = line([(steps, peak(problem, steps, ALL)) for steps in shorter], horizon)
    fits = carried_on <= (available_bytes() or 0) / 2  # others may be at work
    whole = peak(problem, horizon, ALL) if fits else carried_on
    own = peak(problem, horizon, REVERSIBLE)
    how = "" if fits else f", the latter by the line through T={shorter[0]:,} and {shorter[1]:,}"
    name = f"memory of `{REVERSIBLE}` over `{ALL}`, T={horizon:,}"
    return Claim(name, own / whole, bound, f"{told(own)} over {told(whole)}{how}")


def line(points: list[tuple[int, float]], at: int) -> float:
    (first, low), (second, high) = points
    return high + (high - low) / (second - first) * (at - second)


# -- in processes of their own


def fresh(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``function`` returns in a process that has run nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


@cache
def peak(problem: str, horizon: int, method: str) -> float:
    """Bytes above the start."""
    return fresh(peak_here, problem, horizon, method)


def peak_here(problem_name: str, horizon: int, method: str) -> float:
    problem = l2t.build_problem(problem_name)
    theta, runs = problem.init_teacher(0), 3 if horizon <= SHORT else 1
    peaks, _ = peaks_above_start(l2t.load_backend(method), problem, theta, horizon, runs)
    if not peaks:
        raise SystemExit("this platform does not tell a process's peak memory")
    return statistics.median(peaks)


def ratios_in_turn(problem_name: str, horizon: int, method: str, against: str, rounds: int) -> list[float]:
    """Of the seconds of an outer step, a ratio a round; both are warmed up before."""
    problem = l2t.build_problem(problem_name)
    theta, backends = problem.init_teacher(0), [l2t.load_backend(name) for name in (method, against)]

    def seconds(steps: int) -> list[float]:
        return [backend.teacher_gradient(problem, theta, horizon=steps).cost.seconds for backend in backends]

    seconds(WARM_UP)
    return [first / second for first, second in (seconds(horizon) for _ in range(rounds))]


def bits_kept(problem_name: str, horizon: int) -> float:
    """What the reversible store holds at omega_T beyond what one step leaves, in bits of a parameter and step."""
    problem, method = l2t.build_problem(problem_name), l2t.load_backend(REVERSIBLE)
    assert isinstance(method, StoredRMD)
    run = Run(Rollout(problem, problem.init_teacher(0), horizon=horizon), Meter(problem.device))
    constant = method.law(problem, 1).bytes or 0
    with method.trained(run) as (store, final):
        kept: int = store.bytes  # type: ignore[attr-defined]
    return 8 * (kept - constant) / sum(param.numel() for param in final.params.values()) / horizon


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", default="mnist/lenet[batch=20]")
    parser.add_argument("--shorter", type=int, default=1)
    given = parser.parse_args()
    print(f"{given.problem}\n\n| claim | value | at most | | |\n|---|---:|---:|---|---|", flush=True)
    reached = []
    for claim in claims(given.problem, given.shorter):
        print(claim.row, flush=True)
        reached.append(claim.reached)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
