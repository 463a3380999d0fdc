"""What a cell's task measures with: phases with a clock and a peak, curves as they grow, raw samples, artifacts."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from l2t_bench.durable import write_json
from l2t_bench.engine.records import is_plain_name
from l2t_bench.errors import UserError
from l2t_bench.peaks import PhasePeak, cuda_in_use, peaks_now, reset_peaks

if TYPE_CHECKING:
    import torch

PHASES = (
    "import",
    "data",
    "build",
    "warm-up",
    "compile",
    "rollout",
    "dev",
    "reverse",
    "teacher update",
    "evaluation",
    "io",
)


class Phase:
    """Seconds and peak bytes of one phase, over all the times that it was entered."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak = PhasePeak()

    def saw(self, peak: PhasePeak) -> None:
        """Join a peak that something inside the phase measured, and reset, by itself."""
        self.peak = self.peak.join(peak)

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": self.seconds,
            "host_peak_bytes": self.peak.host,
            "device_peak_bytes": self.peak.device,
            "device_reserved_bytes": self.peak.reserved,
        }


class Recorder:
    """A cell's own, given to its task: ``task(cell, recorder) -> measurements``.

    ``folder`` is the cell's. ``curves.jsonl`` grows as the task goes; ``samples.json`` has the raw times behind the
    figures; ``artifacts/`` whatever files it keeps. Nothing of these counts before ``cell.json`` is there.
    ``needed_artifact`` finds a file that the cell which this one needs has kept. ``lasting`` is what an attempt that
    is cut leaves to the next.
    """

    def __init__(
        self,
        folder: Path,
        memory_limit: int | None = None,
        device: str = "cpu",
        needed: Path | None = None,
        begun: Path | None = None,
    ) -> None:
        self.folder = folder
        self._begun = begun or folder / "begun"
        self.needed = needed  # the folder of the cell that this one needs, to be read from
        self.device = device  # that the cell works on: its peaks are read, whatever card is torch's current one
        self.memory_limit = memory_limit  # bytes that the cell may take, on the host or on its GPU
        self.data: dict[str, str] = {}  # what the task read: the data set, checksums of its files
        self._phases: dict[str, Phase] = {}
        self._samples: dict[str, Any] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """The block belongs to phase ``name`` (one of ``PHASES``). Phases do not nest."""
        if name not in PHASES:
            raise UserError(f"no phase {name!r}; there are {', '.join(PHASES)}")
        phase = self._phases.setdefault(name, Phase())
        self._finish_device_work()
        reset_peaks(self._place())
        begun = time.perf_counter_ns()
        try:
            yield phase
        finally:
            self._finish_device_work()
            phase.seconds += (time.perf_counter_ns() - begun) / 1e9
            phase.saw(peaks_now(self._place()))

    def add_phase(self, name: str, seconds: float, peak: PhasePeak | None = None) -> None:
        """Add what something else has measured to phase ``name``."""
        phase = self._phases.setdefault(name, Phase())
        phase.seconds += seconds
        phase.saw(peak or PhasePeak())

    def curve(self, **point: float | int | str | None) -> None:
        """Append a point to ``curves.jsonl`` at once, so that a run that is going on can be watched."""
        with (self.folder / "curves.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(point, allow_nan=False) + "\n")

    def samples(self, name: str, values: Sequence[Any] | Mapping[str, Any]) -> None:
        """Keep raw values, such as the seconds of every timed block, for ``samples.json``."""
        self._samples[name] = values

    def artifact(self, name: str) -> Path:
        """Where to write the file ``name`` that the cell keeps. Raises ``UserError`` for a name that is no file's."""
        if not is_plain_name(name):
            raise UserError(f"{name!r} cannot be a file's name")
        place = self.folder / "artifacts"
        place.mkdir(exist_ok=True)
        return place / name

    def lasting(self, conditions: str) -> Path:
        """A folder that the next attempt at this cell finds as this one leaves it, if it is cut before it is done.

        ``conditions``: what must be the same for work to be gone on with. Raises ``UserError`` as ``artifact`` does.
        """
        if not is_plain_name(conditions):
            raise UserError(f"{conditions!r} cannot be a folder's name")
        return self._begun / conditions

    def needed_artifact(self, name: str) -> Path:
        """Where the needed cell has written its file ``name``. Raises ``UserError`` where nothing is needed."""
        if self.needed is None or not is_plain_name(name):
            raise UserError(f"no cell is needed that could have kept {name!r}")
        return self.needed / "artifacts" / name

    @property
    def phases(self) -> dict[str, dict[str, Any]]:
        """All phases so far, in the order of ``PHASES``."""
        return {name: self._phases[name].as_json() for name in PHASES if name in self._phases}

    def close(self) -> None:
        """The task is done: write ``samples.json``, if there are any; nobody will go on from what it has left."""
        if self._samples:
            write_json(self.folder / "samples.json", {"schema": 1, **self._samples})
        shutil.rmtree(self._begun, ignore_errors=True)

    def _place(self) -> "torch.device | None":
        """The cell's card, once somebody uses one; until then, and on the host, there is none to ask."""
        if cuda_in_use() is None or not self.device.startswith("cuda"):
            return None
        import torch

        return torch.device(self.device)

    def _finish_device_work(self) -> None:
        if (cuda := cuda_in_use()) is not None:
            cuda.synchronize(self._place())
