"""What a run keeps of earlier ones in its folder, and what of it was measured under other conditions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from l2t_bench.engine.cell import Cell, Status
from l2t_bench.engine.environment import cpu_model
from l2t_bench.engine.records import DamagedError, inside, read_json
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError


def is_of_another_plan(folder: RunFolder, cells: Sequence[Cell]) -> bool:
    """Whether the folder's last command planned other cells than these, so that its report speaks of others."""
    try:
        before = folder.read_plan()
    except UserError:
        return True
    return {planned["cell_id"] for planned in before["cells"]} != {cell.cell_id for cell in cells}


def measured_otherwise(folder: RunFolder, kept: Sequence[Cell], *, elsewhere: bool = False) -> list[str]:
    """A line for each number of threads and processor, other than today's, that results of timed cells come from.

    ``elsewhere``: cells are run on other machines, and this one's processor says nothing.
    """
    here, environments = None if elsewhere else cpu_model(), dict[str, dict[str, Any]]()
    found: Counter[str] = Counter()
    for cell in kept:
        record = folder.record(cell) if cell.timed else None
        if record is None or record["status"] != Status.OK or not record["environment"]:
            continue
        name = record["environment"]
        if name not in environments:
            environments[name] = _environment(folder, name)
        found.update(_differences(environments[name], cell.threads, here))
    return [
        f"{count} kept results were measured {difference}: --rerun all measures them again"
        for difference, count in found.items()
    ]


def _differences(environment: dict[str, Any], threads: int, cpu: str | None) -> list[str]:
    measured_with, measured_on = environment.get("threads", threads), environment.get("cpu", cpu)
    with_threads = f"with {measured_with} thread{'s' * (measured_with != 1)}, not {threads}"
    return [
        *([with_threads] if measured_with != threads else []),
        *([f"on {measured_on}, not {cpu}"] if cpu is not None and measured_on != cpu else []),
    ]


def _environment(folder: RunFolder, name: str) -> dict[str, Any]:
    try:
        return read_json(inside(folder.path, "environments", f"{name}.json"))
    except (DamagedError, FileNotFoundError):
        return {}
