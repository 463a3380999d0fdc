"""The settings of teaching cells, apart from what carries them out: a plan is made without torch."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TeachingSettings:
    """The experiment. Grids hold student learning rates; each loss is judged at the one that is best on dev."""

    problem: str = "digits/mlp[train=300,dev=700,split=3,lr=1.2,schedule=linear,beta=4,gain=0.3,refresh=20]"
    lr: float = 1.2  # of the students that the teacher is trained on
    horizon: int = 300
    outer_steps: int = 25
    students: int = 1
    teacher_lr: float = 0.003
    select_every: int = 8
    select_students: int = 6
    learned_grid: Sequence[float] = (0.6, 1.2, 2.4)
    untrained_grid: Sequence[float] = (0.6, 1.2, 2.4, 4.8)
    cross_entropy_grid: Sequence[float] = (0.025, 0.05, 0.1, 0.2, 0.4)
    fixed_grid: Sequence[float] = (
        0.001,
        0.004,
        0.0125,
        0.025,
        0.05,
        0.1,
        0.2,
        0.4,
    )  # of fixed losses but cross entropy
    tuning_students: int = 4
    fresh_students: int = 12
    equivalence_margin: float = 0.01  # of test accuracy: losses that differ by less are called equivalent
