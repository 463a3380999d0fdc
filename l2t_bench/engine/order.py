"""Orders to tasks on other machines, and their answers: files in a folder that these machines share.

``CELL.json`` is an order. The task that begins it leaves ``CELL.begun`` beside it, and once there is a result, whatever
its status, ``CELL.ended.json``. An order that is no longer there is withdrawn: its task ends without a result.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from l2t_bench.durable import write_json
from l2t_bench.engine.cell import SCHEMA, Cell
from l2t_bench.engine.process import Limits
from l2t_bench.engine.records import DamagedError, read_json
from l2t_bench.engine.study import Study
from l2t_bench.plugins import plugin_files

DISK_FULL = "disk full"  # in place of a status
_BEGUN, _ENDED = ".begun", ".ended.json"


@dataclass(frozen=True)
class Order:
    """A cell, its limits, the files that its names stand for, and what the environment says to this package.

    Not every scheduler hands an environment on.
    """

    cell: Cell
    limits: Limits
    plugins: tuple[str, ...]
    files: tuple[str, ...]
    environment: Mapping[str, str]


def write_order(file: Path, cell: Cell, study: Study) -> None:
    """Have ``file`` be the order of a cell, unanswered. A scheduler leaves one GPU visible, whose number is 0."""
    content = {
        "schema": SCHEMA,
        "cell": asdict(replace(cell, device=cell.device.partition(":")[0])),
        "limits": asdict(Limits(study.timeout, study.memory_limit)),
        "plugins": plugin_files(),
        "files": list(study.files),
        "environment": {name: value for name, value in os.environ.items() if _is_ours(name)},
    }
    for left in (file.with_suffix(_BEGUN), file.with_suffix(_ENDED)):
        left.unlink(missing_ok=True)
    write_json(file, content)


def read_order(file: Path) -> Order | None:
    """``None`` for one that is withdrawn."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        return None
    cell, limits = Cell(**content["cell"]), Limits(**content["limits"])
    return Order(cell, limits, tuple(content["plugins"]), tuple(content["files"]), content["environment"])


def _is_ours(variable: str) -> bool:
    return variable.startswith("L2T_BENCH_") or variable == "PYTHONPATH"


def is_withdrawn(file: Path) -> bool:
    """Whether an order is gone; a file system that does not answer says nothing of it."""
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def mark_begun(order: Path) -> None:
    with suppress(FileNotFoundError):  # it is withdrawn
        order.with_suffix(_BEGUN).touch()


def write_answer(order: Path, **content: Any) -> None:
    write_json(order.with_suffix(_ENDED), {"schema": SCHEMA, **content})


def answer(order: Path) -> Mapping[str, Any] | None:
    """``status`` and ``seconds`` of the cell; ``DISK_FULL`` and a ``message``; ``None`` for no answer yet."""
    try:
        return read_json(order.with_suffix(_ENDED))
    except (FileNotFoundError, DamagedError):
        return None


def begun_and_ended(orders: Path) -> tuple[set[Path], set[Path]]:
    """The orders in a folder that have been begun, and those that are answered, by one look at it."""
    with suppress(OSError):  # a network file system then forgets what it remembers of the folder
        orders.chmod(orders.stat().st_mode)
    names = [file.name for file in orders.glob("*")]
    found = [
        {orders / f"{name.removesuffix(ending)}.json" for name in names if name.endswith(ending)}
        for ending in (_BEGUN, _ENDED)
    ]
    return found[0], found[1]
