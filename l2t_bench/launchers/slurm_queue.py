"""What SLURM says of a run's jobs: ``squeue`` how they stand, ``sacct`` or ``scontrol`` how one ended.

Submitit asks ``sacct`` alone, which a cluster without accounting does not have: there a job that was killed would never
end for it.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence

from l2t_bench.engine.cell import Status
from l2t_bench.launchers.submitting import End

_OVER = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ]
)
_EVIDENCE: Mapping[str, Status] = {"TIMEOUT": Status.TIMEOUT, "OUT_OF_MEMORY": Status.OOM_HOST}
_ANSWER_SECONDS = 60.0  # the longest that a command of SLURM's may take
_GONE_SECONDS = 90.0  # the longest that jobs may take to end; SLURM's own KillWait is 30 s


def over(label: str, jobs: Sequence[str]) -> set[str]:
    """Those of the jobs of this name that are over: one that SLURM no longer knows is; none, where it says nothing."""
    told = _told("squeue", "--noheader", "--array", "--states=all", f"--name={label}", "--format=%i %T")
    return set() if told is None else set(jobs) - going_in(told)


def going_in(listing: str) -> set[str]:
    """The jobs that are not over, of ``squeue``'s lines ``12_3 RUNNING``."""
    lines = [line.split() for line in listing.splitlines()]
    return {job for job, state in lines if state not in _OVER}


def end_of(job: str) -> End:
    """State and exit code of a job that is over, as far as SLURM still knows them."""
    told = _told("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode")
    line = (told or "").strip().partition("\n")[0]
    if line:
        state, _, code = line.partition("|")
        return end_in(state, code)
    shown = _told("scontrol", "show", "job", "--oneliner", job) or ""
    found = dict(re.findall(r"\b(JobState|ExitCode)=(\S+)", shown))
    return end_in(found.get("JobState", ""), found.get("ExitCode", ""))


def end_in(state: str, code: str) -> End:
    """``CANCELLED by 1000`` and ``0:15`` in words; evidence where the state names a limit."""
    if not state:
        return End("the job is gone, and its state is no longer known")
    said = f"{state}, exit code {code}" if code else state
    return End(said, _EVIDENCE.get(state.split(maxsplit=1)[0].rstrip("+"), Status.CRASHED))


def cancel(label: str) -> bool:
    """End every job of this name; whether none is left."""
    deadline = time.monotonic() + _GONE_SECONDS
    _told("scancel", f"--name={label}")
    while time.monotonic() < deadline:
        told = _told("squeue", "--noheader", "--array", f"--name={label}", "--format=%i")
        if told is not None and not told.strip():
            return True
        time.sleep(1.0)
    return False


def _told(*command: str) -> str | None:
    """What a command prints; ``None`` where there is no such command, it fails or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
