"""Where a learned loss should shine: wrong labels in the training set, a clean dev set (beyond the paper).

Digits and MNIST with 20 and 40 % of the training labels flipped to the next class, or to any other, and as they are.
Beside the learned loss: the same teacher untrained, a learned Phi that does not change, cross entropy at a constant and
at a decaying lr, label smoothing, cross entropy on train and dev together, and the forward correction, which is told
the transition matrix. Each has its own lr, chosen on dev. Each seed has a split of the data of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.names import write_spec
from l2t_bench.suites.settings import TeachingSettings

VERSION = 4
NAME = "noisy-labels"
FIRST_SPLIT = 12  # of seed 0; nothing was chosen on it and those after it, where split 11 had led to larger dev sets
LEARNED_BY = ("rmd[engine=auto]",)
CONTROLS = (
    *("untrained-teacher", "static-teacher", "label-smoothing"),
    *("cross-entropy", "cross-entropy-constant", "cross-entropy-decayed", "cross-entropy-dev-too"),
)


@dataclass(frozen=True)
class Pupils:
    """Who is taught: a problem, and how many train and dev hold and the student's size, if not the problem's own."""

    problem: str
    sizes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Where Phi begins, and how a teacher learns."""

    gain: float
    smoothing: float
    outer_steps: int
    teacher_lr: float
    lr: float = 0.4  # of the students
    select_every: int = 20
    select_students: int = 16


@dataclass(frozen=True)
class Noise:
    """How the labels of whom are spoilt, and by which recipe their teacher learns."""

    kind: str
    rate: float
    recipe: Recipe
    pupils: Pupils

    @property
    def problem(self) -> str:
        """What a report calls it."""
        return write_spec(self.pupils.problem, self._labels)

    @property
    def _labels(self) -> dict[str, str]:
        return {"label_noise": self.kind} | ({"noise_rate": f"{self.rate:g}"} if self.rate else {})

    @property
    def corrections(self) -> tuple[str, ...]:
        """What is told the transition matrix, where there is one."""
        noise = {"noise": self.kind, "rate": f"{self.rate:g}"}
        return (write_spec("forward-correction", noise),) if self.rate else ()

    def settings(self, *, fresh_students: int, horizon: int) -> TeachingSettings:
        recipe = self.recipe
        options = {**self._labels, **self.pupils.sizes, "lr": f"{recipe.lr:g}"}
        options |= {"schedule": "linear", "beta": "4", "gain": f"{recipe.gain:g}", "smoothing": f"{recipe.smoothing:g}"}
        near = (recipe.lr / 2, recipe.lr, 2 * recipe.lr)
        return TeachingSettings(
            problem=write_spec(self.pupils.problem, options),
            first_split=FIRST_SPLIT,
            lr=recipe.lr,
            horizon=horizon,
            outer_steps=recipe.outer_steps,
            students=1,
            teacher_lr=recipe.teacher_lr,
            select_every=recipe.select_every,
            select_students=recipe.select_students,
            learned_grid=near,
            untrained_grid=(*near, 4 * recipe.lr),
            fixed_grid=(0.0125, 0.025, 0.05, 0.1, 0.2, 0.4),
            fresh_students=fresh_students,
        )


# A dev set that is larger than train: what a teacher learns of one of 400 images it does not keep on test.
DIGITS = Pupils("digits/mlp", MappingProxyType({"train": "500", "dev": "800"}))
FEW_DIGITS = Pupils("digits/mlp", MappingProxyType({"train": "200", "dev": "1100"}))
MNIST = Pupils("mnist/mlp", MappingProxyType({"hidden": "100", "train": "1000", "dev": "5000"}))

# Chosen on splits 1 and 2. A pair flip is undone by a Phi that has come far from where it began, by five times the
# teacher lr; the same teacher lr kills the students of symmetric noise.
PAIR_FLIP = Recipe(gain=0.3, smoothing=0.1, outer_steps=300, teacher_lr=0.015, select_every=60)
SYMMETRIC = Recipe(gain=1.0, smoothing=0.0, outer_steps=100, teacher_lr=0.003)
CLEAN = Recipe(gain=0.3, smoothing=0.0, outer_steps=100, teacher_lr=0.003, lr=1.2)
_RATES = (0.2, 0.4)
NOISES = (
    *(Noise("pair-flip", rate, PAIR_FLIP, DIGITS) for rate in _RATES),
    *(Noise("symmetric", rate, SYMMETRIC, DIGITS) for rate in _RATES),
    Noise("none", 0.0, CLEAN, FEW_DIGITS),
    *(Noise("pair-flip", rate, replace(PAIR_FLIP, outer_steps=100, select_every=20), MNIST) for rate in _RATES),
    *(Noise("symmetric", rate, SYMMETRIC, MNIST) for rate in _RATES),
)


def quick(request: Request) -> Sequence[Cell]:
    """Four kinds of noise on digits and on MNIST, and none on digits; 32 fresh students."""
    return _cells(request, "quick", NOISES, fresh_students=32, horizon=300)


def smoke(request: Request) -> Sequence[Cell]:
    """One kind of noise, two outer steps: does it all run?"""
    small = Noise("pair-flip", 0.4, replace(PAIR_FLIP, outer_steps=2), DIGITS)
    return _cells(request, "smoke", (small,), fresh_students=2, horizon=20)


def _cells(request: Request, profile: str, noises: Sequence[Noise], *, fresh_students: int, horizon: int) -> list[Cell]:
    return [
        Cell(
            suite=NAME,
            suite_version=VERSION,
            profile=profile,
            kind="teaching",
            problem=noise.problem,
            method=method,
            seed=seed,
            task="l2t_bench.suites.teaching:measure",
            settings=asdict(noise.settings(fresh_students=fresh_students, horizon=horizon)),
            timed=False,
        )
        for seed in request.seeds or (0,)
        for noise in noises
        if not request.problems or noise.problem in request.problems
        for method in (*(request.backends or LEARNED_BY), *CONTROLS, *noise.corrections)
    ]


SUITE = Suite(
    name=NAME,
    version=VERSION,
    summary="learned losses against fixed ones, on digits and MNIST with wrong training labels and a clean dev set",
    profiles={"quick": quick, "smoke": smoke},
    default_profile="quick",
)
