"""The process of one cell: ``python -P -m l2t_bench.engine.worker CELL.JSON``. It writes ``cell.json`` when done."""

import json
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path

from l2t_bench.engine.cell import Cell, Outcome, Status
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import Diverged, Refused


def main(spec: Path) -> None:
    """Run the cell that ``spec`` describes: ``{"run": folder, "cell": {...}}``."""
    request = json.loads(spec.read_text())
    cell = Cell(**request["cell"])
    folder = RunFolder(Path(request["run"]))
    folder.write_cell(cell, run_cell(cell, folder.cell_folder(cell)))


def run_cell(cell: Cell, folder: Path) -> Outcome:
    """The cell's task, its outcome by how it ended."""
    start = time.perf_counter()

    def ended(status: Status, message: str | None) -> Outcome:
        return Outcome(status, time.perf_counter() - start, message=message)

    try:
        import torch

        torch.set_num_threads(cell.threads)
        module, _, function = cell.task.partition(":")
        measurements = getattr(import_module(module), function)(cell, folder)
    except Refused as refusal:
        return ended(Status.REFUSED, str(refusal))
    except Diverged as divergence:
        return ended(Status.DIVERGED, str(divergence))
    except MemoryError as error:
        return ended(Status.OOM_HOST, str(error) or "out of memory")
    except Exception as error:
        traceback.print_exc()
        kind = Status.OOM_DEVICE if type(error).__name__ == "OutOfMemoryError" else Status.ERROR
        return ended(kind, f"{type(error).__name__}: {error}".splitlines()[0])
    return Outcome(Status.OK, time.perf_counter() - start, measurements)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
