"""The settings of a translation experiment's cells: warm start and students; a plan is made without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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

    ``grid`` holds that lr; of one entry nothing is chosen. Dev is searched greedily, test with ``beam`` too.
    """

    problem: str
    horizon: int
    grid: Sequence[float]
    tuning_students: int = 1
    fresh_students: int = 5
    beam: int = 5


@dataclass(frozen=True)
class TranslationSettings:
    """Of all cells of one student: what is shared, how a teacher is trained on it, and how losses are judged.

    ``grids``: the grids of losses (``kind_of`` their method) whose lr is of another size than ``judging`` has.
    """

    warm_start: WarmStartSettings
    training: TrainingSettings
    judging: TranslationJudging
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)
