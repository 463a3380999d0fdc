"""Where a learned loss should shine: wrong labels in the training set, a clean dev set (beyond the paper).

Digits with 20 and 40 % of the training labels flipped to the next class, or to any other, and as they are. Beside the
learned loss: the same teacher untrained, a learned Phi that does not change, cross entropy at a constant and at a
decaying lr, label smoothing, and the forward correction, which is told the transition matrix. Each has its own lr,
chosen on dev.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.names import write_spec
from l2t_bench.suites.settings import TeachingSettings

VERSION = 2
NAME = "noisy-labels"
SPLIT = 5  # none that a setting was chosen on
LEARNED_BY = ("rmd",)
CONTROLS = ("untrained-teacher", "static-teacher", "cross-entropy", "label-smoothing")


@dataclass(frozen=True)
class Noise:
    """How the labels are spoilt, and where Phi begins: settings that were chosen on other splits."""

    kind: str
    rate: float
    gain: float
    smoothing: float
    lr: float = 0.4  # of the students that the teacher is trained on
    sizes: Mapping[str, str] = field(default_factory=dict)  # of train and dev, where they are not the problem's own

    @property
    def problem(self) -> str:
        """What a report calls it."""
        return write_spec("digits/mlp", self._labels)

    @property
    def _labels(self) -> dict[str, str]:
        return {"label_noise": self.kind} | ({"noise_rate": f"{self.rate:g}"} if self.rate else {})

    @property
    def corrections(self) -> tuple[str, ...]:
        """What is told the transition matrix, where there is one."""
        noise = {"noise": self.kind, "rate": f"{self.rate:g}"}
        return (write_spec("forward-correction", noise),) if self.rate else ()

    def settings(self, *, outer_steps: int, fresh_students: int, horizon: int) -> TeachingSettings:
        options = {**self._labels, **self.sizes, "split": str(SPLIT), "lr": f"{self.lr:g}"}
        options |= {"schedule": "linear", "beta": "4", "gain": f"{self.gain:g}", "smoothing": f"{self.smoothing:g}"}
        near = (self.lr / 2, self.lr, 2 * self.lr)
        return TeachingSettings(
            problem=write_spec("digits/mlp", options),
            lr=self.lr,
            horizon=horizon,
            outer_steps=outer_steps,
            students=2,
            select_every=20,
            select_students=16,
            learned_grid=near,
            untrained_grid=(*near, 4 * self.lr),
            fixed_grid=(0.0125, 0.025, 0.05, 0.1, 0.2, 0.4),
            fresh_students=fresh_students,
        )


# At an lr of 1.2, with which clean digits were taught before, the adjoint explodes on some splits.
CLEAN = Noise("none", 0.0, gain=0.3, smoothing=0.1, lr=0.6, sizes={"train": "300", "dev": "700"})
NOISES = (
    *(Noise("pair-flip", rate, gain=0.3, smoothing=0.1) for rate in (0.2, 0.4)),
    *(Noise("symmetric", rate, gain=1.0, smoothing=0.0) for rate in (0.2, 0.4)),
    CLEAN,
)


def quick(request: Request) -> Sequence[Cell]:
    """Four kinds of noise and none, 100 outer steps, 32 fresh students."""
    return _cells(request, "quick", NOISES, outer_steps=100, fresh_students=32, horizon=300)


def smoke(request: Request) -> Sequence[Cell]:
    """One kind of noise, two outer steps: does it all run?"""
    return _cells(request, "smoke", NOISES[1:2], outer_steps=2, fresh_students=2, horizon=20)


def _cells(request: Request, profile: str, noises: Sequence[Noise], **sizes: int) -> list[Cell]:
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
            settings=asdict(noise.settings(**sizes)),
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
    summary="learned losses against fixed ones on digits with wrong training labels and a clean dev set",
    profiles={"quick": quick, "smoke": smoke},
    default_profile="quick",
)
