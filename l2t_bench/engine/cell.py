"""A cell: the unit of work, of isolation and of resumption; what it is, and how it ended."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

SCHEMA = 2
_NOT_IDENTITY = ("task", "timed", "threads")


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
    INTERRUPTED = "interrupted"


FAILURES = frozenset(Status) - {Status.OK, Status.REFUSED}
_OF_OTHERS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")  # signals that one process sends another


@dataclass(frozen=True)
class Cell:
    """One measurement: what is run (``task``, a "module:function"), on what, and by what.

    ``timed`` cells run alone on the machine; others may share it. Neither that nor ``threads`` is part of the identity,
    and of ``device`` only its kind is: a run may go on with another GPU of the machine.

    ``needs``: the id of another cell of its suite whose files the task reads, as a student's does its teacher's. It is
    run after that one, again where that one was, and not at all without its result.
    """

    suite: str
    suite_version: int
    profile: str
    kind: str
    problem: str
    method: str
    seed: int
    task: str
    round: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = True
    threads: int = 1
    needs: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """The declared data that make this cell this cell; ``needs`` among them where it needs another."""
        own = {key: value for key, value in asdict(self).items() if key not in _NOT_IDENTITY}
        own["device"] = self.device.partition(":")[0]
        if not self.needs:
            del own["needs"]
        return own

    @property
    def cell_id(self) -> str:
        """A readable name that is safe as a folder's, ending in a hash of the identity."""
        return cell_id_of(self.identity)

    @property
    def label(self) -> str:
        """What a person sees while it runs."""
        return label_of(self.identity)


def cell_id_of(identity: Mapping[str, Any]) -> str:
    """The name that an identity gives its cell. Raises ``KeyError`` for one that lacks its words."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]
    words = f"{identity['kind']}-{identity['problem']}-{identity['method']}-s{identity['seed']}"
    return f"{re.sub(r'[^A-Za-z0-9.=]+', '-', words).strip('-.')[:80]}-{digest}"


def is_cell_id(name: str) -> bool:
    """Whether ``cell_id_of`` may have given this name: other folders beside the cells' are no cells."""
    return re.fullmatch(r"[A-Za-z0-9.=-]*-[0-9a-f]{10}", name) is not None


def label_of(identity: Mapping[str, Any]) -> str:
    """``gradient digits/mlp rmd seed 0``, and the round where there is more than the first."""
    number = identity.get("round", 0)
    words = f"{identity['kind']} {identity['problem']} {identity['method']} seed {identity['seed']}"
    return f"{words} round {number}" if number else words


@dataclass(frozen=True)
class Outcome:
    """What came of a cell, as ``cell.json`` holds it."""

    status: Status
    seconds: float  # of the whole process, as its parent or it itself saw it
    measurements: Mapping[str, Any] = field(default_factory=dict)
    message: str | None = None
    signal: str | None = None  # that its process crashed by
    phases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # seconds and peak bytes by phase
    environment: str | None = None  # the name of a file in environments/
    code: str | None = None  # fingerprint of the sources that it ran
    data: Mapping[str, str] = field(default_factory=dict)  # checksums of the files it read
    needed: str | None = None  # the seal of the result that it needed, as it was then


def is_result(record: Mapping[str, Any]) -> bool:
    """Whether a record says what became of the cell itself: not that it was interrupted, or killed by somebody else.

    Such a cell is run again by the same command, and does not take the place of a result.
    """
    return record["status"] != Status.INTERRUPTED and record.get("signal") not in _OF_OTHERS


def seal_of(record: Mapping[str, Any]) -> str:
    """A hash of all that a ``cell.json`` says: another for every time that the cell is run."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def cell_record(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """The content of ``cell.json``."""
    return {
        "schema": SCHEMA,
        "cell_id": cell.cell_id,
        "status": outcome.status.value,
        "message": outcome.message,
        "signal": outcome.signal,
        "identity": cell.identity,
        "environment": outcome.environment,
        "code": outcome.code,
        "data": dict(outcome.data),
        "needed": outcome.needed,
        "seconds": outcome.seconds,
        "phases": dict(outcome.phases),
        "measurements": dict(outcome.measurements),
    }
