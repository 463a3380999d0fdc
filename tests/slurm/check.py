"""``make slurm-test``: runs on a real SLURM of one node, which are killed, requeued, interrupted and out of time.

Exit code 0: all is as claimed. 1: something is not. 77: there can be no SLURM here, for the reason that is printed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cluster import CannotError, cluster

TESTS = Path(__file__).resolve().parents[1]
SKIPPED = 77  # as automake has it
_PATIENCE = 150.0

_STUDY = """
suites = ["stub"]
plugins = ["{plugin}"]
seeds = {cells}
launcher = "slurm"

[slurm]
partition = "test"
time = "{limit}"
requeue = 1

[overrides.stub]
seconds = {seconds}
"""


class Trial:
    """A run through SLURM by the command line, in a process that can be signalled."""

    def __init__(self, folder: Path, *, cells: int, seconds: float, limit: str = "10m") -> None:
        self.out = folder / "run"
        folder.mkdir()
        study = _STUDY.format(plugin=TESTS / "stub_suite.py", cells=cells, seconds=seconds, limit=limit)
        (folder / "study.toml").write_text(study)
        self._command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", "run", "--out", str(self.out)]
        self._command += ["--config", str(folder / "study.toml")]
        self.process = self._begun()

    def __enter__(self) -> "Trial":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def again(self) -> None:
        self.process = self._begun()

    def _begun(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ends_with(self, code: int) -> None:
        said, _ = self.process.communicate(timeout=_PATIENCE)
        assert self.process.returncode == code, f"exit code {self.process.returncode}, not {code}:\n{said}"

    def ledger(self) -> dict[str, str]:
        file = self.out / "launcher" / "jobs.json"
        found: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
        return found

    def running(self) -> list[str]:
        """Its jobs whose cells have begun."""
        begun = len(list(self.out.glob("cells/*/*/curves.jsonl")))
        jobs = told("squeue", "-h", "-r", "-t", "R", "-o", "%i", f"--name={self.ledger().get('label', 'none')}").split()
        return jobs if begun >= len(jobs) else []

    def statuses(self) -> Counter[str]:
        return Counter(json.loads(file.read_text())["status"] for file in self.out.glob("cells/*/*/cell.json"))

    def curves(self) -> set[int]:
        """How many points the cells' curves have: ten, unless two attempts wrote into one."""
        return {len(file.read_text().splitlines()) for file in self.out.glob("cells/*/*/curves.jsonl")}


def told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.2)


def a_task_that_is_killed_and_one_that_is_requeued_end_ok(folder: Path) -> None:
    with Trial(folder, cells=6, seconds=4.0) as trial:
        wait_for(lambda: len(trial.running()) >= 2)
        killed, requeued, *_ = trial.running()
        assert "_" in killed, "the cells are tasks of an array"
        told("scancel", "--signal=KILL", "--full", killed)
        told("scontrol", "requeue", requeued)
        trial.ends_with(0)
        assert trial.statuses() == {"ok": 6} and trial.curves() == {10}
        assert "Restarts=1" in told("scontrol", "show", "job", "--oneliner", requeued)
        states = dict(line.split() for line in told("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines())
        assert states[killed] not in ("COMPLETED", "RUNNING"), "it was handed in anew, as a job of another number"
        assert not (trial.out / "launcher").exists()


def an_interrupt_cancels_the_jobs_and_the_same_command_goes_on(folder: Path) -> None:
    with Trial(folder, cells=5, seconds=3.0) as trial:
        wait_for(lambda: trial.statuses()["ok"] and trial.running())
        label = trial.ledger()["label"]
        trial.process.send_signal(signal.SIGINT)
        trial.ends_with(130)
        assert not told("squeue", "-h", f"--name={label}"), "no job is left"
        files = {file: file.read_bytes() for file in trial.out.glob("cells/*/*/cell.json")}
        done = {file: content for file, content in files.items() if json.loads(content)["status"] == "ok"}
        trial.again()
        trial.ends_with(0)
        assert trial.statuses() == {"ok": 5} and trial.curves() == {10}
        assert done and {file: file.read_bytes() for file in done} == done


def jobs_of_a_killed_run_are_ended_by_the_next(folder: Path) -> None:
    with Trial(folder, cells=2, seconds=8.0) as trial:
        wait_for(trial.running)
        label = trial.ledger()["label"]
        trial.process.kill()
        trial.ends_with(-signal.SIGKILL)
        assert told("squeue", "-h", f"--name={label}"), "they go on without the process that handed them in"
        trial.again()
        trial.ends_with(0)
        assert trial.statuses() == {"ok": 2} and trial.curves() == {10}
        assert "CANCELLED" in told("squeue", "-h", "-t", "all", "-o", "%T", f"--name={label}")


def a_task_over_slurms_time_limit_is_a_timeout(trial: Trial) -> None:
    trial.ends_with(1)
    (file,) = trial.out.glob("cells/*/*/cell.json")
    record = json.loads(file.read_text())
    assert record["status"] == "timeout" and record["message"].startswith("SLURM: TIMEOUT, exit code"), record


def main() -> int:
    os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="l2t-runs-") as name, cluster():
            folder = Path(name)
            with Trial(folder / "slow", cells=1, seconds=600.0, limit="1m") as slow:  # a minute is SLURM's least
                for claim in (
                    a_task_that_is_killed_and_one_that_is_requeued_end_ok,
                    an_interrupt_cancels_the_jobs_and_the_same_command_goes_on,
                    jobs_of_a_killed_run_are_ended_by_the_next,
                ):
                    claim(folder / claim.__name__)
                    say(claim, begun)
                a_task_over_slurms_time_limit_is_a_timeout(slow)
                say(a_task_over_slurms_time_limit_is_a_timeout, begun)
    except CannotError as reason:
        print(f"skipped: {reason}")
        return SKIPPED
    return 0


def say(claim: Callable[..., None], begun: float) -> None:
    print(f"{time.monotonic() - begun:4.0f} s  {claim.__name__.replace('_', ' ')}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
