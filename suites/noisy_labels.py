"""Where a learned loss should shine: wrong labels in the training set, a clean dev set (beyond the paper).

Digits with 20 and 40 % of the training labels flipped to the next class, or to any other. Beside the learned loss: the
same teacher untrained, a learned Phi that does not change, cross entropy at a constant and at a decaying lr, label
smoothing, and the forward correction, which is told the transition matrix. Each has its own lr, chosen on dev.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.suite import Request, Suite
from l2t_bench.names import write_spec
from l2t_bench.suites.settings import TeachingSettings

VERSION = 1
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

    @property
    def problem(self) -> str:
        """What a report calls it."""
        return write_spec("digits/mlp", {"label_noise": self.kind, "noise_rate": f"{self.rate:g}"})

    @property
    def correction(self) -> str:
        return write_spec("forward-correction", {"noise": self.kind, "rate": f"{self.rate:g}"})

    def settings(self, *, outer_steps: int, fresh_students: int, horizon: int) -> TeachingSettings:
        options = {"label_noise": self.kind, "noise_rate": f"{self.rate:g}", "split": str(SPLIT), "lr": "0.4"}
        options |= {"schedule": "linear", "beta": "4", "gain": f"{self.gain:g}", "smoothing": f"{self.smoothing:g}"}
        return TeachingSettings(
            problem=write_spec("digits/mlp", options),
            lr=0.4,
            horizon=horizon,
            outer_steps=outer_steps,
            students=2,
            select_every=20,
            select_students=16,
            learned_grid=(0.2, 0.4, 0.8),
            untrained_grid=(0.2, 0.4, 0.8, 1.6),
            fixed_grid=(0.0125, 0.025, 0.05, 0.1, 0.2, 0.4),
            fresh_students=fresh_students,
        )


NOISES = tuple(
    Noise(kind, rate, gain, smoothing)
    for kind, gain, smoothing in (("pair-flip", 0.3, 0.1), ("symmetric", 1.0, 0.0))
    for rate in (0.2, 0.4)
)


def quick(request: Request) -> Sequence[Cell]:
    """Four kinds of noise, 100 outer steps, 32 fresh students."""
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
        for method in (*(request.backends or LEARNED_BY), *CONTROLS, noise.correction)
    ]


SUITE = Suite(
    name=NAME,
    version=VERSION,
    summary="learned losses against fixed ones on digits with wrong training labels and a clean dev set",
    profiles={"quick": quick, "smoke": smoke},
    default_profile="quick",
)
