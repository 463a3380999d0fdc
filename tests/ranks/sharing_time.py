"""What it brings to share a batch out: seconds of a teacher gradient, by ranks of one thread and by one of as many.

``torchrun --nproc-per-node 2 tests/ranks/sharing_time.py PROBLEM HORIZON ROUNDS``: they take turns in one job.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

import l2t_bench as l2t
from l2t_bench.distributed.joined import JoinedRanks
from l2t_bench.distributed.problem import sharded
from l2t_bench.distributed.ranks import launched


def main(problem_name: str, horizon: int, rounds: int) -> None:
    launch = launched()
    assert launch is not None, "started by torchrun"
    ranks = JoinedRanks(launch.rank, launch.count)
    with ranks.joined(torch.device("cpu")):
        problem = l2t.build_problem(problem_name)
        shared, theta, method = sharded(problem, ranks), problem.init_teacher(0), l2t.load_backend("rmd")

        def together() -> None:
            method.teacher_gradient(shared, theta, horizon=horizon)

        def alone() -> None:
            if ranks.is_first:
                method.teacher_gradient(problem, theta, horizon=horizon)

        def timed(work: Callable[[], None], threads: int) -> float:
            torch.set_num_threads(threads)
            ranks.gathered(None, "a round")
            begun = time.perf_counter()
            work()
            ranks.gathered(None, "a round")
            return time.perf_counter() - begun

        works = {
            f"{ranks.count} ranks of a thread": (together, 1),
            f"one of {ranks.count} threads": (alone, ranks.count),
            "one of a thread": (alone, 1),
        }
        turns = [[timed(*work) for work in works.values()] for _ in range(rounds + 1)][1:]  # looks come once
        if ranks.is_first:
            for name, seconds in zip(works, zip(*turns, strict=True), strict=True):
                ratios = sorted(turn[0] / taken for turn, taken in zip(turns, seconds, strict=True))
                print(
                    f"{name}: {statistics.median(seconds):.2f} s, smallest {min(seconds):.2f}; the ranks take "
                    f"{statistics.median(ratios):.2f} of it, {ratios[0]:.2f} to {ratios[-1]:.2f}"
                )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
