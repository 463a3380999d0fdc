"""Figures 3 and 4 of the paper: the teacher's climb with every backend, and the loss that it hands out.

Figure 3 is LeNet's dev measure along the teacher's optimisation, from the same seeds for every backend: the curves of
exact ones must coincide. Profiles for a CPU take it in float64: float32's rounding grows along a student's training,
and would part exact gradients within a few outer steps. Figure 4 is Phi_t of ResNet-8 on CIFAR-100, at epochs 20, 40
and 60.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.paper import assumed
from l2t_bench.suites.cells import Series
from l2t_bench.suites.paper_images import (
    BACKENDS,
    SHORT_BACKENDS,
    as_in_the_paper,
    cifar_horizon,
    papers_mnist,
    quick_cifar,
    quick_lenet,
    quick_mnist,
    smallest,
)
from l2t_bench.suites.settings import CoefficientSettings, TeachingSettings

VERSION = 1
_LENET = "mnist/lenet"
_LOOK = "l2t_bench.suites.coefficients:measure"
_LEARNED_BY = "rmd"  # exact: which gradient a matrix was learned by is no question of Figure 4
Problems = Mapping[str, TeachingSettings]
Looks = Mapping[str, tuple[TeachingSettings, CoefficientSettings]]


def _only(problems: Problems, *names: str) -> Problems:
    return {name: problems[name] for name in names}


def _climbs(profile: str, problems: Problems, request: Request, *, dtype: str = "float64") -> Sequence[Cell]:
    series = Series("figure3", VERSION, profile)
    backends = BACKENDS if profile == "paper" else SHORT_BACKENDS
    return [
        replace(series.teacher(problem, method, seed, settings), dtype=dtype)
        for seed in request.seeds or (0,)
        for problem, settings in problems.items()
        if not request.problems or problem in request.problems
        for method in request.backends or backends
    ]


FIGURE3 = Suite(
    "figure3",
    VERSION,
    "the paper's Figure 3: the dev measure along the teacher's optimisation, with every backend",
    {
        "paper": lambda request: _climbs("paper", _only(papers_mnist(), _LENET), request, dtype="float32"),
        "quick": lambda request: _climbs("quick", quick_lenet(), request),
        "smoke": lambda request: _climbs("smoke", smallest(quick_lenet()), request),
    },
    default_profile="quick",
)


def _looks(profile: str, problems: Looks, request: Request) -> Sequence[Cell]:
    series = Series("figure4", VERSION, profile)
    cells: list[Cell] = []
    for seed in request.seeds or (0,):
        for problem, (training, looking) in problems.items():
            if request.problems and problem not in request.problems:
                continue
            for method in request.backends or (_LEARNED_BY,):
                teacher = series.teacher(problem, method, seed, training)
                settings = asdict(replace(looking, problem=training.problem, horizon=training.horizon))
                look = series.cell("phi", problem, method, seed, _LOOK, settings, needs=teacher.cell_id)
                cells += [teacher, look]
    return cells


def _papers_look() -> Looks:
    training = as_in_the_paper("cifar100/resnet8", lr=0.1, horizon=cifar_horizon(), outer_steps=100)
    epochs = tuple(epoch / assumed.CIFAR_EPOCHS for epoch in (20, 40, 60))
    looking = CoefficientSettings(at=epochs, pairs=assumed.FIGURE4_PAIRS, names=assumed.CIFAR100_NAMES)
    return {"cifar100/resnet8": (training, looking)}


def _quick_looks(*, small: bool) -> Looks:
    problems = {**_only(quick_mnist(), "mnist/mlp"), **quick_cifar()}
    shown = smallest(problems) if small else problems
    return {name: (settings, CoefficientSettings()) for name, settings in shown.items()}


FIGURE4 = Suite(
    "figure4",
    VERSION,
    "the paper's Figure 4: what the teacher's Phi_t asks of classes that are alike and of others",
    {
        "paper": lambda request: _looks("paper", _papers_look(), request),
        "quick": lambda request: _looks("quick", _quick_looks(small=False), request),
        "smoke": lambda request: _looks("smoke", _quick_looks(small=True), request),
    },
    default_profile="quick",
)
