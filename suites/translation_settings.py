"""The settings of a translation experiment's cells: warm start and students; a plan is made without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from l2t_bench.suites.settings import TrainingSettings


@dataclass(frozen=True)
class WarmStartSettings:
    """Cross entropy with teacher forcing by Adam, its lr falling to zero, its gradient clipped to norm ``clip``."""

    problem: str
    steps: int
    lr: float
    clip: float = 1.0


@dataclass(frozen=True)
class TranslationJudging:
    """How a loss is judged: students of ``horizon`` steps by SGD from the warm start, at the lr that is best on dev.

    ``schedule``: how the lr goes from there, constant or linearly to zero.

    ``grids`` hold that lr, by what a result calls the loss, and ``grid`` that of all others; of one entry nothing is
    chosen. All losses have the same settings: results of other settings are not set beside each other.
    Dev is searched greedily, test with ``beam`` too. ``critic`` are ``ActorCritic``'s numbers where they are not its
    defaults.
    """

    problem: str
    horizon: int
    grid: Sequence[float]
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tuning_students: int = 1
    fresh_students: int = 5
    beam: int = 5
    schedule: Literal["constant", "linear"] = "constant"
    critic: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TranslationSettings:
    """Of all cells of one student: what is shared, how a teacher is trained on it, and how losses are judged."""

    warm_start: WarmStartSettings
    training: TrainingSettings
    judging: TranslationJudging
