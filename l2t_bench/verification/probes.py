"""Probes: for each thing that a user may bring a run of a few steps, and the slopes of M~ that any method must find."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from l2t_bench.adam import Adam
from l2t_bench.groups import Group
from l2t_bench.optimizers import SGD
from l2t_bench.problem import Step, TeachingProblem
from l2t_bench.rollout import record
from l2t_bench.tensors import TensorDict
from l2t_bench.verification.numeric import RecordedRun, directional_difference
from l2t_bench.verification.samples import general_theta
from l2t_bench.verification.students import student_problem
from l2t_bench.verification.vectors import random_directions

_STEPS, _DIRECTIONS = 4, 2
_SIZES = (1e-3, 1e-4, 1e-5)
_EPS = 1e-3  # with 1e-8 Adam's first steps are a sign function, which differences are no measure of
_GROUPS = (Group("*.bias", lr=2.0, weight_decay=0.0), Group("2.*", lr=0.5))

PROBES: Mapping[str, Callable[[], TeachingProblem]] = MappingProxyType(
    {
        "SGD": lambda: student_problem("mlp", SGD(0.3)),
        "momentum": lambda: student_problem("mlp", SGD(0.3, momentum=0.9, dampening=0.3, weight_decay=0.05)),
        "Nesterov": lambda: student_problem("mlp", SGD(0.1, momentum=0.9, weight_decay=0.05, nesterov=True)),
        "Adam": lambda: student_problem("mlp", Adam(0.03, eps=_EPS, weight_decay=0.05)),
        "AdamW": lambda: student_problem("mlp", Adam(0.03, eps=_EPS, weight_decay=0.5, decoupled=True)),
        "parameter groups": lambda: student_problem("mlp", SGD(0.3, 0.9, weight_decay=0.05, groups=_GROUPS)),
        "gradient clipping": lambda: student_problem("mlp", SGD(0.3, 0.9, clip=0.05)),
        "BatchNorm": lambda: student_problem("batch norm"),
        "LayerNorm": lambda: student_problem("layer norm"),
        "dropout": lambda: student_problem("dropout"),
        "augmentation": lambda: student_problem("augmentation"),
        "LSTM": lambda: student_problem("lstm"),
        "GRU": lambda: student_problem("gru"),
        "attention": lambda: student_problem("transformer"),
        "attention with dropout": lambda: student_problem("transformer, dropout"),
        "embeddings": lambda: student_problem("embedding"),
        "tied weights": lambda: student_problem("tied embedding"),
        "frozen parameters": lambda: student_problem("frozen"),
        "unused parameters": lambda: student_problem("unused"),
    }
)


@dataclass(frozen=True)
class Probe:
    """A recorded run, and dM~ along random directions of theta by central differences: they know no backend.

    ``slopes`` has for each direction the differences at several step sizes, the nearest of which counts.
    """

    name: str
    problem: TeachingProblem
    theta: TensorDict
    steps: tuple[Step, ...]
    directions: tuple[TensorDict, ...]
    slopes: tuple[tuple[float, ...], ...]


def make_probe(name: str) -> Probe:
    """The probe of a name in ``PROBES``."""
    problem = PROBES[name]()
    theta = general_theta(problem)
    run = RecordedRun(problem, theta, record(problem, theta, horizon=_STEPS), 0)
    directions = tuple(random_directions(theta, _DIRECTIONS))
    slopes = tuple(tuple(directional_difference(run, each, size) for size in _SIZES) for each in directions)
    return Probe(name, problem, theta, tuple(run.steps), directions, slopes)
