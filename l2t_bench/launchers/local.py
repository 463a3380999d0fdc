"""Cells on this machine: timed ones one at a time, the others after them, as many at once as there is room for."""

import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from l2t_bench.engine.attempt import POLL_SECONDS, begin, finish, interrupt
from l2t_bench.engine.cell import Cell, Status
from l2t_bench.engine.environment import environment
from l2t_bench.engine.process import Limits, Worker, kill_all, run_token
from l2t_bench.engine.store import RunFolder
from l2t_bench.errors import UserError
from l2t_bench.launchers.contract import News, Work, next_ready


class Local:
    """Each cell in a process of its own, a child of this one."""

    elsewhere = False

    def __init__(self, settings: Mapping[str, Any]) -> None:
        if settings:
            raise UserError(f"launcher local: unknown key {next(iter(settings))!r}: it has none")

    def launch(self, work: Work) -> Generator[News, None, None]:
        study = work.study
        limits = Limits(study.timeout, study.memory_limit)
        settings = environment(study.device, study.threads)
        lanes = 1 if study.device != "cpu" else os.cpu_count() or 1  # one cell per device at a time
        for cells, at_once in (
            ([cell for cell in work.cells if cell.timed], 1),
            ([cell for cell in work.cells if not cell.timed], lanes),
        ):
            yield from _work_off(work.folder, cells, at_once, limits, settings)

    def end_left(self, folder: RunFolder) -> None:
        kill_all(run_token(folder.path))


def _work_off(
    folder: RunFolder, cells: Sequence[Cell], lanes: int, limits: Limits, settings: dict[str, Any]
) -> Iterator[News]:
    queue = list(cells)
    running: list[Worker] = []
    try:
        while queue or running:
            while len(running) < lanes and (cell := next_ready(queue, {worker.cell.cell_id for worker in running})):
                queue.remove(cell)
                running.append(begin(folder, cell, limits, settings))
                yield News(cell, None)
            for worker in [each for each in running if each.ended()]:
                running.remove(worker)
                record = finish(folder, worker)
                yield News(worker.cell, Status(record["status"]), worker.seconds)
            time.sleep(POLL_SECONDS)
    finally:
        interrupt(folder, running)
