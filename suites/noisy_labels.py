"""Where a learned loss should shine: wrong labels in the training set, a clean dev set (beyond the paper).

Digits and MNIST with 20 and 40 % of the training labels flipped to the next class, or to any other, and as they are.
Beside the learned loss: the same teacher untrained, a learned Phi that does not change, cross entropy at a constant and
at a decaying lr, label smoothing, cross entropy on train and dev together, and the forward correction, which is told
the transition matrix. Each has its own lr, chosen on dev.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.names import write_spec
from l2t_bench.suites.settings import TeachingSettings

VERSION = 2
NAME = "noisy-labels"
SPLIT = 5  # none that a setting was chosen on
LEARNED_BY = ("rmd",)
CONTROLS = ("untrained-teacher", "static-teacher", "cross-entropy", "label-smoothing", "cross-entropy-dev-too")


@dataclass(frozen=True)
class Pupils:
    """Who is taught, and how long a teacher learns with them."""

    student: str
    sizes: Mapping[str, str] = field(default_factory=dict)  # of student, train and dev, if not the problem's own
    outer_steps: int = 100
    students: int = 2
    select_every: int = 20
    select_students: int = 16


DIGITS = Pupils("digits/mlp")
MNIST = Pupils(
    "mnist/mlp",
    MappingProxyType({"hidden": "100", "train": "1000", "dev": "5000"}),
    outer_steps=40,
    students=1,
    select_every=10,
    select_students=8,
)


@dataclass(frozen=True)
class Noise:
    """How the labels are spoilt, and where Phi begins: settings that were chosen on other splits of digits."""

    kind: str
    rate: float
    gain: float
    smoothing: float
    lr: float = 0.4  # of the students that the teacher is trained on
    pupils: Pupils = DIGITS

    @property
    def problem(self) -> str:
        """What a report calls it."""
        return write_spec(self.pupils.student, self._labels)

    @property
    def _labels(self) -> dict[str, str]:
        return {"label_noise": self.kind} | ({"noise_rate": f"{self.rate:g}"} if self.rate else {})

    @property
    def corrections(self) -> tuple[str, ...]:
        """What is told the transition matrix, where there is one."""
        noise = {"noise": self.kind, "rate": f"{self.rate:g}"}
        return (write_spec("forward-correction", noise),) if self.rate else ()

    def settings(self, *, fresh_students: int, horizon: int) -> TeachingSettings:
        options = {**self._labels, **self.pupils.sizes, "split": str(SPLIT), "lr": f"{self.lr:g}"}
        options |= {"schedule": "linear", "beta": "4", "gain": f"{self.gain:g}", "smoothing": f"{self.smoothing:g}"}
        near = (self.lr / 2, self.lr, 2 * self.lr)
        return TeachingSettings(
            problem=write_spec(self.pupils.student, options),
            lr=self.lr,
            horizon=horizon,
            outer_steps=self.pupils.outer_steps,
            students=self.pupils.students,
            select_every=self.pupils.select_every,
            select_students=self.pupils.select_students,
            learned_grid=near,
            untrained_grid=(*near, 4 * self.lr),
            fixed_grid=(0.0125, 0.025, 0.05, 0.1, 0.2, 0.4),
            fresh_students=fresh_students,
        )


# At an lr of 1.2, with which clean digits were taught before, the adjoint explodes on some splits.
_FEW_DIGITS = replace(DIGITS, sizes=MappingProxyType({"train": "300", "dev": "700"}))
CLEAN = Noise("none", 0.0, gain=0.3, smoothing=0.1, lr=0.6, pupils=_FEW_DIGITS)
NOISY_DIGITS = (
    *(Noise("pair-flip", rate, gain=0.3, smoothing=0.1) for rate in (0.2, 0.4)),
    *(Noise("symmetric", rate, gain=1.0, smoothing=0.0) for rate in (0.2, 0.4)),
)
NOISES = (*NOISY_DIGITS, CLEAN, *(replace(noise, pupils=MNIST) for noise in NOISY_DIGITS))


def quick(request: Request) -> Sequence[Cell]:
    """Four kinds of noise on digits and on MNIST, and none on digits; 32 fresh students."""
    return _cells(request, "quick", NOISES, fresh_students=32, horizon=300)


def smoke(request: Request) -> Sequence[Cell]:
    """One kind of noise, two outer steps: does it all run?"""
    small = replace(NOISES[1], pupils=replace(DIGITS, outer_steps=2))
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
