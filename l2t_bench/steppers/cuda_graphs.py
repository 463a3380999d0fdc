"""Calls recorded as CUDA graphs: one launch for all of their kernels, inputs staged in a stream of their own.

A recording is held to a plain call before it is used (``blocks``).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.steppers.recording import Lane, Recorder, Recording, Tree, copy_all, leaves_of

_WARM_UPS = 3  # as torch asks for: libraries set up their workspaces and choose their kernels outside the capture


@dataclass(frozen=True)
class CudaGraphs:
    """Records on ``device``, a CUDA device."""

    device: torch.device

    def record(self, function: Callable[[], Tree]) -> Recording:
        """Raises what torch raises for work that cannot be captured, such as a wait for the device."""
        with torch.cuda.device(self.device), torch.no_grad():
            self._warm_up(function)
            graph = torch.cuda.CUDAGraph()
            # Other threads, which may load data, do as they like meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = function()
        if any(not leaf.is_cuda for leaf in leaves_of(outputs)):
            raise ValueError("its results do not lie on the device")
        return _Captured(graph, outputs)

    def lane(self) -> Lane:
        return _SideStream(self.device)

    def _warm_up(self, function: Callable[[], Tree]) -> None:
        """Outside the stream of other work, as torch asks for."""
        here = torch.cuda.current_stream(self.device)
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(here)
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                function()
        here.wait_stream(side)


class _Captured:
    """The outputs, and all that was allocated on the way to them, lie in the graph's own pool as long as it lives."""

    def __init__(self, graph: torch.cuda.CUDAGraph, outputs: Tree) -> None:
        self._graph = graph
        self.outputs = outputs

    def replay(self) -> None:
        self._graph.replay()


class _SideStream:
    """A stream beside that of the work at hand; neither has the host wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def put(self, places: list[Tensor], tensors: list[Tensor]) -> None:
        """Behind all that is in the work's stream by now: the tensors are made, the places have been read."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copy_all(places, tensors)
        for tensor in tensors:
            if tensor.is_cuda:
                tensor.record_stream(self._stream)  # its memory is not given to others before it has been copied

    def join(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on ``device``; ``None``: nothing does."""
    return CudaGraphs(device) if device.type == "cuda" else None
