"""What a student gives to an outer step: all of its teacher gradient that Algorithm 1 reads."""

from dataclasses import dataclass

from l2t_bench.gradient import TeacherGradient
from l2t_bench.health import AdjointHealth
from l2t_bench.tensors import TensorDict


@dataclass(frozen=True, eq=False)
class Contribution:
    """Of one student."""

    d_theta: TensorDict
    value: float
    seconds: float
    health: AdjointHealth | None
    warnings: tuple[str, ...]


def contribution_of(result: TeacherGradient) -> Contribution:
    """The run and the student of a teacher gradient are let go of."""
    return Contribution(result.d_theta, result.value, result.cost.seconds, result.health, result.warnings)
