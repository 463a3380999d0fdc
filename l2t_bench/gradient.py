"""The contract: what a teacher gradient is, and what a backend that computes it must offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from torch import Tensor

from l2t_bench.errors import Refused
from l2t_bench.health import AdjointHealth, said
from l2t_bench.peaks import PhasePeak
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors

COST_PHASES: Mapping[str, str] = {
    "compile": "compile",
    "forward": "rollout",
    "dev": "dev",
    "reverse": "reverse",
}  # of a Cost -> of a cell

__all__ = [
    "COST_PHASES",
    "Capabilities",
    "Cost",
    "Exactness",
    "Prediction",
    "Refused",
    "Supported",
    "TeacherGradient",
    "TeacherGradientBackend",
]


ANY = "any"


class Exactness(StrEnum):
    """How a method's result relates to the derivative of M~(omega_T) by theta on the recorded run."""

    EXACT = "exact"  # the derivative, up to rounding
    QUANTISED = "quantised"  # that of a neighbouring run in fixed point, up to rounding; it is taken as the identity
    TRUNCATED = "truncated"  # the derivative through the last steps only
    STATIONARY = "stationary"  # as if omega_T were a stationary point of the training loss: another quantity
    FINITE_DIFFERENCE = "finite-difference"
    STOCHASTIC = "stochastic"


@dataclass(frozen=True)
class Cost:
    """What one teacher gradient took. Bytes are of the whole process; ``None`` where the platform does not tell."""

    seconds_forward: float  # the rollout
    seconds_reverse: float  # from omega_T back to theta
    seconds_dev: float  # the dev objective and its gradient at omega_T
    host_start_bytes: int | None  # resident when the call began
    host_peak_bytes: int | None  # largest resident size during the call
    device_start_bytes: int | None
    device_peak_bytes: int | None
    gradients: int  # student gradients taken going forward
    vector_products: int  # (Hessian, mixed-derivative) vector products
    recomputed_steps: int  # student gradients taken once more in the reverse pass
    seconds_compile: float = 0.0  # once for a problem, in the call that comes to it first
    peaks: Mapping[str, PhasePeak] = field(default_factory=dict)  # of each phase: compile, forward, dev, reverse

    @property
    def seconds(self) -> float:
        """The whole outer step's derivative, features included; what is compiled once for all of them is not."""
        return self.seconds_forward + self.seconds_reverse + self.seconds_dev

    @property
    def phases(self) -> dict[str, str]:
        """``COST_PHASES`` without those that there were none of: most methods compile nothing."""
        return {name: phase for name, phase in COST_PHASES.items() if name != "compile" or self.seconds_compile}

    @property
    def host_bytes(self) -> int | None:
        """Peak above the start on the host."""
        return _above(self.host_start_bytes, self.host_peak_bytes)

    @property
    def device_bytes(self) -> int | None:
        """Peak above the start on the device."""
        return _above(self.device_start_bytes, self.device_peak_bytes)


def _above(start: int | None, peak: int | None) -> int | None:
    return None if start is None or peak is None else max(0, peak - start)


@dataclass(frozen=True)
class Walked:
    """What took a run's steps, and why it did. As text: ``plain torch: 500 steps so far, ...``.

    ``engine``: ``eager``, ``compiled`` or ``graphed``. ``why``: what ``auto`` weighed, or why the engine that was asked
    for could not be had; empty where it was just that one. ``instead_of``: the engine that could not.
    """

    engine: str
    why: str = ""
    instead_of: str = ""

    @property
    def name(self) -> str:
        """The engine in words."""
        return _ENGINES.get(self.engine, self.engine)

    def __str__(self) -> str:
        return f"{self.name}: {self.why}" if self.why else self.name


_ENGINES: Mapping[str, str] = {
    "eager": "plain torch",
    "compiled": "compiled steps",
    "graphed": "compiled steps in CUDA graphs",
}


@dataclass(frozen=True)
class TeacherGradient:
    """The derivative of the teacher's objective through a student's whole training run."""

    d_theta: TensorDict  # of the objective to be MAXIMISED; keys and shapes of theta
    value: float  # M~ on the dev set at omega_T
    d_omega0: TensorDict | None  # by the student's first parameters, where the method gives it
    final: StudentState  # omega_T
    steps: Sequence[Step]  # the recorded run: hand it to another backend and it differentiates the very same
    exactness: Exactness
    cost: Cost
    diagnostics: Mapping[str, float] = field(default_factory=dict)  # what the method can say about itself
    hyper: Mapping[str, Tensor] = field(default_factory=dict)  # by "lr" (each step's), "momentum", "weight_decay"
    health: AdjointHealth | None = None  # |w_bar_t| against t; at T alone of one that does not go back
    warnings: tuple[str, ...] = ()  # what must be known to trust the result
    engine: Walked | None = None  # what took the steps, of a method that has engines

    def __post_init__(self) -> None:
        if self.health is not None and self.health.warning and self.health.warning not in self.warnings:
            object.__setattr__(self, "warnings", (*self.warnings, self.health.warning))

    @property
    def adjoint_said(self) -> str:
        """Whether d_theta is usable as far as its adjoint tells, in words; see ``l2t_bench.health``."""
        return said(self.health)


@dataclass(frozen=True)
class Capabilities:
    """What a method can differentiate, and by which law its memory grows."""

    exactness: Exactness
    optimizers: tuple[str, ...]  # names of the optimiser classes, or ``ANY`` that follows the contract
    memory_law: str  # in T (horizon), P (parameters), G (one step's graph), K (window)
    batch_norm: bool = True  # train-mode BatchNorm, running statistics as constants
    dropout: bool = True
    attention: bool = True
    recurrent: bool = True
    groups: bool = True  # parameters with an lr or a weight decay of their own
    clipping: bool = True  # of the student's gradient by its norm
    frozen: bool = True  # parameters that are not trained
    shards: bool = False  # whether its sums over a batch may be shared out among ranks: it takes them by ``Run.sums``
    reasons: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Why not, by an optimiser's name or by one of the fields above."""


@dataclass(frozen=True)
class Supported:
    """A method can do a problem. True in a condition."""


@dataclass(frozen=True)
class Prediction:
    """What a teacher gradient will take, before it is run: peak bytes above the start, and seconds."""

    bytes: int
    seconds: float


@runtime_checkable
class TeacherGradientBackend(Protocol):
    """One way to compute a teacher gradient: an object without state; options are its constructor's arguments.

    A backend never prints, seeds, reads a clock, moves a module to another device, or changes what it was handed. A
    method that cannot do a problem refuses before it starts; it never returns a wrong number.
    ``l2t_bench.backend.Backend`` offers all but the differentiation itself. A backend may also take several students of
    one outer step: see ``l2t_bench.metabatch.contract``.
    """

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> Capabilities: ...

    def supports(self, problem: TeachingProblem, horizon: int) -> Supported | Refused:
        """Whether the method can do this problem; a ``Refused`` carries the reason and what would work."""

    def predict(self, problem: TeachingProblem, horizon: int) -> Prediction:
        """Bytes and seconds of a teacher gradient at this horizon, from short runs."""

    def teacher_gradient(
        self,
        problem: TeachingProblem,
        theta: Tensors,
        *,
        horizon: int | None = None,
        steps: Sequence[Step] | None = None,
        seed: int = 0,
    ) -> TeacherGradient:
        """The teacher gradient of student ``seed``: a fresh run of ``horizon`` steps or the recorded ``steps``."""
