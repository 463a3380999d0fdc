"""What a backend is chosen for, the candidates with what is known of each, and the one that is taken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from l2t_bench.errors import UserError
from l2t_bench.gradient import Exactness
from l2t_bench.units import told

Prefer = Literal["time", "memory"]
PREFERENCES: tuple[Prefer, ...] = ("time", "memory")


@dataclass(frozen=True)
class Quality:
    """An approximate gradient against the exact one of the same run, measured at ``horizon``."""

    horizon: int
    cosine: float
    norm_ratio: float

    def said(self, horizon: int) -> str:
        """In words; where it was measured on a shorter run than the one asked for, that too."""
        carried = "" if self.horizon == horizon else f", carried over to T={horizon}"
        return f"cosine {self.cosine:.4f}, norm ratio {self.norm_ratio:.3f} at T={self.horizon}{carried}"


@dataclass(frozen=True)
class Accepted:
    """Which approximate gradients may be taken: none where ``min_cosine`` is ``None``.

    ``max_norm_ratio`` bounds their length on both sides: at 1.1 it is from 1/1.1 to 1.1 of the exact one's. A direction
    alone is no gradient: a shorter one is another learning rate of the teacher. Raises ``UserError`` for bounds that
    are none.
    """

    min_cosine: float | None = None
    max_norm_ratio: float = 1.1

    def __post_init__(self) -> None:
        if self.min_cosine is not None and not -1.0 <= self.min_cosine <= 1.0:
            raise UserError(f"the least cosine must be from -1 to 1, not {self.min_cosine:g}")
        if not self.max_norm_ratio >= 1.0:
            raise UserError(f"the largest norm ratio must be at least 1, not {self.max_norm_ratio:g}")

    def __str__(self) -> str:
        least = "none are" if self.min_cosine is None else f"a cosine of at least {self.min_cosine:g} is"
        return f"{least} accepted, and a norm ratio of at most {self.max_norm_ratio:g} either way"

    def refusal(self, exactness: Exactness) -> str:
        """Why a gradient that is not exact is not looked at; empty where near ones are accepted."""
        if self.min_cosine is not None:
            return ""
        return f"its gradient is {exactness}, and exact ones are asked for: a least cosine would accept near ones"

    def takes(self, quality: Quality) -> bool:
        near = abs(math.log(quality.norm_ratio)) <= math.log(self.max_norm_ratio) if quality.norm_ratio > 0 else False
        return self.min_cosine is not None and quality.cosine >= self.min_cosine and near


@dataclass(frozen=True)
class Asked:
    """What a backend is chosen for.

    ``room``: bytes above those that the process holds now, ``held``; ``None`` where nothing is known.
    ``seconds``: how long the calibration may take; a run that has begun is not broken off. Raises ``UserError`` for no
    such time.
    """

    horizon: int
    room: int | None
    accepted: Accepted = Accepted()
    prefer: Prefer = "time"
    seconds: float = 300.0
    held: int = 0

    def __post_init__(self) -> None:
        if not self.seconds >= 0:  # no number is no time either
            raise UserError(f"the seconds of the choice must be 0 or more, not {self.seconds:g}")


@dataclass(frozen=True)
class Candidate:
    """A method with its options, and what is known of it so far.

    ``bytes``: the predicted peak above the start; ``seconds``: of one teacher gradient, without what is compiled once
    for all of them. ``proof``: what its gradient was held to. ``rejected``: why it is not taken, in a line; empty while
    it may be.
    """

    method: str
    exactness: Exactness | None
    bytes: int | None = None
    seconds: float | None = None
    proof: str = ""
    rejected: str = ""


@dataclass(frozen=True)
class Decision:
    """The candidates in the order in which they were looked at, and the method that is taken.

    ``measured_on``: the environment's record of the run whose results it rests on; ``None`` where it rests on
    predictions, made here.
    """

    asked: Asked
    candidates: Sequence[Candidate]
    chosen: Candidate | None
    measured_on: Mapping[str, Any] | None = None

    def taken(self) -> Candidate:
        """The one that was chosen. Raises ``UserError`` where none can be, with the least that would do."""
        if self.chosen is None:
            raise UserError(f"no method can be taken at horizon {self.asked.horizon}: {self._least()}")
        return self.chosen

    def _least(self) -> str:
        sizes = [(each.bytes, each.method) for each in self.candidates if each.bytes is not None]
        if not sizes:
            return "; ".join(f"{each.method}: {each.rejected}" for each in self.candidates) or "there is no candidate"
        least, method = min(sizes)
        room = self.asked.room
        if room is None or least <= room:
            return "; ".join(f"{each.method}: {each.rejected}" for each in self.candidates if each.bytes is not None)
        return (
            f"the least is {told(least)}, by {method}, above the {told(self.asked.held)} that the process holds, and "
            f"{told(max(0, room))} are left"
        )


def least(candidates: Sequence[Candidate], prefer: Prefer) -> Candidate | None:
    """The one that takes least of what is preferred, then of the other, among those that may be taken."""

    def cost(each: Candidate) -> tuple[float, float]:
        seconds, size = each.seconds or 0.0, float(each.bytes or 0)
        return (size, seconds) if prefer == "memory" else (seconds, size)

    return min((each for each in candidates if not each.rejected and each.seconds is not None), key=cost, default=None)
