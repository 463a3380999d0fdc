"""Where a student's run stands, so that another process can go on with it: on the way forward, or on the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import StudentState
from l2t_bench.tensors import TensorDict


@dataclass(frozen=True, eq=False)
class There:
    """Where a sweep begins: omega_T, M~ there, and w_bar, its derivative by the parameters."""

    value: float
    final: StudentState
    w_bar: TensorDict


@dataclass(frozen=True, eq=False)
class WayForward:
    """How far a student has come: ``state`` is the one that step ``index`` starts from."""

    index: int
    state: StudentState


@dataclass(frozen=True, eq=False)
class WayBack:
    """How far a sweep has come: the adjoint, what has been chained to theta, and what of phi has not been yet."""

    index: int  # of the step that was gone back through last
    adjoint: Adjoint  # before it
    there: There
    d_theta: TensorDict
    d_phi: Sequence[Tensor]  # by the float leaves of the phi at work
    norms: Mapping[int, float]  # |w_bar_t| by step


@dataclass(frozen=True, eq=False)
class KeptRun:
    """A run that was left, ``at`` some step forward or back.

    Batches and learning rates are drawn again: they are functions of the step and the student's seed.
    """

    features: Sequence[Tensor]  # s_t of the steps taken; the very tensor where it has not changed
    losses: Sequence[Tensor]  # of the same steps, 0-dimensional
    states: Mapping[int, StudentState]  # that the store holds, by the step that starts from each
    at: WayForward | WayBack


class RunKeeper(Protocol):
    """What keeps a run, and has found the one that an earlier process has kept."""

    @property
    def found(self) -> KeptRun | None:
        """Where to go on; ``None``: at the beginning."""
        ...

    def due(self) -> bool:
        """Whether it is time to keep the run."""
        ...

    def keep(self, run: KeptRun) -> None:
        """Keep it in the place of what was kept before."""
        ...
