"""The data root: the one folder in which data sets that are not embedded are looked for."""

import os
from pathlib import Path

from l2t_bench.errors import UserError

VARIABLE = "L2T_BENCH_DATA"


def data_root() -> Path:
    """The folder that ``L2T_BENCH_DATA`` names, else ``~/.cache/l2t_bench``. It need not exist yet."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "l2t_bench"


def required(path: Path, data_set: str) -> Path:
    """``path``, or a ``UserError`` that says how to get ``data_set`` there."""
    if path.is_file():
        return path
    raise UserError(
        f"{data_set} is not in the data root: {path.relative_to(data_root())} is missing below {data_root()}; "
        f"run `l2t-bench prepare {data_set}`, or set {VARIABLE} to a folder that has it"
    )
