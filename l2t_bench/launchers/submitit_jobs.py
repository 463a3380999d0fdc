"""Commands handed in through submitit: to SLURM, or for a trial to this machine."""

import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from l2t_bench.engine.attempt import last_line
from l2t_bench.errors import UserError
from l2t_bench.launchers import slurm_queue
from l2t_bench.launchers.become import become
from l2t_bench.launchers.slurm_settings import SlurmSettings
from l2t_bench.launchers.submitting import End, Request

if TYPE_CHECKING:
    import submitit

_START_AND_END = 300.0  # seconds of a job beside those of its cell
_LARGEST_ARRAY = 1000  # tasks; SLURM's MaxArraySize is 1001 where nobody has set it
_END_SECONDS = 15.0  # in which a process of this machine has ended its cell politely
_PYTHON = f"{shlex.quote(sys.executable)} -P"  # what lies in the working folder is not imported


class SlurmJobs:
    """Arrays of SLURM's, all named ``label``; submitit's scripts, pickles and logs are in ``folder``."""

    name = "SLURM"
    at_once: int | None = None  # the arrays see to it
    lag = 15.0  # a shared file system may show a new file so much later
    every = 1.0

    def __init__(self, settings: SlurmSettings, folder: Path, label: str) -> None:
        self._settings, self._folder, self._label = settings, folder, label
        self._logs: dict[str, Path] = {}

    def submit(self, commands: Sequence[list[str]], request: Request) -> list[str]:
        import submitit

        executor = submitit.SlurmExecutor(self._folder, python=_PYTHON)
        executor.update_parameters(**sbatch_parameters(self._settings, request, self._label))
        jobs: list[submitit.Job[None]] = []
        try:
            with _outside_of_jobs():
                for first in range(0, len(commands), _LARGEST_ARRAY):
                    jobs += executor.map_array(become, commands[first : first + _LARGEST_ARRAY])
        except (RuntimeError, OSError) as error:
            raise UserError(f"SLURM does not take the jobs: {'; '.join(str(error).splitlines())}") from error
        self._logs |= {job.job_id: job.paths.stderr for job in jobs}
        return [job.job_id for job in jobs]

    def over(self, jobs: Sequence[str]) -> Collection[str]:
        return slurm_queue.over(self._label, jobs)

    def end_of(self, job: str) -> End:
        return slurm_queue.end_of(job).with_last_words(last_line(self._logs[job]))

    def cancel(self, jobs: Sequence[str]) -> bool:
        del jobs  # the label says more: it is known before SLURM has told the ids
        return slurm_queue.cancel(self._label)

    def close(self) -> None:
        """They leave the queue within seconds, and nobody waits for that."""


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """What is handed in from inside a job does not take over that job's sizes; where SLURM's configuration is stays."""
    from submitit.helpers import clean_env

    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    configuration = {name: value for name, value in os.environ.items() if name == "SLURM_CONF"}
    with clean_env():
        os.environ.update(configuration)
        yield


def sbatch_parameters(settings: SlurmSettings, request: Request, label: str) -> dict[str, Any]:
    """What submitit's SLURM executor is told; sizes are in MiB and times in minutes there, both rounded up.

    A step does not inherit its job's number of CPUs since SLURM 22.05: ``srun`` is told it too.
    """
    cpus = settings.cpus_per_task or request.threads
    given = {
        "job_name": label,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "time": math.ceil((settings.time or request.seconds + _START_AND_END) / 60),
        "mem": None if settings.mem is None else f"{math.ceil(settings.mem / 2**20)}M",
        "cpus_per_task": cpus,
        "srun_args": [f"--cpus-per-task={cpus}"],
        "gpus_per_task": (request.gpus if settings.gpus_per_task is None else settings.gpus_per_task) or None,
        "array_parallelism": settings.array_parallelism,
        "setup": list(settings.setup) or None,
        "exclusive": True if settings.exclusive and request.alone else None,
        "additional_parameters": dict(settings.extra) or None,
    }
    return {key: value for key, value in given.items() if value is not None}


class LocalJobs:
    """Processes of this machine by submitit's local executor, as many as there are cores. A job's id is a process's."""

    name = "submitit"
    lag = 0.0
    every = 0.1

    def __init__(self, settings: SlurmSettings, folder: Path, label: str) -> None:
        del label
        self._settings, self._folder = settings, folder
        self.at_once: int | None = min(settings.array_parallelism, os.cpu_count() or 1)
        self._jobs: dict[str, submitit.Job[None]] = {}

    def submit(self, commands: Sequence[list[str]], request: Request) -> list[str]:
        import submitit

        executor = submitit.LocalExecutor(self._folder, python=_PYTHON)
        minutes = math.ceil((self._settings.time or request.seconds + _START_AND_END) / 60)
        executor.update_parameters(timeout_min=minutes, gpus_per_node=request.gpus)
        jobs = executor.map_array(become, commands)
        self._jobs |= {job.job_id: job for job in jobs}
        return [job.job_id for job in jobs]

    def over(self, jobs: Sequence[str]) -> Collection[str]:
        return [job for job in jobs if self._jobs[job].done()]

    def end_of(self, job: str) -> End:
        ended = self._jobs[job]
        return End(str(ended.state)).with_last_words(last_line(ended.paths.stderr))

    def cancel(self, jobs: Sequence[str]) -> bool:
        going = [process for job in jobs for process in self._processes(int(job))]
        for number in (signal.SIGINT, signal.SIGKILL):
            for process in going:
                with suppress(psutil.Error):
                    process.send_signal(number)
            deadline = time.monotonic() + _END_SECONDS
            while (going := [process for process in going if not _is_over(process)]) and time.monotonic() < deadline:
                time.sleep(0.05)
        self.close()
        return not going

    def close(self) -> None:
        """Wait for submitit's own processes, which end a moment after their tasks."""
        deadline = time.monotonic() + _END_SECONDS
        for job in self._jobs.values():
            while not job.done() and time.monotonic() < deadline:
                time.sleep(0.02)

    def _processes(self, pid: int) -> list[psutil.Process]:
        """Submitit's process of that number and the task below it; none where the number is another's by now."""
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if str(self._folder) in process.cmdline():
                return [process, *process.children()]
        return []


def _is_over(process: psutil.Process) -> bool:
    """Whether a process has ended, though nobody may have taken its end notice: in a container, often nobody does."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
