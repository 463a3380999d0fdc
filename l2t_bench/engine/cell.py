"""A cell: the unit of work, of isolation and of resumption; what it is, and how it ended."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 1


class Status(StrEnum):
    """How a cell ended. All but ``ok`` and ``refused`` are failures, and failures are results: shown, never dropped."""

    OK = "ok"
    REFUSED = "refused"
    DIVERGED = "diverged"
    ERROR = "error"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    OOM_HOST = "oom_host"
    OOM_DEVICE = "oom_device"


FAILURES = frozenset(Status) - {Status.OK, Status.REFUSED}


@dataclass(frozen=True)
class Cell:
    """One measurement: what is run (``task``, a "module:function"), on what, and by what.

    ``timed`` cells run alone on the machine; others may share it. Neither that nor ``threads`` is part of the identity.
    """

    suite: str
    suite_version: int
    profile: str
    kind: str
    problem: str
    method: str
    seed: int
    task: str
    dtype: str = "float32"
    device: str = "cpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = True
    threads: int = 1

    @property
    def identity(self) -> dict[str, Any]:
        """The declared data that make this cell this cell."""
        own = asdict(self)
        for key in ("task", "timed", "threads"):
            del own[key]
        return own

    @property
    def cell_id(self) -> str:
        """A readable name that is safe as a folder's, ending in a hash of the identity."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:10]
        words = f"{self.kind}-{self.problem}-{self.method}-s{self.seed}"
        return f"{re.sub(r'[^A-Za-z0-9.=]+', '-', words).strip('-')[:80]}-{digest}"

    @property
    def label(self) -> str:
        """What a person sees while it runs."""
        return f"{self.kind} {self.problem} {self.method} seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """What came of a cell, as ``cell.json`` holds it."""

    status: Status
    seconds: float
    measurements: Mapping[str, Any] = field(default_factory=dict)
    message: str | None = None


def cell_record(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """The content of ``cell.json``."""
    return {
        "schema": SCHEMA,
        "cell_id": cell.cell_id,
        "status": outcome.status.value,
        "message": outcome.message,
        "identity": cell.identity,
        "seconds": outcome.seconds,
        "measurements": outcome.measurements,
    }
