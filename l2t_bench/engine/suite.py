"""A suite: experiments as data, a grid of cells for each profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from l2t_bench.engine.cell import Cell
from l2t_bench.errors import UserError
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
        """The cells of a profile. Raises ``UserError`` for a profile that the suite does not have."""
        wanted = profile or self.default_profile
        if wanted not in self.profiles:
            raise unknown(f"profile of suite {self.name}", wanted, self.profiles)
        return list(self.profiles[wanted](request))
