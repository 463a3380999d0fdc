"""Parameter groups of a student's optimiser: another lr or weight decay for parameters named by a pattern."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from l2t_bench.errors import UserError


@dataclass(frozen=True)
class Group:
    """The parameters whose names fit ``names`` (a pattern: ``"*.bias"``), and what is other for them.

    ``lr`` multiplies the optimiser's eta_t; ``weight_decay`` takes the place of its own where it is given. A parameter
    belongs to the first group that it fits. Raises ``UserError`` for values that are negative or not finite.
    """

    names: str
    lr: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lr < math.inf:
            raise UserError(f"group {self.names!r}: lr must be a factor from 0 on, not {self.lr!r}")
        if self.weight_decay is not None and not 0 <= self.weight_decay < math.inf:
            raise UserError(f"group {self.names!r}: weight_decay must not be negative, not {self.weight_decay!r}")


@dataclass(frozen=True)
class Rates:
    """A parameter's factor on eta_t and its weight decay; ``own_decay`` where the latter is a group's."""

    lr: float
    weight_decay: float
    own_decay: bool = False


def rates(name: str, groups: Sequence[Group], weight_decay: float) -> Rates:
    """What holds for the parameter ``name`` of an optimiser with this weight decay."""
    for group in groups:
        if fnmatchcase(name, group.names):
            own = group.weight_decay is not None
            return Rates(group.lr, group.weight_decay if group.weight_decay is not None else weight_decay, own)
    return Rates(1.0, weight_decay)
