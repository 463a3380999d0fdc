"""A store that keeps a GPU's states in the host's memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted
from l2t_bench.stores.rows import Layout, layout_of


@dataclass(frozen=True)
class _Kept:
    """A step's state, as bytes of the host's memory."""

    step: Step
    layout: Layout
    row: Tensor


class HostMemory(Store):
    """``host``: every omega_t, in the host's memory. Device memory P, host memory T*P; no step is taken twice.

    For a GPU: the rows lie in pinned memory, which torch allots in powers of two, so that up to twice as much may be
    taken. The copies are put into the stream of the student's own work, behind what makes a state and before what comes
    next: they need no waiting for, and a state's memory is used again only when its copy is done. On a CPU this saves
    nothing: it is ``all`` with a copy of every state.
    """

    name = "host"

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._device = rollout.problem.device
        self._apart = self._device.type == "cuda"
        self._kept: list[_Kept] = []
        self._layouts: dict[Layout, Layout] = {}

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        del room
        row = sizes.visited(wanted)
        rows = wanted.steps * row - (sizes.slots if wanted.slots and wanted.first == 0 else 0)  # omega_0 has none
        return Law(rows + row) if sizes.on_host else Law(row, host_bytes=rows)

    def keep(self, step: Step, state: StudentState) -> None:
        visited = self.visited(state)
        layout = layout_of(visited)
        layout = self._layouts.setdefault(layout, layout)
        row = torch.empty(layout.size, dtype=torch.uint8, pin_memory=self._apart)
        layout.write(visited, row, non_blocking=self._apart)
        self._kept.append(_Kept(step, layout, row))

    def backwards(self) -> Iterator[Visit]:
        while self._kept:
            kept = self._kept.pop()
            # torch keeps pinned memory that is given back until the copies out of it are done.
            state = kept.layout.read(kept.row, self._device, non_blocking=self._apart)
            yield Visit(kept.step, state)
