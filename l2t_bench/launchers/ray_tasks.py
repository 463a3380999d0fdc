"""Commands as remote functions of Ray."""

import logging
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Sequence
from typing import Any

from l2t_bench.engine.cell import Status
from l2t_bench.engine.environment import without_home
from l2t_bench.errors import UserError, said_first
from l2t_bench.launchers.ray_settings import RaySettings
from l2t_bench.launchers.submitting import End, Request

_POLL_SECONDS = 0.1
_END_SECONDS = 30.0  # in which a cancelled task has ended its cell


class RayTasks:
    """Ray while a run goes on: connected to, or started, by ``with``. Raises ``UserError`` where that cannot be."""

    name = "Ray"
    at_once: int | None = None  # Ray's own queue is as good
    every = 0.5

    def __init__(self, settings: RaySettings) -> None:
        self._settings = settings
        self.lag = 15.0 if settings.address else 0.0  # a shared file system may show a new file so much later
        self._refs: dict[str, Any] = {}  # Ray's references, by job

    def __enter__(self) -> "RayTasks":
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a Ray that is started here tells nobody
        local = {} if self._settings.address else {"include_dashboard": False}
        before = signal.getsignal(signal.SIGTERM)
        try:
            ray.init(self._settings.address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"launcher ray: no Ray at {self._settings.address or 'this machine'}: {error}") from error
        finally:
            if signal.getsignal(signal.SIGTERM) is not before:  # Ray has made it its own
                signal.signal(signal.SIGTERM, before)
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        ray.shutdown()

    def submit(self, commands: Sequence[list[str]], request: Request) -> list[str]:
        import ray

        function = ray.remote(max_retries=0)(perform).options(**task_options(self._settings, request))
        refs = [function.remote(command) for command in commands]
        self._refs |= {ref.hex(): ref for ref in refs}
        return [ref.hex() for ref in refs]

    def over(self, jobs: Sequence[str]) -> Collection[str]:
        import ray

        ready, _ = ray.wait([self._refs[job] for job in jobs], num_returns=len(jobs), timeout=0)
        return {ref.hex() for ref in ready}

    def end_of(self, job: str) -> End:
        import ray

        try:
            code, last_words = ray.get(self._refs[job])
        except ray.exceptions.OutOfMemoryError as error:
            return End(said_first(error), Status.OOM_HOST)
        except ray.exceptions.RayError as error:
            return End(said_first(error))
        return End(f"exit code {code}").with_last_words(last_words)

    def cancel(self, jobs: Sequence[str]) -> bool:
        import ray

        refs = [self._refs[job] for job in jobs]
        for force in (False, True):
            for ref in refs:
                ray.cancel(ref, force=force)
            _, refs = ray.wait(refs, num_returns=len(refs), timeout=_END_SECONDS) if refs else ([], [])
        return not refs

    def close(self) -> None:
        """Nothing outlives its task."""


def task_options(settings: RaySettings, request: Request) -> dict[str, Any]:
    """What a task asks of the cluster."""
    given = {
        "num_cpus": settings.cpus_per_task or request.threads,
        "num_gpus": request.gpus if settings.gpus_per_task is None else settings.gpus_per_task,
        "memory": settings.memory,
        "resources": dict(settings.resources) or None,
    }
    return {key: value for key, value in given.items() if value is not None}


def perform(command: list[str]) -> tuple[int, str]:
    """On a machine of the cluster: run a command, that dies with this process; its exit code and its last line.

    Ray cancels a task by an interrupt, which Python sees between two looks.
    """
    with tempfile.TemporaryFile() as words:
        process = subprocess.Popen(
            [*command, str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        words.seek(0)
        lines = words.read().decode(errors="replace").strip().splitlines()
    return process.returncode, without_home(lines[-1]) if lines else ""
