"""The table ``[ray]`` of a TOML file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l2t_bench.engine.toml_values import at_least, byte_size, check_keys, table, text
from l2t_bench.errors import UserError


@dataclass(frozen=True)
class RaySettings:
    """What is asked of Ray for each task.

    ``address`` is a cluster's, or ``auto`` for the one that this machine belongs to; left out, Ray is started here for
    the run. ``memory`` is in bytes, ``resources`` are others by their names: ``{timing = 1}``, where each machine was
    started with one, keeps cells apart. ``requeue`` is as for SLURM. Raises ``UserError``.
    """

    address: str | None = None
    cpus_per_task: int | None = None  # left out: the threads of the cells
    gpus_per_task: int | None = None  # left out: one where the study's device is a GPU, else none
    memory: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    requeue: int = 3


_READERS: Mapping[str, Any] = {
    "address": text,
    "cpus_per_task": at_least(1),
    "gpus_per_task": at_least(0),
    "memory": byte_size,
    "resources": table,
    "requeue": at_least(0),
}


def read_settings(content: Mapping[str, Any]) -> RaySettings:
    """The settings in a table. Raises ``UserError`` that names the key that is unknown or wrong."""
    check_keys(content, _READERS, "ray: ")
    settings = RaySettings(**{key: _READERS[key](f"ray: {key}", value) for key, value in content.items()})
    for key, value in settings.resources.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise UserError(f"ray: resources.{key} must be a positive number, not {value!r}")
    return settings
