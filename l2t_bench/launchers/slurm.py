"""Cells as tasks of SLURM, through submitit: arrays, one device a task. Its local executor stands in for trials.

A task is ``engine.task``'s command, by which submitit's Python process is replaced. What submitit would know of its
end, by a result file and ``sacct``, is not asked for: the task's answer and ``slurm_queue`` say more.
"""

import shutil
from collections.abc import Generator, Mapping
from typing import Any

from l2t_bench.engine.environment import installed
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError
from l2t_bench.launchers.contract import News, Work
from l2t_bench.launchers.ledger import Ledger, ledger_of, new_ledger
from l2t_bench.launchers.slurm_settings import read_settings
from l2t_bench.launchers.submitit_jobs import LocalJobs, SlurmJobs
from l2t_bench.launchers.submitting import Scheduler, Submitting


class Slurm:
    """``--launcher slurm``, as the table ``[slurm]`` says."""

    name = "slurm"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._table = settings
        self._settings = read_settings(settings)
        self.elsewhere = self._settings.cluster == "slurm"
        if installed("submitit") is None:
            raise UserError("launcher slurm needs submitit, which is not installed: pip install 'l2t_bench[slurm]'")
        if self.elsewhere and shutil.which("sbatch") is None:
            raise UserError(
                "launcher slurm: there is no sbatch on this machine: run it where SLURM's commands are, "
                'or try it without SLURM: cluster = "local" in [slurm]'
            )

    def launch(self, work: Work) -> Generator[News, None, None]:
        ledger = new_ledger(work.folder, self.name, self._table)
        return Submitting(self._scheduler(ledger), work, ledger, self._settings.requeue).news()

    def end_left(self, folder: RunFolder) -> None:
        ledger = ledger_of(folder)
        if ledger is None:
            return
        ledger.withdraw()
        if not self._scheduler(ledger).cancel(ledger.jobs):
            raise UserError(
                f"jobs named {ledger.label} of an earlier run of this folder cannot be ended: see to them, repeat this"
            )
        ledger.close()

    def _scheduler(self, ledger: Ledger) -> Scheduler:
        kind = SlurmJobs if self.elsewhere else LocalJobs
        return kind(self._settings, ledger.folder / "submitit", ledger.label)
