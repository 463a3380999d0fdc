"""Is the chosen backend the best one? ``python tests/benchmarks/selection.py`` chooses, and then runs every candidate.

On each case (problem, horizon, memory limit) the choice is made with ``select_backend``; then all exact candidates are
run in turn, those too that it rejected by its rules and its predictions. Right is a choice that takes at most 1.1 times
the time of the quickest of those that stayed within the limit. Prints a row for each case, for a table in Markdown.
"""

import argparse
import statistics
from dataclasses import dataclass

import torch

import l2t_bench as l2t
from l2t_bench.gradient import Cost
from l2t_bench.resident import release_free_memory, resident_bytes, whole_pages
from l2t_bench.selection.candidates import EXACT
from l2t_bench.units import told

DIGITS, MLP, LENET = (
    "digits/mlp[features=none]",
    "mnist/mlp[batch=20,dev=1000,features=none]",
    "mnist/lenet[batch=20,dev=1000,features=none]",
)
MB = 10**6


@dataclass(frozen=True)
class Case:
    """``room``: bytes above what the process holds."""

    problem: str
    horizon: int
    room: int


CASES = (
    *(Case(DIGITS, horizon, room * MB) for horizon, room in ((100, 2), (100, 500), (1000, 3), (1000, 10), (1000, 500))),
    *(Case(MLP, horizon, room * MB) for horizon, room in ((20, 500), (100, 60), (100, 120), (100, 1000))),
    *(Case(LENET, horizon, room * MB) for horizon, room in ((10, 500), (50, 110), (50, 150), (50, 1000))),
)
ROUNDS, MOST, ENOUGH_SECONDS = 3, 25, 2.0  # a run of some hundredths of a second is by chance a third longer
ENOUGH = 1.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="*", help="the numbers of cases, from 0")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| problem | T | limit above the start | chosen | s | quickest that fits | s | ratio | |")
    print("|---|--:|--:|---|--:|---|--:|--:|---|", flush=True)
    for number, case in enumerate(CASES):
        if given.only is None or number in given.only:
            print(row(case), flush=True)


def row(case: Case) -> str:
    problem = l2t.build_problem(case.problem)
    release_free_memory()
    limit = (resident_bytes() or 0) + case.room
    decision = l2t.select_backend(problem, horizon=case.horizon, memory_limit=limit)
    exact = [each.method for each in decision.candidates if each.exactness in EXACT and each.bytes is not None]
    found = measured(problem, case.horizon, exact)
    fitting = {name: seconds for name, (seconds, size) in found.items() if size <= case.room}
    chosen = decision.taken().method
    best = min(fitting, key=lambda name: fitting[name])
    ratio = found[chosen][0] / fitting[best]
    right = chosen in fitting and ratio <= ENOUGH
    return (
        f"| `{case.problem}` | {case.horizon:,} | {told(case.room)} | `{chosen}` | {found[chosen][0]:.3g} "
        f"| `{best}` | {fitting[best]:.3g} | {ratio:.2f} | {'' if right else '!'} |"
    )


def measured(problem: l2t.TeachingProblem, horizon: int, methods: list[str]) -> dict[str, tuple[float, int]]:
    """Seconds, the median of rounds in turn, more of them the shorter they are, and the peak above the start."""
    theta = problem.init_teacher(0)
    backends = {name: l2t.load_backend(name) for name in methods}

    def cost(name: str) -> Cost:
        return backends[name].teacher_gradient(problem, theta, horizon=horizon).cost

    sizes = {}
    with whole_pages():
        for name in methods:
            cost(name)  # what is made once for a problem
            release_free_memory()
            sizes[name] = cost(name).host_bytes or 0
    quickest = min(cost(name).seconds for name in methods)
    count = min(MOST, max(ROUNDS, int(ENOUGH_SECONDS / quickest)))
    rounds = [{name: cost(name).seconds for name in methods} for _ in range(count)]
    return {name: (statistics.median(each[name] for each in rounds), sizes[name]) for name in methods}


if __name__ == "__main__":
    main()
