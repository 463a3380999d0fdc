"""The settings of teacher and teaching cells, apart from what carries them out: a plan is made without torch.

The defaults are the recipe that was found to teach; ``papers_training`` is the paper's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

DIGITS = "digits/mlp[train=300,dev=700,split=3,lr=1.2,schedule=linear,beta=4,gain=0.3,refresh=20]"
OWN = "own"  # the problem's own lr and schedule


@dataclass(frozen=True)
class TrainingSettings:
    """How a teacher is trained, by Algorithm 1. ``select_every=0``: none is chosen, the last teacher is kept.

    ``first_split``: the data split of seed 0, where each seed has the next; ``None``, or where the problem names a
    split: all have that.
    """

    problem: str = DIGITS
    first_split: int | None = None
    lr: float = 1.2  # of the students that the teacher is trained on
    horizon: int = 300
    outer_steps: int = 25
    students: int = 1
    teacher_lr: float = 0.003
    teacher_betas: Sequence[float] = (0.9, 0.99)
    teacher_schedule: Literal["linear", "constant"] = "linear"
    clip: float = 1.0  # bound on each student's |d_theta|; 0 for none
    select_every: int = 8
    select_students: int = 6


def papers_training(problem: str, *, lr: float, horizon: int, outer_steps: int) -> TrainingSettings:
    """Adam at 1e-4 (appendix B.4), one student an outer step, nothing clipped and nothing chosen on dev."""
    return TrainingSettings(
        problem=problem,
        lr=lr,
        horizon=horizon,
        outer_steps=outer_steps,
        students=1,
        teacher_lr=1e-4,
        teacher_betas=(0.9, 0.999),
        teacher_schedule="constant",
        clip=0.0,
        select_every=0,
    )


@dataclass(frozen=True)
class JudgingSettings:
    """How a loss is judged. Grids hold student learning rates; each loss is judged at the one that is best on dev.

    ``fixed_schedules`` and ``learned_schedules``: how the lr goes, ``constant``, ``linear`` to zero, or ``own``: the
    problem's lr and schedule, whatever the grids. ``first_split``: as in ``TrainingSettings``.
    """

    problem: str = DIGITS
    first_split: int | None = None
    lr: float = 1.2  # of the problem's own schedule
    horizon: int = 300
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
    learned_schedules: Sequence[str] = ("linear",)
    fixed_schedules: Sequence[str] = ("constant", "linear")
    tuning_students: int = 4
    fresh_students: int = 12
    equivalence_margin: float = 0.01  # of test accuracy: losses that differ by less are called equivalent


@dataclass(frozen=True)
class TeachingSettings(TrainingSettings, JudgingSettings):
    """Of a cell that trains its teacher itself, and then judges it."""

    def of_training(self) -> dict[str, Any]:
        """What a cell of its own for the teacher is told."""
        return _taken(TrainingSettings, vars(self))

    def of_judging(self) -> dict[str, Any]:
        """What a cell that reads its teacher from another is told."""
        return _taken(JudgingSettings, vars(self))


@dataclass(frozen=True)
class CoefficientSettings:
    """Of a cell that looks at Phi_t: at which parts of a student's training, of which classes.

    ``pairs``: class, those that are like it, those that are not, as indices; empty: by the confusion on dev.
    """

    problem: str = DIGITS
    horizon: int = 300
    at: Sequence[float] = (0.25, 0.5, 0.75)
    frames: int = 21  # steps at which the whole of Phi_t is kept, evenly from the first to the last
    pairs: Sequence[Any] = ()
    names: Sequence[str] = ()  # of the classes; empty: their numbers


def _taken(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: values[each.name] for each in fields(kind)}
