"""Ranks that exchange by ``torch.distributed``: gloo for tensors of the host, NCCL for those of a GPU."""

import atexit
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from l2t_bench.distributed.ranks import Ranks
from l2t_bench.errors import RankError, said_first
from l2t_bench.units import duration

T = TypeVar("T")
_GRACE = timedelta(seconds=30)  # by which NCCL's own watch, which ends the process without a word, comes after ours
_ENDED = ("Connection reset", "Connection closed", "Broken pipe")  # of gloo, where a process is gone
_ATTEMPT = "TORCHELASTIC_RESTART_COUNT"
"""torchrun's store outlives a restart, and gloo would call at the addresses of the ranks before."""
_LOOK_EVERY = 5e-5  # seconds between two looks at an exchange that a GPU has not done


@dataclass(frozen=True)
class JoinedRanks(Ranks):
    """The ranks of torch's default process group, which ``joined`` opens unless the caller has.

    An exchange that takes longer than ``timeout`` seconds raises ``RankError``, as does one that another rank has left.
    """

    timeout: float = 600.0

    @contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Raises ``RankError`` where not all ranks come.

        The group stays open for the next training of this process, and is closed with it: torch's gloo waits for ever
        in a group that is opened a second time over the store of the first.
        """
        if not dist.is_initialized():
            self._open(device)
            atexit.register(_close)
        try:
            yield
        except RankError:
            atexit.unregister(_close)  # closing may wait for the rank that is lost
            raise

    def _open(self, device: torch.device) -> None:
        on_card = device.type == "cuda"
        if on_card:
            torch.cuda.set_device(device)
        timeout = timedelta(seconds=self.timeout)

        def join() -> None:
            store, _, _ = next(iter(rendezvous("env://", self.rank, self.count, timeout=timeout)))
            place = f"l2t_bench, attempt {os.environ.get(_ATTEMPT, '0')}"
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_card else "gloo",
                store=dist.PrefixStore(place, store),  # type: ignore[attr-defined]  # documented, not listed
                rank=self.rank,
                world_size=self.count,
                timeout=timeout + (_GRACE if on_card else timedelta()),
            )

        self._told("the others to join", join)

    def summed(self, tensors: Sequence[Tensor], what: str) -> list[Tensor]:
        """One exchange for each dtype."""
        found = list(tensors)
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
            places = [at for at, tensor in enumerate(tensors) if tensor.dtype == dtype]
            flat = torch.cat([tensors[at].detach().reshape(-1) for at in places])
            self._exchanged(what, flat, lambda flat=flat: dist.all_reduce(flat, async_op=True))  # type: ignore[misc]
            parts = torch.split(flat, [tensors[at].numel() for at in places])
            for at, part in zip(places, parts, strict=True):
                found[at] = part.view(tensors[at].shape)
        return found

    def gathered(self, value: T, what: str) -> list[T]:
        found: list[Any] = [None] * self.count
        self._told(what, lambda: dist.all_gather_object(found, value))
        return found

    def of_first(self, tensor: Tensor, what: str) -> Tensor:
        held = tensor.detach().clone()
        self._exchanged(what, held, lambda: dist.broadcast(held, src=0, async_op=True))
        return held

    def _exchanged(self, what: str, tensor: Tensor, begin: Callable[[], Any]) -> None:
        """Wait for an exchange. A GPU's is looked at from here: NCCL's own wait cannot be left by a signal."""

        def wait() -> None:
            work, until = begin(), time.monotonic() + self.timeout
            while tensor.is_cuda and not work.is_completed():
                if time.monotonic() > until:
                    raise RuntimeError(f"nothing came within {duration(self.timeout)}")
                time.sleep(_LOOK_EVERY)
            work.wait()

        self._told(what, wait)

    def _told(self, what: str, work: Callable[[], None]) -> None:
        """``work``, torch's errors of it in our words."""
        begun = time.monotonic()
        try:
            work()
        except (RuntimeError, ValueError) as error:  # torch's DistError, and what gloo raises, are RuntimeErrors
            raise self._lost(what, error, time.monotonic() - begun) from error

    def _lost(self, what: str, error: Exception, waited: float) -> RankError:
        if waited >= 0.95 * self.timeout:  # gloo counts for itself
            limit = f"{duration(self.timeout)}: it hangs, or needs a longer timeout"
            return RankError(
                f"rank {self.rank} waited for {what}: another of the {self.count} ranks has not come within {limit}"
            )
        if any(word in str(error) for word in _ENDED):
            return RankError(f"rank {self.rank} waited for {what}: another of the {self.count} ranks has ended")
        return RankError(f"rank {self.rank} waited for {what}: {said_first(error)}")


def _close() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
