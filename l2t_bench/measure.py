"""Clocks and memory peaks of the phases of a computation, host and device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from l2t_bench.peaks import PhasePeak, peaks_now, reset_peaks
from l2t_bench.resident import resident_bytes


@dataclass(frozen=True)
class Memory:
    """A peak above a start, in bytes."""

    start: int | None
    peak: int | None


class Clock(Protocol):
    """Times one block of work."""

    def start(self) -> None: ...
    def stop(self) -> float:
        """Seconds since ``start``, all work of the block included."""
        ...


class HostClock:
    """The host's monotonic clock: right where the work is done when the call returns."""

    def start(self) -> None:
        self._begun = time.perf_counter_ns()

    def stop(self) -> float:
        return (time.perf_counter_ns() - self._begun) / 1e9


class DeviceClock:
    """A pair of CUDA events in the stream of the work: one synchronisation per block, none inside it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._begun: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._ended: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        self._begun.record(torch.cuda.current_stream(self._device))

    def stop(self) -> float:
        self._ended.record(torch.cuda.current_stream(self._device))
        self._ended.synchronize()
        return float(self._begun.elapsed_time(self._ended)) / 1e3


def clock_for(device: torch.device) -> Clock:
    """The clock that is right for work on ``device``."""
    return DeviceClock(device) if device.type == "cuda" else HostClock()


class Meter:
    """Seconds and memory peaks by phase, and counts by kind, of one computation on ``device``.

    Every peak is reset when a phase begins, so that a phase's peak is its own; the peak of the whole is the largest.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, PhasePeak] = {}
        self.counts: dict[str, int] = {}
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        reset_peaks(self._device)
        self._whole = PhasePeak()
        self._open: list[str] = []  # phases at work, the innermost last
        self._host_start = resident_bytes()
        self._device_start = torch.cuda.memory_allocated(device) if device.type == "cuda" else None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to phase ``name``, and join its peak to the phase's.

        A phase inside another is no part of it: neither its seconds nor its peak.
        """
        self._look()
        self._open.append(name)
        clock = clock_for(self._device)
        clock.start()
        try:
            yield
        finally:
            taken = clock.stop()
            self._look()
            self._open.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            if self._open:
                outer = self._open[-1]
                self.seconds[outer] = self.seconds.get(outer, 0.0) - taken

    def _look(self) -> None:
        """Join the peak since the last look to the whole's and to that of the phase at work."""
        peak = peaks_now(self._device)
        self._whole = self._whole.join(peak)
        if self._open:
            self.peaks[self._open[-1]] = self.peaks.get(self._open[-1], PhasePeak()).join(peak)
        reset_peaks(self._device)

    def count(self, **amounts: int) -> None:
        """Add to the counts of this kind, for instance ``count(gradients=1)``."""
        for kind, amount in amounts.items():
            self.counts[kind] = self.counts.get(kind, 0) + amount

    def peak(self) -> PhasePeak:
        """The largest sizes since the meter was made, inside phases and between them."""
        return self._whole.join(peaks_now(self._device))

    def host(self) -> Memory:
        """Resident size: when the meter was made, and at its largest since."""
        return Memory(self._host_start, self.peak().host)

    def device(self) -> Memory:
        """Bytes allocated on the device: when the meter was made, and at their largest since."""
        return Memory(self._device_start, self.peak().device)
