"""The processes that train one teacher together, as each sees them: which it is, and what it has from the others.

``Ranks`` itself is a process that works alone, so that what is shared out reads the same with and without others.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from l2t_bench.batch_parts import part_of
from l2t_bench.errors import L2TError, RankError, Refused, UserError, said_first

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True)
class Launch:
    """How a launcher started this process: one of ``count``, the ``local``-th on its machine."""

    rank: int
    count: int
    local: int


def launched(environ: Mapping[str, str] = os.environ) -> Launch | None:
    """What ``torchrun`` has put into the environment; ``None`` for a process that was started alone.

    Raises ``UserError`` for numbers that are none.
    """
    if not all(name in environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")):
        return None
    try:
        return Launch(int(environ["RANK"]), int(environ["WORLD_SIZE"]), int(environ.get("LOCAL_RANK", "0")))
    except ValueError as error:
        raise UserError(f"the launcher's RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from error


@dataclass(frozen=True)
class Ranks:
    """This process's place among ``count``; here it is the only one. ``what`` says for errors what is exchanged."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and reports."""
        return self.rank == 0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """The others can be reached inside the block, with tensors of the host and of ``device``."""
        del device
        yield

    def summed(self, tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """The sums over the ranks of tensors that each has, the same bits on all."""
        del what
        return list(tensors)

    def gathered(self, value: T, what: str) -> list[T]:
        """What each rank has, by rank."""
        del what
        return [value]

    def of_first(self, tensor: Tensor, what: str) -> Tensor:
        """The first rank's, of the shape and dtype that each has."""
        del what
        return tensor

    def any(self, flag: bool, what: str) -> bool:
        """Whether any rank says so."""
        return any(self.gathered(flag, what))

    def check_same(self, value: Any, what: str) -> None:
        """Raises ``RankError`` on every rank where one has another ``value`` than the first."""
        found = self.gathered(value, what)
        if others := [rank for rank, theirs in enumerate(found) if theirs != found[0]]:
            raise RankError(
                f"{what}: rank {others[0]} has others than rank 0, which should be the same bit for bit: ranks need "
                "alike machines, versions and numbers of threads, and kernels that are deterministic"
            )

    def all_of(self, work: Callable[[], T], what: str) -> list[T]:
        """What ``work`` gives on each rank, by rank; there is no exchange inside ``work``.

        Where it fails on one, every rank fails: that one as it did, the others with ``UserError`` for a mistake in what
        was asked, else with ``RankError``.
        """
        given: T | None = None
        error: Exception | None = None
        try:
            given = work()
        except Exception as raised:  # whatever it is, the others must not wait for it
            error = raised
        found = self.gathered((given, None if error is None else _Failure.of(error)), what)
        if error is not None:
            raise error
        for rank, (_, failure) in enumerate(found):
            if failure is not None:
                raise (UserError if failure.is_mistake else RankError)(f"rank {rank}: {failure.said}")
        return [theirs for theirs, _ in found]  # type: ignore[misc]  # none of them has failed

    def over(self, items: Sequence[S], work: Callable[[Sequence[S]], list[T]], what: str) -> list[T]:
        """``work`` of all ``items``, each rank having taken a part of them; in their order. Fails as ``all_of``."""
        own = items[part_of(len(items), self.rank, self.count)]
        return [found for of_rank in self.all_of(lambda: work(own), what) for found in of_rank]


ALONE = Ranks()


@dataclass(frozen=True)
class _Failure:
    """What went wrong on a rank, as the others are told."""

    said: str
    is_mistake: bool

    @staticmethod
    def of(error: Exception) -> "_Failure":
        said = str(error) if isinstance(error, L2TError) else said_first(error)
        return _Failure(said, isinstance(error, UserError | Refused))
