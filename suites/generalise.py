"""Does a teacher teach others than it has learned with (beyond the paper): another student, a run four times as long?

Beside the teacher from elsewhere stand, on the same students: the one that learned with them, the untrained one, a
learned Phi that does not change, and fixed losses. What is carried over is theta; the student's lr is chosen on dev
anew, as every loss's is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.names import write_spec
from l2t_bench.suites.cells import Series
from l2t_bench.suites.controls import CROSS_ENTROPY, STATIC, UNTRAINED
from l2t_bench.suites.settings import TeachingSettings

VERSION = 2
NAME = "generalise"
LEARNED_BY = "rmd"
CONTROLS = (
    *(UNTRAINED, "label-smoothing"),
    *(CROSS_ENTROPY, "cross-entropy-constant", "cross-entropy-decayed", "cross-entropy-dev-too"),
)
_RECIPE = "beta=4,gain=0.3,refresh=20,schedule=linear"
_SMALL_CIFAR = "batch=32,dev=1000,filters=4,lr=0.1,train=1000"


@dataclass(frozen=True)
class Pupil:
    """Students of one kind, trained for so long."""

    problem: str
    options: str
    horizon: int
    lr: float

    @property
    def name(self) -> str:
        """What a report calls it: runs of two lengths are two problems."""
        return write_spec(self.problem, {"horizon": str(self.horizon)})

    def settings(self, base: TeachingSettings) -> TeachingSettings:
        near = (self.lr / 2, self.lr, 2 * self.lr)
        return replace(
            base,
            problem=f"{self.problem}[{self.options},{_RECIPE}]",
            horizon=self.horizon,
            lr=self.lr,
            learned_grid=near,
            untrained_grid=(*near, 4 * self.lr),
        )


_DIGITS = "dev=700,lr={lr},split=5,train=300"
MLP = Pupil("digits/mlp", _DIGITS.format(lr=1.2), 300, 1.2)
SHORT_MLP = replace(MLP, horizon=75)
LENET = Pupil("digits/lenet", f"hidden=50,{_DIGITS.format(lr=0.6)}", 300, 0.6)
RESNET8 = Pupil("cifar10/resnet8", _SMALL_CIFAR, 60, 0.4)
RESNET20 = Pupil("cifar10/resnet20", _SMALL_CIFAR, 60, 0.4)
TRANSFERS = ((MLP, LENET), (SHORT_MLP, MLP), (RESNET8, RESNET20))


def _cells(
    request: Request, profile: str, transfers: Sequence[tuple[Pupil, Pupil]], base: TeachingSettings
) -> Sequence[Cell]:
    series = Series(NAME, VERSION, profile)
    return [
        cell
        for seed in request.seeds or (0,)
        for source, target in transfers
        if not request.problems or target.problem in request.problems
        for cell in _of_transfer(series, source, target, seed, base, request.backends or (LEARNED_BY,))
    ]


def _of_transfer(
    series: Series, source: Pupil, target: Pupil, seed: int, base: TeachingSettings, methods: Sequence[str]
) -> list[Cell]:
    settings = target.settings(base)
    cells: list[Cell] = []
    for method in methods:
        elsewhere = series.teacher(source.name, method, seed, source.settings(base))
        carried = write_spec(method.partition("[")[0], {"from": f"{source.problem}-T{source.horizon}"})
        cells += [elsewhere, series.taught(target.name, carried, seed, settings, elsewhere.cell_id)]
        cells += series.learned_and_taught(target.name, method, seed, settings)
    cells += series.learned_and_taught(target.name, STATIC, seed, settings)
    return [*cells, *(series.taught(target.name, method, seed, settings) for method in CONTROLS)]


def _once(cells: Sequence[Cell]) -> list[Cell]:
    """A teacher that several need is trained once."""
    return list({cell.cell_id: cell for cell in cells}.values())


_QUICK = TeachingSettings(outer_steps=60, students=1, select_every=20, select_students=8, fresh_students=20)
_SMOKE = replace(_QUICK, outer_steps=2, select_every=1, select_students=1, tuning_students=1, fresh_students=2)
SUITE = Suite(
    NAME,
    VERSION,
    "teachers on students that they have not learned with: another network, a longer run",
    {
        "quick": lambda request: _once(_cells(request, "quick", TRANSFERS, _QUICK)),
        "smoke": lambda request: _once(_cells(request, "smoke", ((SHORT_MLP, MLP),), _SMOKE)),
    },
    default_profile="quick",
)
