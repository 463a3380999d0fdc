"""Cells that a scheduler runs: by submitit's local executor, and what SLURM is told. ``make slurm-test`` asks SLURM."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from l2t_bench.durable import write_json
from l2t_bench.engine import task
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.kept import measured_otherwise
from l2t_bench.engine.order import answer, begun_and_ended, mark_begun, write_answer, write_order
from l2t_bench.engine.overview import look
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import DiskFullError
from l2t_bench.engine.runner import Rerun, missing, run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study, read_launchers, read_study, write_study
from l2t_bench.errors import UserError
from l2t_bench.launchers import slurm_queue
from l2t_bench.launchers.contract import News, Work
from l2t_bench.launchers.ledger import ledger_of, new_ledger
from l2t_bench.launchers.ray_settings import read_settings as ray_settings
from l2t_bench.launchers.ray_tasks import task_options
from l2t_bench.launchers.slurm import Slurm
from l2t_bench.launchers.slurm_settings import read_settings as slurm_settings
from l2t_bench.launchers.submitit_jobs import SlurmJobs, sbatch_parameters
from l2t_bench.launchers.submitting import End, Request, Submitting
from l2t_bench.registry import list_launchers, load_launcher, missing_library

_TASKS = """
import os, signal, time
from pathlib import Path

def measure(cell, recorder):
    recorder.curve(value=cell.seed)
    return {"answer": cell.seed**2}

def refuses(cell, recorder):
    from l2t_bench.errors import Refused
    raise Refused("not this one")

def dies_the_first_time(cell, recorder):
    recorder.curve(value=0)
    mark = recorder.folder.parent / "mark"
    if not mark.exists():
        mark.touch()
        os.kill(os.getppid(), signal.SIGKILL)  # what watches it, as a machine that fails takes all
        time.sleep(60)
    return {}

def dies(cell, recorder):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)

def is_killed(cell, recorder):
    os.kill(os.getpid(), signal.SIGKILL)

def fills_the_disk(cell, recorder):
    raise OSError(28, "No space left on device", "artifact")

def sleeps(cell, recorder):
    recorder.curve(value=0)
    (recorder.folder / "pids").write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(float(os.environ.get("SECONDS_OF_SLEEP", "120")))
    return {}

def keeps(cell, recorder):
    recorder.artifact("word.txt").write_text("said")
    return {}

def reads(cell, recorder):
    return {"word": recorder.needed_artifact("word.txt").read_text()}
