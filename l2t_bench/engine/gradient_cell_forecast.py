"""What a gradient cell will take, predicted by short runs."""

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.forecast import STARTING, Expected
from l2t_bench.registry import build_problem, load_backend
from l2t_bench.resident import resident_bytes


def measure(cell: Cell, memory_limit: int | None) -> Expected:
    """The longest horizon's peak on top of what the process holds, and every timed run's seconds. Raises ``Refused``.

    The limit is the cell's own to keep: it is looked at when the cell runs, horizon by horizon.
    """
    del memory_limit
    problem = build_problem(cell.problem, dtype=cell.dtype, device=cell.device)
    backend = load_backend(cell.method)
    predictions = [backend.predict(problem, horizon) for horizon in cell.settings["horizons"]]
    runs = [repeats + 1 for repeats in cell.settings["repeats"]]  # and one for its memory
    seconds = STARTING + sum(count * each.seconds for count, each in zip(runs, predictions, strict=True))
    held = 0 if cell.device.startswith("cuda") else resident_bytes() or 0
    return Expected(seconds, held + max(each.bytes for each in predictions), "prediction")
