"""A suite: experiments as data, a grid of cells for each profile."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from l2t_bench.engine.cell import Cell
from l2t_bench.errors import L2TError, UserError
from l2t_bench.names import unknown


@dataclass(frozen=True)
class Request:
    """What the user asked of a suite's grid; what is empty is the suite's own.

    Rounds, device, threads and overridden settings are no matter of the suite: the engine applies them to its cells.
    """

    seeds: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(seed < 0 for seed in self.seeds):
            raise UserError(f"a seed must not be negative, not {min(self.seeds)}")


@dataclass(frozen=True)
class Suite:
    """A name, a version that is raised when the cells' meaning changes, and a grid for each profile.

    The order of a grid's cells is of no meaning: timed ones are run round by round, each round in a random order.
    """

    name: str
    version: int
    summary: str
    profiles: Mapping[str, Callable[[Request], Sequence[Cell]]]
    default_profile: str

    def cells(self, profile: str | None, request: Request) -> list[Cell]:
        """The cells of a profile. Raises ``UserError`` for one that the suite does not have, or cannot say."""
        wanted = profile or self.default_profile
        if wanted not in self.profiles:
            raise unknown(f"profile of suite {self.name}", wanted, self.profiles)
        try:
            cells = list(self.profiles[wanted](request))
        except L2TError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            raise UserError(
                f"suite {self.name} cannot say its cells: {type(error).__name__}: {error} ({where})"
            ) from error
        if strange := [each for each in cells if not isinstance(each, Cell)]:
            raise UserError(f"suite {self.name} gives {type(strange[0]).__name__} where a Cell belongs")
        return cells
