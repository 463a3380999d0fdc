"""The table ``[slurm]`` of a TOML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l2t_bench.engine.toml_values import at_least, byte_size, check_keys, choice, duration, names, table, text, truth
from l2t_bench.errors import UserError


@dataclass(frozen=True)
class SlurmSettings:
    """What is asked of SLURM for each task; what is ``None`` or empty is the cluster's own.

    ``time`` is in seconds; left out, it is the study's timeout of a cell and five minutes. ``mem`` is in bytes,
    ``exclusive`` gives each timed cell a node for itself, ``requeue`` says how often a task that ended without a result
    is handed in anew. ``extra`` are other options of ``sbatch``, by their long names. Raises ``UserError``.
    """

    cluster: str = "slurm"  # or "local": processes of this machine, by submitit's local executor
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: float | None = None
    mem: int | None = None
    cpus_per_task: int | None = None  # left out: the threads of the cells
    gpus_per_task: int | None = None  # left out: one where the study's device is a GPU, else none
    array_parallelism: int = 256  # tasks of an array that may run at once
    requeue: int = 3
    setup: tuple[str, ...] = ()  # lines of shell before each task
    exclusive: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


_READERS: Mapping[str, Any] = {
    "cluster": choice("slurm", "local"),
    "partition": text,
    "account": text,
    "qos": text,
    "time": duration,
    "mem": byte_size,
    "cpus_per_task": at_least(1),
    "gpus_per_task": at_least(0),
    "array_parallelism": at_least(1),
    "requeue": at_least(0),
    "setup": names,
    "exclusive": truth,
    "extra": table,
}


def read_settings(content: Mapping[str, Any]) -> SlurmSettings:
    """The settings in a table. Raises ``UserError`` that names the key that is unknown or wrong."""
    check_keys(content, _READERS, "slurm: ")
    settings = SlurmSettings(**{key: _READERS[key](f"slurm: {key}", value) for key, value in content.items()})
    for key, value in settings.extra.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is False or not isinstance(value, str | int | float) or not finite:
            raise UserError(f"slurm: extra.{key} must be text, a number, or true for an option without value")
    return settings