"""
_HERE: Mapping[str, Any] = {"cluster": "local", "requeue": 1}


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    (tmp_path / "launched_tasks.py").write_text(_TASKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)  # where fingerprints look

    def made(task: str, seed: int = 0, *, needs: str = "", timed: bool = True) -> Cell:
        return Cell(
            "launched", 1, "smoke", task, "none", "stub", seed, f"launched_tasks:{task}", timed=timed, needs=needs
        )

    return made


def study(launcher: str = "slurm", settings: Mapping[str, Any] = _HERE, **changes: Any) -> Study:
    return replace(Study(("launched",), timeout=60, launcher=launcher, launchers={launcher: settings}), **changes)


def run_all(out: Path, *cells: Cell, rerun: Rerun = Rerun.NONE, **changes: Any) -> list[str]:
    """What was told of the cells, in order: those that began, and those that ended with their status."""
    told: list[str] = []
    settings: Any = {} if changes.get("launcher") == "local" else _HERE
    plan = Plan(study(**{"settings": settings, **changes}), cells)
    run(plan, out, lambda event: told.append(f"{event.cell.kind} {event.status or 'begun'}"), rerun=rerun)
    return told


def record(out: Path, cell: Cell) -> dict[str, Any]:
    found = RunFolder(out).record(cell)
    assert found is not None
    return found


# -- through submitit's local executor


def test_cells_through_a_scheduler_leave_the_records_that_local_ones_leave(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    cells = [cell("measure", 0), cell("measure", 3), cell("refuses")]
    there, here = tmp_path / "there", tmp_path / "here"
    told = run_all(there, *cells)
    run_all(here, *cells, launcher="local")
    assert sorted(told) == sorted(["measure begun", "measure ok"] * 2 + ["refuses begun", "refuses refused"])
    for each in cells:
        ours, theirs = ({**record(out, each), "seconds": 0, "phases": {}} for out in (there, here))
        assert ours == theirs
        files = [{file.name for file in RunFolder(out).cell_folder(each).iterdir()} for out in (there, here)]
        assert files[0] == files[1] and "spec.json" in files[0]
    assert not (there / "launcher").exists(), "what was handed in is over"
    assert run_all(there, cells[0], rerun=Rerun.ALL) == ["measure begun", "measure ok"]
    assert len(list((there / "cells" / "launched").iterdir())) == len(cells), "what was measured again has its place"


def test_a_task_that_is_killed_is_handed_in_anew_and_begins_anew(cell: Callable[..., Cell], tmp_path: Path) -> None:
    dies = cell("dies_the_first_time")
    assert run_all(tmp_path / "run", dies)[-1] == "dies_the_first_time ok"
    curve = RunFolder(tmp_path / "run").cell_folder(dies) / "curves.jsonl"
    assert len(curve.read_text().splitlines()) == 1, "nothing of the first attempt is in it"


@pytest.mark.parametrize(
    ("task", "said"), [("dies", "submitit: FINISHED"), ("is_killed", "no result: crashed: SIGKILL")]
)
def test_a_task_that_is_lost_too_often_is_a_result_that_says_so(
    task: str, said: str, cell: Callable[..., Cell], tmp_path: Path
) -> None:
    lost = cell(task)
    assert run_all(tmp_path / "run", lost) == [f"{task} begun", f"{task} begun", f"{task} crashed"]
    found = record(tmp_path / "run", lost)
    assert said in found["message"] and found["message"].endswith(", after 1 requeue") and found["signal"] is None
    assert missing(RunFolder(tmp_path / "run"), [lost]) == [], "it is run again when that is asked for, not by itself"
    assert missing(RunFolder(tmp_path / "run"), [lost], Rerun.FAILED) == [lost]


def test_a_cell_is_handed_in_when_the_one_that_it_needs_has_ended(cell: Callable[..., Cell], tmp_path: Path) -> None:
    needed = cell("keeps")
    reads = cell("reads", needs=needed.cell_id)
    assert run_all(tmp_path / "run", reads, needed) == ["keeps begun", "keeps ok", "reads begun", "reads ok"]
    assert record(tmp_path / "run", reads)["measurements"] == {"word": "said"}


def test_a_full_disk_stops_the_run_from_another_process_too(cell: Callable[..., Cell], tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="no space is left"):
        run_all(tmp_path / "run", cell("fills_the_disk"))
    assert RunFolder(tmp_path / "run").record(cell("fills_the_disk")) is None


def begin(
    out: Path, cell: Cell, launcher: str = "slurm", settings: Mapping[str, Any] = _HERE
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A run of one sleeping cell in a process of its own; the cell's worker and its task, once they are there."""
    code = (
        "import sys; from pathlib import Path; from l2t_bench.engine.cell import Cell\n"
        "from l2t_bench.engine.planning import Plan; from l2t_bench.engine.runner import run\n"
        "from l2t_bench.engine.study import Study\n"
        f"study = Study(('launched',), launcher={launcher!r}, launchers={{{launcher!r}: {dict(settings)!r}}})\n"
        f"try: run(Plan(study, ({cell!r},)), Path({str(out)!r}), lambda event: None)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    file = RunFolder(out).cell_folder(cell) / "pids"
    deadline = time.monotonic() + 60
    while not (file.exists() and len(file.read_text().split()) == 2) and time.monotonic() < deadline:
        time.sleep(0.02)
    return parent, [psutil.Process(int(pid)) for pid in file.read_text().split()]


def ended(processes: Sequence[psutil.Process]) -> bool:
    deadline = time.monotonic() + 10
    while (going := [each for each in processes if goes_on(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not going


def goes_on(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_interrupt_ends_what_was_handed_in_and_the_same_command_goes_on(
    cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sleeps = tmp_path / "run", cell("sleeps")
    run_all(out, cell("measure"))
    before = (RunFolder(out).cell_folder(cell("measure")) / "cell.json").read_bytes()
    parent, processes = begin(out, sleeps)
    assert look(out).counts == {"running": 1}
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=30) == 130 and ended(processes)
    assert not (out / "launcher").exists()
    assert missing(RunFolder(out), [cell("measure"), sleeps]) == [sleeps]
    monkeypatch.setenv("SECONDS_OF_SLEEP", "0")
    assert run_all(out, cell("measure"), sleeps) == ["sleeps begun", "sleeps ok"]
    assert (RunFolder(out).cell_folder(cell("measure")) / "cell.json").read_bytes() == before


@pytest.mark.parametrize("launcher", ["slurm", "local"])
def test_what_a_killed_run_has_handed_in_is_ended_by_the_next_wherever_that_runs_its_cells(
    launcher: str, cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sleeps = tmp_path / "run", cell("sleeps")
    parent, processes = begin(out, sleeps)
    parent.kill()
    parent.wait()
    assert all(map(goes_on, processes)), "a scheduler's jobs do not end with it"
    monkeypatch.setenv("SECONDS_OF_SLEEP", "0")
    assert run_all(out, sleeps, launcher=launcher) == ["sleeps begun", "sleeps ok"]
    assert ended(processes) and not (out / "launcher").exists()


# -- a task by itself, as any scheduler may call it


@pytest.fixture
def order(tmp_path: Path) -> Callable[[Cell], tuple[RunFolder, Path]]:
    def written(cell: Cell, **changes: Any) -> tuple[RunFolder, Path]:
        file = tmp_path / "run" / "orders" / f"{cell.cell_id}.json"
        write_order(file, cell, study(**changes))
        (folder := RunFolder(tmp_path / "run")).write_plan({})
        return folder, file

    return written


def perform(folder: RunFolder, order: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    return subprocess.run(task.command(folder.path, order), env=env, capture_output=True, text=True, check=False)


def test_a_task_started_anew_begins_anew_and_one_that_is_answered_does_nothing(
    cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]
) -> None:
    dies = cell("dies_the_first_time")
    folder, file = order(dies)
    assert perform(folder, file).returncode == -signal.SIGKILL and answer(file) is None
    assert (folder.cell_folder(dies) / "curves.jsonl").exists() and folder.record(dies) is None
    assert perform(folder, file).returncode == 0
    assert len((folder.cell_folder(dies) / "curves.jsonl").read_text().splitlines()) == 1
    assert (answer(file) or {})["status"] == "ok" and begun_and_ended(file.parent) == ({file}, {file})
    before = (folder.cell_folder(dies) / "cell.json").stat().st_mtime_ns
    assert perform(folder, file).returncode == 0
    assert (folder.cell_folder(dies) / "cell.json").stat().st_mtime_ns == before


def test_the_environment_of_a_result_is_that_of_the_machine_where_it_was_measured(
    cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]
) -> None:
    measured = cell("measure")
    folder, file = order(replace(measured, device="cpu:3"))
    other = {"MKL_CBWR": "AVX2", "PYTHONPATH": "", "L2T_BENCH_DATA": "/elsewhere"}  # as a scheduler may start it
    assert perform(folder, file, **other).returncode == 0
    found = folder.record(measured)
    assert found is not None and found["status"] == "ok"
    kept = folder.path / "environments" / f"{found['environment']}.json"
    environment = json.loads(kept.read_text())
    assert environment["flags"]["MKL_CBWR"] == "AVX2" and environment["device"] == "cpu", "its first, and only, one"
    kept.write_text(json.dumps({**environment, "cpu": "Another CPU"}))
    assert measured_otherwise(folder, [measured]) and not measured_otherwise(folder, [measured], elsewhere=True)


def test_a_task_keeps_its_cells_limits(cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]) -> None:
    sleeps = cell("sleeps")
    folder, file = order(sleeps, timeout=1.5)
    assert perform(folder, file).returncode == 0
    assert (answer(file) or {})["status"] == "timeout"
    assert (folder.record(sleeps) or {})["message"] == "over 1.5 s"


def started(folder: RunFolder, file: Path, sleeps: Cell) -> tuple[subprocess.Popen[bytes], Path]:
    """A task of a cell that sleeps, once the cell has written the two processes that it consists of."""
    process = subprocess.Popen(task.command(folder.path, file))
    pids = folder.cell_folder(sleeps) / "pids"
    while not (pids.exists() and len(pids.read_text().split()) == 2):
        assert process.poll() is None
        time.sleep(0.02)
    return process, pids


def test_sigterm_ends_a_tasks_cell_without_an_answer_and_a_warning_of_the_time_limit_does_not(
    cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]
) -> None:
    sleeps = cell("sleeps")
    folder, file = order(sleeps)
    process, pids = started(folder, file, sleeps)
    worker = psutil.Process(int(pids.read_text().split()[0]))
    process.send_signal(signal.SIGUSR2)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130 and ended([worker])
    assert answer(file) is None and (folder.record(sleeps) or {})["status"] == "interrupted"


def test_a_task_whose_order_is_withdrawn_ends_or_does_not_begin(
    cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]
) -> None:
    sleeps = cell("sleeps")
    folder, file = order(sleeps)
    process, pids = started(folder, file, sleeps)
    file.unlink()
    assert process.wait(timeout=20) == 130 and answer(file) is None
    assert (folder.record(sleeps) or {})["status"] == "interrupted"
    pids.unlink()
    assert perform(folder, file).returncode == 130 and not pids.exists()


def test_a_task_whose_plug_in_is_not_on_its_machine_says_so_in_a_line(
    cell: Callable[..., Cell], order: Callable[..., tuple[RunFolder, Path]]
) -> None:
    folder, file = order(cell("measure"))
    write_json(file, {**json.loads(file.read_text()), "plugins": ["/nowhere/mine.py"]})
    done = perform(folder, file)
    assert done.returncode == 2 and done.stderr.strip() == "there is no file /nowhere/mine.py"


# -- the loop, with a scheduler that does as it is told


class Scripted:
    """A scheduler whose tasks do as ``script`` says: ``ok`` is answered, ``begun`` goes on, ``over`` is lost."""

    name, at_once, lag, every = "Scripted", None, 0.0, 0.0

    def __init__(self, script: Mapping[int, str], end: End | None = None, gone: bool = True) -> None:
        self.script, self.end, self.gone = script, end or End("LOST"), gone
        self.requests: list[Request] = []
        self.orders: list[Path] = []
        self.cancelled: list[str] = []
        self.closed = False

    def submit(self, commands: Sequence[list[str]], request: Request) -> list[str]:
        first = len(self.orders)
        self.orders += [Path(command[-1]) for command in commands]
        self.requests.append(request)
        for number in range(first, len(self.orders)):
            if self.script[number] == "ok":
                write_answer(self.orders[number], status="ok", seconds=1.0)
            if self.script[number] == "begun":
                mark_begun(self.orders[number])
        return [str(number) for number in range(first, len(self.orders))]

    def over(self, jobs: Sequence[str]) -> Collection[str]:
        return [job for job in jobs if self.script[int(job)] == "over"]

    def end_of(self, job: str) -> End:
        return self.end

    def cancel(self, jobs: Sequence[str]) -> bool:
        self.cancelled += jobs
        return self.gone

    def close(self) -> None:
        self.closed = True


def submitting(out: Path, scheduler: Scripted, *cells: Cell, requeue: int = 1) -> Submitting:
    (folder := RunFolder(out)).write_plan({})
    return Submitting(scheduler, Work(folder, cells, study()), new_ledger(folder, "slurm", _HERE), requeue)


@pytest.fixture(autouse=True)
def _asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l2t_bench.launchers.submitting._ASK_SECONDS", (0.0, 0.1))


def told(news: Sequence[News]) -> list[str]:
    return [str(each.status or "begun") for each in news]


def test_a_job_over_its_schedulers_limit_is_a_timeout_at_once(cell: Callable[..., Cell], tmp_path: Path) -> None:
    scheduler = Scripted({0: "over"}, slurm_queue.end_in("TIMEOUT", "0:15"))
    assert told(list(submitting(tmp_path, scheduler, cell("measure")).news())) == ["begun", "timeout"]
    found = record(tmp_path, cell("measure"))
    assert found["status"] == "timeout" and found["message"] == "Scripted: TIMEOUT, exit code 0:15"
    assert len(scheduler.orders) == 1, "nothing is tried again in vain"


def test_a_lost_job_is_handed_in_as_often_as_was_said(cell: Callable[..., Cell], tmp_path: Path) -> None:
    scheduler = Scripted(dict.fromkeys(range(3), "over") | {3: "ok"})
    assert told(list(submitting(tmp_path, scheduler, cell("measure"), requeue=3).news())) == ["begun", "ok"]
    assert len(set(scheduler.orders)) == 1 and len(scheduler.orders) == 4
    assert scheduler.closed and not scheduler.cancelled


def test_a_run_that_is_removed_while_its_tasks_are_going_ends_and_so_do_they(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    out, scheduler = tmp_path / "run", Scripted({0: "begun"})
    news = submitting(out, scheduler, cell("measure")).news()
    assert told([next(news)]) == ["begun"]
    shutil.rmtree(out)
    with pytest.raises(UserError, match="run was removed while its cells were run"):
        next(news)
    assert scheduler.cancelled == ["0"] and not out.exists()


def test_what_is_lost_does_not_take_the_place_of_a_result_and_what_is_out_of_time_does(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    run_all(tmp_path / "run", cell("measure"), launcher="local")
    for end, stands in ((End("NODE_FAIL"), "ok"), (slurm_queue.end_in("TIMEOUT", "0:15"), "timeout")):
        scheduler = Scripted({0: "over"}, end)
        assert told(list(submitting(tmp_path / "run", scheduler, cell("measure"), requeue=0).news()))[-1] == end.status
        assert record(tmp_path / "run", cell("measure"))["status"] == stands
    assert len(list((tmp_path / "run" / "cells" / "launched").iterdir())) == 1


def test_a_disk_that_is_full_here_is_said_and_what_was_handed_in_is_ended(
    cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scripted({0: "begun"})
    news = submitting(tmp_path, scheduler, cell("measure")).news()
    next(news)

    def full(orders: Path) -> None:
        raise OSError(28, "No space left on device", "jobs.json")

    monkeypatch.setattr("l2t_bench.launchers.submitting.begun_and_ended", full)
    with pytest.raises(DiskFullError, match=r"no space is left on the device: jobs\.json"):
        next(news)
    assert scheduler.cancelled == ["0"] and ledger_of(RunFolder(tmp_path)) is None


def test_where_nothing_is_missing_nothing_is_started(
    cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_all(tmp_path / "run", cell("measure"), launcher="local")
    monkeypatch.setattr(Slurm, "launch", lambda self, work: pytest.fail("it was started"))
    assert run_all(tmp_path / "run", cell("measure")) == []


def test_timed_cells_and_others_are_handed_in_apart_and_each_wave_at_once(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    cells = [cell("measure", seed, timed=seed < 3) for seed in range(5)]
    scheduler = Scripted(dict.fromkeys(range(6), "ok"))
    list(submitting(tmp_path, scheduler, *cells, cell("reads", needs=cells[0].cell_id)).news())
    assert [request.alone for request in scheduler.requests] == [True, False, True]
    assert [order.name for order in scheduler.orders[:5]] == [f"{each.cell_id}.json" for each in cells]


def test_jobs_that_may_still_be_going_are_kept_in_mind(cell: Callable[..., Cell], tmp_path: Path) -> None:
    for gone in (True, False):
        scheduler = Scripted({0: "begun"}, gone=gone)
        news = submitting(tmp_path, scheduler, cell("measure")).news()
        assert next(news).status is None
        news.close()
        assert scheduler.cancelled == ["0"]
        assert (ledger_of(RunFolder(tmp_path)) is None) is gone
    left = ledger_of(RunFolder(tmp_path))
    assert left is not None and left.jobs == ("0",) and left.label.startswith("l2t_bench_")


def test_a_ledger_that_cannot_be_read_stops_the_run(cell: Callable[..., Cell], tmp_path: Path) -> None:
    run_all(tmp_path / "run", cell("measure"), launcher="local")
    (tmp_path / "run" / "launcher").mkdir()
    (tmp_path / "run" / "launcher" / "jobs.json").write_text("{")
    with pytest.raises(UserError, match="it names jobs that may still be running"):
        run_all(tmp_path / "run", cell("measure"), launcher="local")


# -- what SLURM is told, and what it says


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"partion": "gpu"}, "slurm: unknown key 'partion': did you mean 'partition'?"),
        ({"x": 1}, "slurm: unknown key 'x'; there are cluster, partition, account"),
        ({"time": "soon"}, "a duration is written 90s, 10m or 2h"),
        ({"time": True}, "slurm: time must be a duration such as '20m'"),
        ({"mem": "8 apples"}, "a size is written 8GB"),
        ({"requeue": -1}, "slurm: requeue must be at least 0"),
        ({"cpus_per_task": "2"}, "slurm: cpus_per_task must be a whole number"),
        ({"array_parallelism": 0}, "slurm: array_parallelism must be at least 1"),
        ({"exclusive": "yes"}, "slurm: exclusive must be true or false"),
        ({"setup": "module load"}, "slurm: setup must be a list"),
        ({"cluster": "slrum"}, "slurm: cluster must be one of slurm, local, not 'slrum': did you mean 'slurm'?"),
        ({"extra": {"gres": ["gpu"]}}, "slurm: extra.gres must be text, a number, or true"),
        ({"time": math.nan}, "slurm: time: a duration is written"),
        ({"time": -5}, "slurm: time: a duration is written"),
        ({"mem": 0}, "slurm: mem: a size is written"),
        ({"mem": "0.5B"}, "slurm: mem: a size is a byte at least, not '0.5B'"),
        ({"mem": math.inf}, "slurm: mem must be a size"),
        ({"extra": {"nice": math.nan}}, "slurm: extra.nice must be text, a number, or true"),
        ({"extra": {"hold": False}}, "slurm: extra.hold must be text, a number, or true"),
    ],
)
def test_a_mistake_in_the_settings_names_the_key(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_launcher("slurm", settings)
    assert said in str(caught.value)


def test_what_is_not_to_be_had_is_said_before_anything_is_made(
    cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no sbatch on this machine"):
        run_all(tmp_path / "run", cell("measure"), settings={})
    monkeypatch.setattr("l2t_bench.launchers.slurm.installed", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'l2t_bench\[slurm\]'"):
        run_all(tmp_path / "run", cell("measure"))
    with pytest.raises(UserError, match="did you mean 'slurm'"):
        run_all(tmp_path / "run", cell("measure"), launcher="slrm")
    assert not (tmp_path / "run").exists()


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ``sbatch`` that keeps the script and the environment that it is given, or refuses."""
    for name, line in {
        "srun": "",
        "sbatch": f"cp $1 {tmp_path}/script; env > {tmp_path}/env; "
        f"test -e {tmp_path}/refuse && printf 'invalid partition\\nno job' >&2 && exit 1; echo 'Submitted batch job 7'",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_a_table_is_what_sbatch_is_given(sbatch: Path) -> None:
    settings = slurm_settings(
        {"partition": "gpu", "account": "lab", "qos": "long", "mem": "8GB", "cpus_per_task": 4, "array_parallelism": 2}
        | {"setup": ["module load cuda"], "exclusive": True, "extra": {"constraint": "a100", "requeue": True}}
    )
    jobs = SlurmJobs(settings, sbatch / "submitit", "l2t_bench_1234")
    assert jobs.submit([["true"]] * 3, Request(600, threads=1, gpus=1, alone=True)) == ["7_0", "7_1", "7_2"]
    script = (sbatch / "script").read_text().splitlines()
    for option in (
        *("partition=gpu", "account=lab", "qos=long", "mem=7630M", "cpus-per-task=4", "gpus-per-task=1", "time=15"),
        *("array=0-2%2", "exclusive", "constraint=a100", "requeue", "job-name=l2t_bench_1234"),
    ):
        assert f"#SBATCH --{option}" in script
    assert "module load cuda" in script
    (command,) = [line for line in script if line.startswith("srun")]
    assert "--cpus-per-task=4" in command and f"{sys.executable} -P -u -m submitit.core._submit" in command


def test_what_is_left_out_is_the_studys_or_the_clusters() -> None:
    request = Request(3000, threads=2, gpus=0, alone=True)
    given = sbatch_parameters(slurm_settings({}), request, "label")
    assert given == {
        "job_name": "label",
        "time": 55,
        "cpus_per_task": 2,
        "srun_args": ["--cpus-per-task=2"],
        "array_parallelism": 256,
    }
    alone = {"exclusive": True}
    assert "exclusive" not in sbatch_parameters(slurm_settings(alone), replace(request, alone=False), "label")
    assert sbatch_parameters(slurm_settings({"time": "90s"}), request, "label")["time"] == 2


def test_jobs_handed_in_from_inside_a_job_do_not_take_over_its_sizes(
    sbatch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"SLURM_JOB_ID": "3", "SLURM_MEM_PER_CPU": "100", "SLURM_CONF": "/etc/slurm.conf"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    SlurmJobs(slurm_settings({}), sbatch / "submitit", "label").submit([["true"]], Request(60, 1, 0, alone=True))
    kept = dict(line.split("=", 1) for line in (sbatch / "env").read_text().splitlines() if line.startswith("SLURM_"))
    assert kept == {"SLURM_CONF": "/etc/slurm.conf"} and os.environ["SLURM_MEM_PER_CPU"] == "100"


def test_jobs_that_slurm_does_not_take_are_a_line_with_its_words(
    sbatch: Path, cell: Callable[..., Cell], tmp_path: Path
) -> None:
    (sbatch / "refuse").touch()
    with pytest.raises(UserError, match=r"SLURM does not take the jobs: .*invalid partition; no job"):
        SlurmJobs(slurm_settings({}), sbatch / "submitit", "label").submit([["true"]], Request(60, 1, 0, alone=True))


def test_squeues_lines_say_which_jobs_are_not_over() -> None:
    listing = "12_0 RUNNING\n12_1 PENDING\n12_2 COMPLETED\n 13 NODE_FAIL\n12_3 REQUEUED\n12_4 COMPLETING\n"
    assert slurm_queue.going_in(listing) == {"12_0", "12_1", "12_3", "12_4"}


@pytest.mark.parametrize(
    ("state", "code", "said", "status"),
    [
        ("TIMEOUT", "0:15", "TIMEOUT, exit code 0:15", "timeout"),
        ("OUT_OF_MEMORY", "0:125", "OUT_OF_MEMORY, exit code 0:125", "oom_host"),
        ("CANCELLED by 1000", "0:9", "CANCELLED by 1000, exit code 0:9", "crashed"),
        ("CANCELLED+", "0:9", "CANCELLED+, exit code 0:9", "crashed"),
        ("NODE_FAIL", "", "NODE_FAIL", "crashed"),
        ("", "", "the job is gone, and its state is no longer known", "crashed"),
    ],
)
def test_the_end_of_a_job_is_in_slurms_words_and_evidence_only_of_its_limits(
    state: str, code: str, said: str, status: str
) -> None:
    assert slurm_queue.end_in(state, code) == End(said, slurm_queue.Status(status))


def test_where_slurm_does_not_answer_nothing_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_queue.over("label", ["1"]) == set()
    assert slurm_queue.end_of("1").said == "the job is gone, and its state is no longer known"


# -- Ray, started on this machine


@pytest.fixture
def _ray() -> None:
    pytest.importorskip("ray", reason="needs the extra: pip install 'l2t_bench[ray]'")


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
@pytest.mark.filterwarnings("default")  # Ray's own
def test_ray_runs_cells_in_order_hands_lost_ones_in_anew_and_writes_down_what_is_lost_too_often(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    kept = cell("keeps")
    cells = [cell("reads", needs=kept.cell_id), kept, cell("measure", 3), cell("dies_the_first_time"), cell("dies")]
    there, here = tmp_path / "there", tmp_path / "here"
    told = run_all(there, *cells, launcher="ray", settings={"requeue": 1})
    run_all(here, *cells[:3], launcher="local")
    for each in cells[:3]:
        ours, theirs = ({**record(out, each), "seconds": 0, "phases": {}, "needed": ""} for out in (there, here))
        assert ours == theirs
    assert told.index("keeps ok") < told.index("reads begun") and told.count("dies_the_first_time ok") == 1
    assert record(there, cell("dies"))["message"] == f"Ray: exit code -{signal.SIGKILL:d}, after 1 requeue"
    assert not (there / "launcher").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("_ray")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_what_ray_runs_ends_with_the_run_that_handed_it_in(
    number: signal.Signals, code: int, cell: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, sleeps = tmp_path / "run", cell("sleeps")
    parent, processes = begin(out, sleeps, "ray", {})
    parent.send_signal(number)
    assert parent.wait(timeout=60) == code and ended(processes)
    assert (out / "launcher").exists() == (number == signal.SIGKILL)
    monkeypatch.setenv("SECONDS_OF_SLEEP", "0")
    assert run_all(out, sleeps, launcher="local") == ["sleeps begun", "sleeps ok"]
    assert not (out / "launcher").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"adress": "auto"}, "ray: unknown key 'adress': did you mean 'address'?"),
        ({"memory": "much"}, "a size is written 8GB"),
        ({"memory": -1}, "ray: memory: a size is written"),
        ({"resources": {"timing": math.nan}}, "ray: resources.timing must be a positive number, not nan"),
        ({"resources": {"timing": math.inf}}, "ray: resources.timing must be a positive number, not inf"),
        ({"resources": {"timing": "one"}}, "ray: resources.timing must be a positive number, not 'one'"),
        ({}, r"pip install 'l2t_bench[ray]'"),
    ],
)
def test_a_mistake_in_rays_settings_and_a_missing_ray_are_said(
    settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l2t_bench.launchers.ray_cluster.installed", lambda name: None)
    with pytest.raises(UserError) as caught:
        load_launcher("ray", settings)
    assert said in str(caught.value)


def test_a_table_is_what_ray_is_asked_for() -> None:
    asked = ray_settings({"memory": "2GB", "resources": {"timing": 1}, "cpus_per_task": 3})
    assert task_options(asked, Request(60, threads=1, gpus=1, alone=True)) == {
        "num_cpus": 3,
        "num_gpus": 1,
        "memory": 2 * 10**9,
        "resources": {"timing": 1},
    }
    assert task_options(ray_settings({}), Request(60, threads=2, gpus=0, alone=True)) == {"num_cpus": 2, "num_gpus": 0}


# -- a study


def test_a_study_says_its_launcher_and_each_launchers_settings(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('suites = ["quick"]\nlauncher = "slurm"\n[slurm]\npartition = "gpu"\nrequeue = 2\n')
    found = read_study(file)
    assert found.launcher == "slurm" and found.launchers == {"slurm": {"partition": "gpu", "requeue": 2}}
    file.write_text(write_study(found, tmp_path))
    assert read_study(file) == found and Study.of(found.as_json()) == found


def test_a_launchers_file_holds_their_tables_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.write_text('[slurm]\npartition = "gpu"\n')
    assert read_launchers(file) == {"slurm": {"partition": "gpu"}}
    for text, said in (("[slrum]\nx = 1\n", "did you mean 'slurm'"), ("slurm = 3\n", "slurm must be a table")):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            read_launchers(file)


def test_the_tables_that_the_documentation_shows_are_ones(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "more-than-one-machine.md").read_text()
    shown = re.findall(r'^```toml title="(\w+\.toml)"\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in shown] == ["cluster.toml", "ray.toml"]
    for name, text in shown:
        (tmp_path / name).write_text(text)
    slurm = slurm_settings(read_launchers(tmp_path / "cluster.toml")["slurm"])
    assert (slurm.time, slurm.mem, slurm.extra) == (4 * 3600, 32 * 10**9, {"constraint": "a100"})
    assert ray_settings(read_launchers(tmp_path / "ray.toml")["ray"]).address == "auto"


def test_an_installed_packages_launcher_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {"queue": "l2t_bench.launchers.local:Local", "slurm": "l2t_bench.launchers.local:Local"}
    monkeypatch.setattr("l2t_bench.registry.installed_entries", lambda group: offered if group == "launchers" else {})
    assert list_launchers() == ["local", "slurm", "ray", "queue"] and load_launcher("queue", {}).elsewhere is False
    assert isinstance(load_launcher("slurm", _HERE), Slurm), "ours is not replaced"
    offered["other"] = "builtins:dict"
    with pytest.raises(UserError, match="other is not a launcher: it lacks"):
        load_launcher("other", {"elsewhere": True})


@pytest.mark.slow
def test_the_command_line_takes_a_launcher_and_its_file(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "cluster.toml").write_text('[slurm]\ncluster = "local"\n')
    asked = ["run", "stub", "--plugin", str(repository / "tests" / "stub_suite.py"), "--seeds", "1"]
    asked += ["--launcher-config", str(tmp_path / "cluster.toml"), "--out", str(tmp_path / "run")]
    env = {**os.environ, "PYTHONPATH": str(repository / "tests")}

    def l2t(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", *asked, *more]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    forgotten = l2t()
    assert forgotten.returncode == 2 and "cluster.toml has no table [local]" in forgotten.stderr
    done = l2t("--launcher", "slurm")
    assert done.returncode == 0 and "1/1 ok" in done.stdout, done.stderr
    kept = read_study(tmp_path / "run" / "run.toml")
    assert kept.launcher == "slurm" and kept.launchers == {"slurm": {"cluster": "local"}}


def test_every_launcher_is_one_by_the_contract() -> None:
    assert list_launchers()[:3] == ["local", "slurm", "ray"]
    assert load_launcher("local", {}).elsewhere is False and isinstance(load_launcher("slurm", _HERE), Slurm)
    assert not missing_library("launchers", "local") and not missing_library("launchers", "slurm")
    with pytest.raises(UserError, match="local: unknown key 'lanes'"):
        load_launcher("local", {"lanes": 2})
