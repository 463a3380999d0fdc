"""Memory peaks since the last reset, host and device, in one record. Needs no torch; looks at a GPU that is in use."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from l2t_bench.resident import peak_resident_bytes, reset_peak_resident

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PhasePeak:
    """The largest sizes during one phase, in bytes; ``None`` where the platform does not tell."""

    host: int | None = None  # resident size of the process
    device: int | None = None  # allocated in tensors
    reserved: int | None = None  # held by torch's allocator, cached blocks included

    def join(self, other: "PhasePeak") -> "PhasePeak":
        """The peak of both."""
        return PhasePeak(
            _highest(self.host, other.host),
            _highest(self.device, other.device),
            _highest(self.reserved, other.reserved),
        )


def peaks_now(device: "torch.device | None" = None) -> PhasePeak:
    """The peaks since ``reset_peaks``, of the host and ``device``; of the GPU that is in use, if any, if left out."""
    cuda = _cuda_of(device)
    if cuda is None:
        return PhasePeak(peak_resident_bytes())
    return PhasePeak(peak_resident_bytes(), cuda.max_memory_allocated(device), cuda.max_memory_reserved(device))


def reset_peaks(device: "torch.device | None" = None) -> None:
    """Make the sizes of now the peaks so far."""
    reset_peak_resident()
    if (cuda := _cuda_of(device)) is not None:
        cuda.reset_peak_memory_stats(device)


def cuda_in_use() -> Any | None:
    """``torch.cuda`` where somebody has imported torch and used a GPU: asking must not import or initialise it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _cuda_of(device: "torch.device | None") -> Any | None:
    return cuda_in_use() if device is None or device.type == "cuda" else None


def _highest(*peaks: int | None) -> int | None:
    known = [peak for peak in peaks if peak is not None]
    return max(known) if known else None
