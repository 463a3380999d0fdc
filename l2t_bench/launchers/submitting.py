"""Cells as tasks of a scheduler: handed in when they are ready, known by their answers, handed in again where lost."""

import time
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

from l2t_bench.engine.attempt import told
from l2t_bench.engine.cell import Cell, Outcome, Status
from l2t_bench.engine.order import DISK_FULL, answer, begun_and_ended, write_order
from l2t_bench.engine.process import DiskFullError
from l2t_bench.engine.task import command
from l2t_bench.launchers.contract import News, Work, next_ready
from l2t_bench.launchers.ledger import Ledger

_ASK_SECONDS = (1.0, 30.0)  # between two questions to the scheduler: a tenth of the time since the last news, in these


@dataclass(frozen=True)
class End:
    """What a scheduler says of a job that is over: its words, and a status where they are evidence of one."""

    said: str
    status: Status = Status.CRASHED

    def with_last_words(self, line: str) -> "End":
        """And what its log says last."""
        return replace(self, said=f"{self.said}: {line}") if line else self


@dataclass(frozen=True)
class Request:
    """What a task takes. ``alone``: it is timed, and would have a machine for itself where one can be had."""

    seconds: float
    threads: int
    gpus: int
    alone: bool


class Scheduler(Protocol):
    """What is asked of a scheduler. It is handed commands, and knows them by ids of its own."""

    name: str  # as messages call it
    at_once: int | None  # the most that are handed in at a time; None: all that are ready
    lag: float  # seconds after its end within which what a task has written is seen here
    every: float  # seconds between two looks at what tasks have written

    def submit(self, commands: Sequence[list[str]], request: Request) -> list[str]:
        """Hand commands in, each a task; their ids. Raises ``UserError`` with what it says where it takes none."""
        ...

    def over(self, jobs: Sequence[str]) -> Collection[str]:
        """Those of its jobs that are over, by all that it says; none where it says nothing."""
        ...

    def end_of(self, job: str) -> End:
        """What it says of a job that is over."""
        ...

    def cancel(self, jobs: Sequence[str]) -> bool:
        """End these jobs, and whatever else carries the label. Whether all of them are over then."""
        ...

    def close(self) -> None:
        """Every task has ended by itself: what is left of their jobs may do so too."""
        ...


@dataclass
class _Task:
    cell: Cell
    order: Path
    begun: float | None = None  # when that was first seen
    over: float | None = None  # when it was first seen over


class Submitting:
    """One run's cells on their way through a scheduler."""

    def __init__(self, scheduler: Scheduler, work: Work, ledger: Ledger, requeue: int) -> None:
        self._scheduler, self._work, self._ledger, self._requeue = scheduler, work, ledger, requeue
        self._queue = list(work.cells)
        self._tasks: dict[str, _Task] = {}  # by the id of its job
        self._lost: Counter[str] = Counter()  # how often, by cell
        self._news_at = self._asked_at = time.monotonic()

    def news(self) -> Generator[News, None, None]:
        """As ``Launcher.launch`` says."""
        over = False
        try:
            while self._queue or self._tasks:
                self._work.folder.check_there()
                self._submit_ready()
                for found in chain(self._noted(), self._asked()):
                    self._news_at = time.monotonic()
                    yield found
                time.sleep(self._scheduler.every)
            self._scheduler.close()
            over = True
        except OSError as error:
            raise told(error) from error
        finally:
            if not over:
                self._ledger.withdraw()
            if over or self._scheduler.cancel(list(self._tasks)):
                self._ledger.close()

    def _submit_ready(self) -> None:
        groups: dict[Request, list[_Task]] = {}
        for cell in self._ready():
            order = self._ledger.order_of(cell)
            write_order(order, cell, self._work.study)
            groups.setdefault(self._request(cell), []).append(_Task(cell, order))
        for request, tasks in groups.items():
            jobs = self._scheduler.submit([command(self._work.folder.path, task.order) for task in tasks], request)
            self._tasks |= dict(zip(jobs, tasks, strict=True))
            self._ledger.write(self._tasks)
            self._news_at = time.monotonic()

    def _request(self, cell: Cell) -> Request:
        return Request(self._work.study.timeout, cell.threads, int(cell.device.startswith("cuda")), alone=cell.timed)

    def _ready(self) -> list[Cell]:
        """Taken from the queue: what waits for nothing, as much as there is room for."""
        going = {task.cell.cell_id for task in self._tasks.values()}
        most = self._scheduler.at_once or len(self._queue) + len(going)
        ready: list[Cell] = []
        while len(going) < most and (cell := next_ready(self._queue, going)):
            self._queue.remove(cell)
            going.add(cell.cell_id)
            ready.append(cell)
        return ready

    def _noted(self) -> Iterator[News]:
        """What tasks have noted beside their orders: that they have begun, and a result."""
        begun, ended = begun_and_ended(self._ledger.orders)
        for job, task in list(self._tasks.items()):
            if task.order in begun:
                yield from self._begun(task)
            said = answer(task.order) if task.order in ended else None
            if said is None:
                continue
            if said["status"] == DISK_FULL:
                raise DiskFullError(said["message"])
            del self._tasks[job]
            yield from self._begun(task)
            yield News(task.cell, Status(said["status"]), said["seconds"])

    def _asked(self) -> Iterator[News]:
        """What has become of jobs that are over without a result, where it is time to ask."""
        now = time.monotonic()
        shortest, longest = _ASK_SECONDS
        if not self._tasks or now - self._asked_at < min(longest, max(shortest, (now - self._news_at) / 10)):
            return
        self._asked_at = now
        over = self._scheduler.over(list(self._tasks))
        for job, task in list(self._tasks.items()):
            task.over = (task.over or now) if job in over else None
            if task.over is not None and now - task.over >= self._scheduler.lag and answer(task.order) is None:
                yield from self._ended_without_result(job)

    def _begun(self, task: _Task) -> Iterator[News]:
        if task.begun is None:
            task.begun = time.monotonic()
            yield News(task.cell, None)

    def _ended_without_result(self, job: str) -> Iterator[News]:
        """Into the queue once more, unless the scheduler says why in vain, or it was lost too often."""
        end, task = self._scheduler.end_of(job), self._tasks.pop(job)
        cell, lost = task.cell, self._lost[task.cell.cell_id]
        if end.status is Status.CRASHED and lost < self._requeue:
            self._lost[cell.cell_id] += 1
            self._queue.insert(0, cell)
            return
        yield from self._begun(task)
        seconds = time.monotonic() - (task.begun or 0.0)
        again = f", after {lost} requeue{'s' * (lost != 1)}" if lost else ""
        self._write_down(cell, Outcome(end.status, seconds, message=f"{self._scheduler.name}: {end.said}{again}"))
        yield News(cell, end.status, seconds)

    def _write_down(self, cell: Cell, outcome: Outcome) -> None:
        """As the cell's result; what was lost does not take the place of one that there is."""
        folder = self._work.folder
        place = folder.attempt_folder(cell)
        folder.write_cell(cell, outcome, place)
        keep = folder.discard if outcome.status is Status.CRASHED else folder.publish
        keep(cell, place)
