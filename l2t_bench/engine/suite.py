"""A suite: experiments as data, a grid of cells for each profile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from l2t_bench.engine.cell import Cell
from l2t_bench.errors import UserError
from l2t_bench.names import unknown


@dataclass(frozen=True)
class Request:
    """What the user asked of a suite: how many seeds, and where it runs. ``backends`` empty means the suite's own."""

    seeds: int | None = None
    backends: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise UserError(f"seeds must be at least 1, not {self.seeds}")
        if self.threads < 1:
            raise UserError(f"threads must be at least 1, not {self.threads}")


@dataclass(frozen=True)
class Suite:
    """A name, a version that is raised when the cells' meaning changes, and a grid for each profile."""

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
