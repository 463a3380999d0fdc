"""Predictions against what is then measured: peak bytes and seconds of a teacher gradient, each in a fresh process.

``python tests/benchmarks/predictions.py digits/mlp -b rmd -b "rmd[store=sqrt]" -T 100 1000`` prints a row for each
backend and horizon, as it comes, for a table in Markdown. The claim: bytes within 15 % or 64 MB, whichever is more,
seconds within 30 %; ``!`` stands where one is farther off. Both processes of a row run on this machine, one after the
other. Seconds mean something where it is quiet: beside their median stand the quickest and the slowest repeat, and the
share of the time in which a process had a core, the lesser of the two. What is predicted above a limit is not run.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch

import l2t_bench as l2t
from l2t_bench.errors import UserError
from l2t_bench.gradient import Cost
from l2t_bench.metabatch.contract import students_at_once, teacher_gradients
from l2t_bench.resident import release_free_memory, whole_pages

BACKENDS = (
    *("rmd", "rmd[store=sqrt]", "rmd[store=binomial]", "rmd[store=disk]", "rmd[store=reversible]"),
    *("rmd[engine=compiled]", "truncated[window=20]", "higher", "functorch"),
    *("implicit", "one-step", "evolution", "forward"),
)
HORIZONS = (10, 100, 1000, 10_000)
BYTES, BYTES_AT_LEAST, SECONDS = 0.15, 64e6, 0.30  # what a prediction may be off
ENOUGH = 20.0  # seconds of timed runs, of which there is one at least
WARM_UP = 5


@dataclass(frozen=True)
class Asked:
    """One row: what is predicted and measured."""

    problem: str
    backend: str
    horizon: int
    threads: int
    repeats: int
    most_bytes: float
    most_seconds: float


@dataclass(frozen=True)
class Found:
    """Peak bytes above the start, the seconds of every repeat, and the share of the time that was processor time."""

    bytes: int
    seconds: list[float]
    core: float


class Core:
    """The share of the time since it was made in which this process had the cores that it may use."""

    def __init__(self) -> None:
        self._begun, self._worked = time.perf_counter(), time.process_time()

    def share(self, threads: int) -> float:
        return (time.process_time() - self._worked) / (time.perf_counter() - self._begun) / threads


def predicted(asked: Asked) -> Found:
    torch.set_num_threads(asked.threads)
    backend, problem = l2t.load_backend(asked.backend), l2t.build_problem(asked.problem)
    core = Core()
    said = backend.predict(problem, asked.horizon)
    return Found(said.bytes, [said.seconds], core.share(asked.threads))


def measured(asked: Asked) -> Found:
    """Memory first, times after it, as a gradient cell does.

    The first run outside ``whole_pages`` does not count: it has the system give it memory that later ones find, and was
    seen to take 1.6 times as long where a step keeps megabytes.
    """
    torch.set_num_threads(asked.threads)
    backend, problem = l2t.load_backend(asked.backend), l2t.build_problem(asked.problem)
    theta, seeds = problem.init_teacher(0), range(students_at_once(backend))

    def cost(horizon: int) -> Cost:
        """The seconds of a student, the bytes of all that are taken at once."""
        found = teacher_gradients(backend, problem, theta, horizon=horizon, seeds=seeds)[0]
        if isinstance(found, l2t.Diverged):
            raise found
        return found.cost

    with whole_pages():
        cost(WARM_UP)
        release_free_memory()
        peak = cost(asked.horizon)
    above = peak.device_bytes if peak.device_bytes is not None else peak.host_bytes or 0
    cost(asked.horizon)
    core, seconds = Core(), [cost(asked.horizon).seconds]
    while len(seconds) < asked.repeats and sum(seconds) < ENOUGH:
        seconds.append(cost(asked.horizon).seconds)
    return Found(above, seconds, core.share(asked.threads))


def in_fresh_process(task: Callable[[Asked], Found], asked: Asked) -> Found:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(task, asked).result()


def row(asked: Asked) -> str:
    """The line of the table; a mark where a prediction is farther off than it may be."""
    begun = f"| `{asked.backend}` | {asked.horizon:,} |"
    try:
        said = in_fresh_process(predicted, asked)
        (expected,) = said.seconds
        if said.bytes > asked.most_bytes or expected > asked.most_seconds:
            return f"{begun} {said.bytes / 1e6:,.1f} | not run | | {expected:.3g} | not run | | | |"
        found = in_fresh_process(measured, asked)
    except (l2t.Refused, UserError) as refusal:
        return f"{begun} {refusal} | | | | | | | |"
    seconds = statistics.median(found.seconds)
    room = max(BYTES * found.bytes, BYTES_AT_LEAST)
    return (
        f"{begun} {said.bytes / 1e6:,.1f} | {found.bytes / 1e6:,.1f} | {_ratio(said.bytes, found.bytes, room)} |"
        f" {expected:.3g} | {seconds:.3g} | {_ratio(expected, seconds, SECONDS * seconds)} |"
        f" {min(found.seconds):.3g}–{max(found.seconds):.3g} | {min(said.core, found.core):.0%} |"
    )


def _ratio(said: float, found: float, room: float) -> str:
    """Their ratio, with a mark where they differ by more than ``room``."""
    return f"{said / max(found, 1e-9):.2f}{'!' if abs(said - found) > room else ''}"


def asked_for() -> tuple[str, list[Asked]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problem", nargs="?", default="digits/mlp")
    parser.add_argument("-b", "--backend", action="append", help="with options; repeatable")
    parser.add_argument("-T", "--horizons", type=int, nargs="+", default=HORIZONS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most-bytes", type=float, default=10e9, help="predicted: more is not run")
    parser.add_argument("--most-seconds", type=float, default=120.0, help="predicted: more is not run")
    given = parser.parse_args()
    how = (given.threads, given.repeats, given.most_bytes, given.most_seconds)
    rows = [
        Asked(given.problem, backend, horizon, *how)
        for backend in given.backend or BACKENDS
        for horizon in given.horizons
    ]
    return given.problem, rows


def show(problem: str, rows: Sequence[Asked]) -> None:
    print(f"{problem}: predicted, measured and their ratio; MB are of the peak above the start, seconds the median\n")
    print("| backend | T | MB predicted | measured | ratio | s predicted | measured | ratio | range | core |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for asked in rows:
        print(row(asked), flush=True)


if __name__ == "__main__":
    show(*asked_for())
