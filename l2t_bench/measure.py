"""Clocks and memory peaks of the phases of a computation, host and device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

from l2t_bench.resident import highest, peak_resident_bytes, reset_peak_resident, resident_bytes


@dataclass(frozen=True)
class Memory:
    """A peak above a start, in bytes."""

    start: int | None
    peak: int | None


@dataclass(frozen=True)
class PhasePeak:
    """The largest sizes during one phase, in bytes; ``None`` where the platform does not tell."""

    host: int | None = None  # resident size of the process
    device: int | None = None  # allocated in tensors
    reserved: int | None = None  # held by torch's allocator, cached blocks included

    def join(self, other: "PhasePeak") -> "PhasePeak":
        """The peak of both."""
        return PhasePeak(
            highest(self.host, other.host), highest(self.device, other.device), highest(self.reserved, other.reserved)
        )


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
        self._reset_peaks()
        self._whole = PhasePeak()
        self._host_start = resident_bytes()
        self._device_start = torch.cuda.memory_allocated(device) if device.type == "cuda" else None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the seconds of the block to phase ``name``, and join its peak to the phase's."""
        self._whole = self._whole.join(self._peaks_now())
        self._reset_peaks()
        clock = clock_for(self._device)
        clock.start()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + clock.stop()
            self.peaks[name] = self.peaks.get(name, PhasePeak()).join(self._peaks_now())

    def count(self, **amounts: int) -> None:
        """Add to the counts of this kind, for instance ``count(gradients=1)``."""
        for kind, amount in amounts.items():
            self.counts[kind] = self.counts.get(kind, 0) + amount

    def peak(self) -> PhasePeak:
        """The largest sizes since the meter was made, inside phases and between them."""
        return self._whole.join(self._peaks_now())

    def host(self) -> Memory:
        """Resident size: when the meter was made, and at its largest since."""
        return Memory(self._host_start, self.peak().host)

    def device(self) -> Memory:
        """Bytes allocated on the device: when the meter was made, and at their largest since."""
        return Memory(self._device_start, self.peak().device)

    def _peaks_now(self) -> PhasePeak:
        if self._device.type != "cuda":
            return PhasePeak(peak_resident_bytes())
        return PhasePeak(
            peak_resident_bytes(),
            torch.cuda.max_memory_allocated(self._device),
            torch.cuda.max_memory_reserved(self._device),
        )

    def _reset_peaks(self) -> None:
        reset_peak_resident()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
