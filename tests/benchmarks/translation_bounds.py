"""The figures that are claimed of translating students, each held to its bound: a row a claim, as Markdown.

``python tests/benchmarks/translation_bounds.py [--large P] [--small P] [--horizons 20 10]``, with the threads that
OMP_NUM_THREADS gives. ``--large``: an LSTM-1 with 25k words, batch 32; left out, on the tokenised IWSLT-14 of the data
root, else on numbers in words with a vocabulary of that size. Of ``--horizons`` the first is taken that ``higher`` fits
at. Measured as in ``bounds.py``, each figure in a process of its own. The exit code is 1 where a bound is not reached.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bounds import Claim, fresh, of_memory, ratios_in_turn

import l2t_bench as l2t
from l2t_bench.data.root import VARIABLE
from l2t_bench.fitting import predict_bytes
from l2t_bench.resident import available_bytes
from l2t_bench.translating import translate

PEERS = ("higher", "torchopt", "functorch")
OURS = ("rmd", "rmd[store=graph]")
ROUNDS = 5
SENTENCES = 6_750  # of IWSLT-14's test set
LEAN = "rmd[store=sqrt,microbatches=4]"  # a batch's graph is larger than the student: neither saves enough alone
LARGE = "source_vocabulary=25004,target_vocabulary=25004,dev=8,dev_chunk=2"
"""A fresh student's candidates for dev go on to their longest: they would take longer than the run, and hold more."""


def claims(large: str, small: str, horizons: Sequence[int]) -> Iterator[Claim]:
    """Each as it has been measured."""
    yield of_decoding(large)
    yield of_peers(small, 20)
    horizon = next((steps for steps in horizons if fresh(fits, large, steps)), horizons[-1])
    yield of_memory(large, horizon, LEAN, "higher", 1 / 5)
    for method, bound in ((LEAN, 1.4), ("rmd[store=graph]", 1.1)):
        ratios = fresh(ratios_in_turn, large, horizon, method, "higher")
        found = f"median of {len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f}"
        yield Claim(f"time of `{method}` over `higher`, T={horizon}", statistics.median(ratios), bound, found)


def fits(problem_name: str, horizon: int) -> bool:
    """Whether ``higher`` is predicted to fit, by short runs."""
    wanted = predict_bytes(l2t.load_backend("higher"), l2t.build_problem(problem_name), horizon)
    return wanted < 0.9 * (available_bytes() or 0)


def of_peers(problem_name: str, horizon: int) -> Claim:
    """The quickest of ours over the quickest of the peers, whichever these are, by the median of rounds in turn."""
    seconds = fresh(seconds_in_turn, problem_name, horizon)
    ours, peer = (min(names, key=lambda name: statistics.median(seconds[name])) for names in (OURS, PEERS))
    ratios = [first / second for first, second in zip(seconds[ours], seconds[peer], strict=True)]
    found = f"median of {len(ratios)} rounds, {min(ratios):.2f} to {max(ratios):.2f}; {min(seconds[ours]):.3g} s"
    name = f"time of `{ours}` over `{peer}` on `{problem_name}`, T={horizon}"
    return Claim(name, statistics.median(ratios), 0.9, found)


def seconds_in_turn(problem_name: str, horizon: int) -> dict[str, list[float]]:
    """Seconds of an outer step by method, a number a round; all have had a run before."""
    problem = l2t.build_problem(problem_name)
    theta, backends = problem.init_teacher(0), {name: l2t.load_backend(name) for name in (*OURS, *PEERS)}
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for turn in range(1 + ROUNDS):
        for name, backend in backends.items():
            cost = backend.teacher_gradient(problem, theta, horizon=horizon).cost
            if turn:
                seconds[name].append(cost.seconds)
    return seconds


def of_decoding(problem_name: str) -> Claim:
    """Of a test part as long as IWSLT-14's; a student that has not learned to end says the longest there may be."""
    count, seconds = fresh(decoded, problem_name)
    found = f"{seconds:.3g} s for {count:,} sentences, a fresh student's"
    return Claim(f"minutes of greedy decoding, {SENTENCES:,} sentences", seconds / 60 * SENTENCES / count, 5, found)


def decoded(problem_name: str) -> tuple[int, float]:
    problem = l2t.build_problem(problem_name)
    state = problem.init_student(0)
    translate(problem, state, "dev")
    count = sum(len(targets) for _, targets in problem.test_batches)
    begun = time.perf_counter()
    translate(problem, state, "test")
    return count, time.perf_counter() - begun


def large_problem() -> str:
    folder = Path(os.environ.get(VARIABLE, "nowhere")) / "iwslt14"
    if (folder / "train.de").is_file():
        return f"parallel-text/lstm1[path={folder},{LARGE}]"
    return f"numbers/lstm1[test={SENTENCES},{LARGE}]"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", default=None)
    parser.add_argument("--small", default="numbers/lstm1")
    parser.add_argument("--horizons", type=int, nargs="+", default=[20, 10])
    given = parser.parse_args()
    large = given.large or large_problem()
    print(f"{large}\n\n| claim | value | at most | | |\n|---|---:|---:|---|---|", flush=True)
    reached = []
    for claim in claims(large, given.small, given.horizons):
        print(claim.row, flush=True)
        reached.append(claim.reached)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
