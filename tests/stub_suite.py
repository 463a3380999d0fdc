"""A plug-in for tests of the engine: a suite of cells that take no time and import no torch, and one that sleeps."""

import time
from collections.abc import Sequence
from typing import Any

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.recorder import Recorder
from l2t_bench.engine.suite import Request, Suite


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """Ten points of a curve and a figure that the seed decides."""
    for step in range(10):
        recorder.curve(step=step, value=cell.seed / (step + 1))
        time.sleep(cell.settings["seconds"] / 10)
    return {"answer": cell.seed**2}


def cells(request: Request) -> Sequence[Cell]:
    return [
        Cell("stub", 1, "stub", "stub", "none", "stub", seed, "stub_suite:measure", settings={"seconds": 0.02})
        for seed in request.seeds or range(50)
    ]


SUITE = Suite("stub", 1, "cells that take no time", {"stub": cells}, "stub")
