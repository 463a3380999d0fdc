"""Cells as tasks of Ray: each a remote function that runs ``engine.task``'s command and waits for it."""

import time
from collections.abc import Generator, Mapping
from typing import Any

from l2t_bench.engine.environment import installed
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.task import LOOK_SECONDS
from l2t_bench.errors import UserError
from l2t_bench.launchers.contract import News, Work
from l2t_bench.launchers.ledger import ledger_of, new_ledger
from l2t_bench.launchers.ray_settings import read_settings
from l2t_bench.launchers.ray_tasks import RayTasks
from l2t_bench.launchers.submitting import Submitting


class Ray:
    """``--launcher ray``, as the table ``[ray]`` says."""

    name = "ray"

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._table = settings
        self._settings = read_settings(settings)
        self.elsewhere = self._settings.address is not None
        if installed("ray") is None:
            raise UserError("launcher ray needs ray, which is not installed: pip install 'l2t_bench[ray]'")

    def launch(self, work: Work) -> Generator[News, None, None]:
        with RayTasks(self._settings) as tasks:
            ledger = new_ledger(work.folder, self.name, self._table)
            yield from Submitting(tasks, work, ledger, self._settings.requeue).news()

    def end_left(self, folder: RunFolder) -> None:
        """Ray ends the tasks of a process that is gone; one that it has not ended sees that its order is withdrawn."""
        ledger = ledger_of(folder)
        if ledger is not None:
            ledger.withdraw()
            time.sleep(2 * LOOK_SECONDS)
            ledger.close()
