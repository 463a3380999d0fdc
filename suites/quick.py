"""The main job: six ways of computing the teacher gradient on real digits, and Algorithm 1 with three of them.

Gradient cells compare time, memory and direction; teaching cells train a teacher and then fresh students under it,
beside the untrained teacher and cross entropy.
"""

from collections.abc import Sequence
from dataclasses import asdict

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.suites.settings import TeachingSettings

VERSION = 2
BACKENDS = ("rmd", "truncated[window=10]", "higher", "torchopt", "torchopt-implicit", "functorch")
PROBLEMS = ("digits/mlp", "digits/lenet")
TEACHING_PROBLEM = PROBLEMS[0]
LEARNED_BY = ("rmd", "higher", "truncated[window=100]")
CONTROLS = ("untrained-teacher", "cross-entropy")
SEEDS = 5


def quick(request: Request) -> Sequence[Cell]:
    """Every backend x both students x five seeds, horizons 20 and 100; then the teachers and their controls."""
    settings = {"horizons": [20, 100], "repeats": [3, 1]}
    return [*_gradient_cells(request, "quick", PROBLEMS, SEEDS, settings), *_teaching_cells(request)]


def smoke(request: Request) -> Sequence[Cell]:
    """Every backend on one student, T=20, one seed: does it all run?"""
    return _gradient_cells(request, "smoke", PROBLEMS[:1], 1, {"horizons": [20], "repeats": [3]})


def _gradient_cells(
    request: Request, profile: str, problems: Sequence[str], seeds: int, settings: dict[str, list[int]]
) -> list[Cell]:
    return [
        Cell(
            suite="quick",
            suite_version=VERSION,
            profile=profile,
            kind="gradient",
            problem=problem,
            method=method,
            seed=seed,
            task="l2t_bench.engine.gradient_cell:measure",
            settings=settings,
        )
        for seed in request.seeds or range(seeds)
        for problem in request.problems or problems
        for method in request.backends or BACKENDS
    ]


def _teaching_cells(request: Request) -> list[Cell]:
    """Teachers learned with the backends asked for, of those that learn here; none for another problem."""
    if request.problems and TEACHING_PROBLEM not in request.problems:
        return []
    methods = [method for method in LEARNED_BY if not request.backends or method in request.backends]
    return [
        Cell(
            suite="quick",
            suite_version=VERSION,
            profile="quick",
            kind="teaching",
            problem=TEACHING_PROBLEM,
            method=method,
            seed=0,
            task="l2t_bench.suites.teaching:measure",
            settings=asdict(TeachingSettings()),
            timed=False,
        )
        for method in (*methods, *CONTROLS)
    ]


SUITE = Suite(
    name="quick",
    version=VERSION,
    summary="six teacher gradients on handwritten digits, and teachers learned with three of them",
    profiles={"quick": quick, "smoke": smoke},
    default_profile="quick",
)
