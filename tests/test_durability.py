"""What a run survives: kills, interrupts, limits, a full disk, a second run; and what is kept when it does."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from l2t_bench.engine import worker
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.lock import held, holder
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import DiskFullError
from l2t_bench.engine.runner import Rerun, missing, run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError

_TASKS = """
import errno, os, time, subprocess

def sleeps(cell, recorder):
    (recorder.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)

def removes_the_run(cell, recorder):
    import shutil
    shutil.rmtree(recorder.folder.parents[2])
    recorder.curve(step=0)

def removes_the_run_and_ends_well(cell, recorder):
    import shutil
    shutil.rmtree(recorder.folder.parents[2])
    recorder.samples("seconds", [1.0])

def ignores_term(cell, recorder):
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeps(cell, recorder)

def grows(cell, recorder):
    held = []
    while True:
        held.append(bytearray(b"x" * (20 << 20)))
        time.sleep(0.02)

def grows_in_a_child(cell, recorder):
    code = "import time; held = bytearray(b'x' * (400 << 20)); time.sleep(600)"
    import sys
    subprocess.run([sys.executable, "-c", code])

def leaves_the_group(cell, recorder):
    import sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    (recorder.folder / "pid").write_text(str(child.pid))
    time.sleep(600)

def ends_before_its_child(cell, recorder):
    import sys
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    return {"pid": child.pid}

def fine(cell, recorder):
    return {"open": [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{number}")]}

def fills_the_disk(cell, recorder):
    raise OSError(errno.ENOSPC, "No space left on device", str(recorder.folder / "artifact"))

def fills_the_disk_through_a_library(cell, recorder):
    class SafetensorError(Exception):  # what safetensors raises, which writes its files in another language
        pass
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

def fills_the_disk_on_the_way(cell, recorder):
    try:
        fills_the_disk(cell, recorder)
    except OSError as error:
        raise RuntimeError("the writer failed") from error

def exits_74(cell, recorder):
    raise SystemExit(74)

def ends_at_once_with_74(cell, recorder):
    os._exit(74)

def ends_by_a_real_time_signal(cell, recorder):
    os.kill(os.getpid(), 40)
    time.sleep(600)

def runs_out(cell, recorder):
    raise MemoryError

def says_it_ran_out(cell, recorder):
    class OutOfMemoryError(RuntimeError):
        pass
    raise OutOfMemoryError("CUDA out of memory")

def changes(cell, recorder):
    (recorder.artifact("a.txt")).write_text(os.environ["ATTEMPT"])
    recorder.curve(attempt=os.environ["ATTEMPT"])
    if os.environ["ATTEMPT"] == "sleeps":
        sleeps(cell, recorder)
    if os.environ["ATTEMPT"] == "fills":
        fills_the_disk(cell, recorder)
    return {"attempt": os.environ["ATTEMPT"]}

def names_its_home(cell, recorder):
    raise FileNotFoundError(os.path.expanduser("~/secret/data"))
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    """A factory of cells whose tasks live in a module that only the workers import."""
    (tmp_path / "durable_tasks.py").write_text(_TASKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def cell(task: str, seed: int = 0) -> Cell:
        return Cell("stub", 1, "smoke", "stub", "none", task, seed, f"durable_tasks:{task}")

    return cell


def run_all(out: Path, *cells: Cell, rerun: Rerun = Rerun.NONE, **limits: Any) -> dict[str, int]:
    return run(Plan(Study(("stub",), **limits), cells), out, lambda event: None, rerun=rerun)


def record(out: Path, cell: Cell) -> dict[str, Any]:
    found = RunFolder(out).record(cell)
    assert found is not None
    return found


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def begin(
    out: Path, task: str, tasks: Callable[..., Cell], rerun: Rerun = Rerun.NONE
) -> tuple[subprocess.Popen[bytes], int]:
    """A run of one cell in a process of its own, and the process id that the cell's task wrote."""
    cell = tasks(task)
    code = (
        "import sys; from pathlib import Path; from l2t_bench.engine.cell import Cell\n"
        "from l2t_bench.engine.planning import Plan; from l2t_bench.engine.runner import Rerun, run\n"
        "from l2t_bench.engine.study import Study\n"
        f"cell = Cell('stub', 1, 'smoke', 'stub', 'none', {task!r}, 0, 'durable_tasks:{task}')\n"
        f"plan, out, rerun = Plan(Study(('stub',)), (cell,)), Path({str(out)!r}), Rerun({str(rerun)!r})\n"
        "try: run(plan, out, lambda event: None, rerun=rerun)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    file = RunFolder(out).attempt_folder(cell) / "pid"
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return parent, int(file.read_text())


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_as_one_that_was_left_alone(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tests" / "kill_test.py"), "10"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_cell_whose_worker_somebody_killed_is_run_by_the_same_command(
    number: signal.Signals, tasks: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cell = tmp_path / "run", tasks("changes")
    monkeypatch.setenv("ATTEMPT", "sleeps")
    parent, pid = begin(out, "changes", tasks)
    os.kill(pid, number)
    parent.wait(timeout=20)
    assert record(out, cell)["status"] == "crashed" and number.name in record(out, cell)["message"]
    monkeypatch.setenv("ATTEMPT", "second")
    assert run_all(out, cell) == {"ok": 1}
    monkeypatch.setenv("ATTEMPT", "sleeps")
    parent, pid = begin(out, "changes", tasks, Rerun.ALL)
    os.kill(pid, number)
    parent.wait(timeout=20)
    assert record(out, cell)["measurements"] == {"attempt": "second"}, "that is no result to replace one"


def test_a_worker_dies_with_its_parent(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    parent, pid = begin(tmp_path / "run", "sleeps", tasks)
    parent.kill()
    parent.wait()
    assert ends_within(pid, 5)
    assert holder(tmp_path / "run") is None, "the lock went with the parent"


def test_what_a_killed_runs_worker_left_behind_is_ended_by_the_next_run(
    tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    parent, stray = begin(tmp_path / "run", "leaves_the_group", tasks)
    parent.kill()
    parent.wait()
    assert is_running(stray)
    run_all(tmp_path / "run", tasks("fine"))
    assert ends_within(stray, 5)


def test_what_a_finished_cell_left_behind_does_not_run_beside_the_next(
    tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    run_all(tmp_path / "run", tasks("ends_before_its_child"))
    found = record(tmp_path / "run", tasks("ends_before_its_child"))
    assert found["status"] == "ok" and ends_within(found["measurements"]["pid"], 5)


def test_an_interrupt_ends_the_cell_and_is_no_result(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    parent, pid = begin(tmp_path / "run", "sleeps", tasks)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) == 130
    assert not is_running(pid)
    assert record(tmp_path / "run", tasks("sleeps"))["status"] == "interrupted"
    assert missing(RunFolder(tmp_path / "run"), [tasks("sleeps")]) == [tasks("sleeps")]


@pytest.mark.parametrize(("ignored", "survives"), [(True, True), (False, False)])
def test_a_hang_up_ends_a_run_unless_it_was_begun_to_ignore_it(
    ignored: bool, survives: bool, repository: Path, tmp_path: Path
) -> None:
    stub = str(repository / "tests" / "stub_suite.py")
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", "run", "stub", "--plugin", stub, "--seeds", "3"]
    inherited = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        parent = subprocess.Popen([*command, "--out", str(tmp_path / "run")])
    finally:
        signal.signal(signal.SIGHUP, inherited)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("run/cells/*/*/cell.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.send_signal(signal.SIGHUP)
    assert parent.wait(timeout=60) == (0 if survives else 130)
    assert (len(list(tmp_path.glob("run/cells/*/*/cell.json"))) == 3) is survives


def test_an_interrupt_while_a_worker_is_seen_to_end_loses_nothing(
    tasks: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cell, killed = tmp_path / "run", tasks("fine"), []

    def interrupted(token: str, cell_id: str = "") -> None:
        killed.append(cell_id)
        if killed == ["", cell_id]:  # what a run begins with, and the first look after the worker's end
            raise KeyboardInterrupt

    monkeypatch.setattr("l2t_bench.engine.process.kill_all", interrupted)
    monkeypatch.setattr("l2t_bench.engine.runner.kill_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_all(out, cell)
    assert record(out, cell)["status"] == "ok" and killed == ["", cell.cell_id, cell.cell_id]


def test_a_second_interrupt_does_not_wait_for_a_worker_that_will_not_end(
    tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    parent, pid = begin(tmp_path / "run", "ignores_term", tasks)
    parent.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert is_running(pid), "it has ten seconds"
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=5) == 130
    assert not is_running(pid)


def test_a_timeout_is_hard(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    cell = tasks("ignores_term")
    run_all(tmp_path / "run", cell, timeout=1.0)
    assert record(tmp_path / "run", cell)["status"] == "timeout"
    pid = int((RunFolder(tmp_path / "run").cell_folder(cell) / "pid").read_text())
    assert not is_running(pid)


@pytest.mark.parametrize("task", ["grows", "grows_in_a_child"])
def test_a_cell_over_its_memory_is_ended_and_says_how_much(
    task: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    cell = tasks(task)
    run_all(tmp_path / "run", cell, memory_limit=200 << 20, timeout=60.0)
    found = record(tmp_path / "run", cell)
    assert found["status"] == "oom_host" and "over the memory limit of 200 MiB" in found["message"]


def test_the_devices_memory_is_bounded_before_a_task_that_imports_torch_when_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(worker, "bound_device_memory", lambda *limits: asked.append(limits))
    monkeypatch.setattr(worker, "load_task", lambda name: lambda cell, recorder: {"bounded": list(asked)})
    monkeypatch.delitem(sys.modules, "torch")
    cell, folder = Cell("stub", 1, "p", "stub", "none", "stub", 0, "a:b", device="cuda:1"), RunFolder(tmp_path)
    folder.write_plan({})
    order = {"memory_limit": 1 << 30, "environment": {}, "code": None}
    outcome = worker.run_cell(cell, folder, tmp_path, order)
    assert outcome.measurements == {"bounded": [("cuda:1", 1 << 30)]}


@pytest.mark.parametrize(("task", "status"), [("runs_out", "oom_host"), ("says_it_ran_out", "error")])
def test_out_of_memory_is_said_on_evidence_only(
    task: str, status: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    run_all(tmp_path / "run", tasks(task))
    assert record(tmp_path / "run", tasks(task))["status"] == status


@pytest.mark.parametrize(
    ("task", "status", "said"),
    [
        ("exits_74", "error", "SystemExit: 74"),
        ("ends_at_once_with_74", "crashed", "exit code 74"),
        ("ends_by_a_real_time_signal", "crashed", "SIGRTMIN+6"),
    ],
)
def test_whatever_a_task_ends_with_is_its_own_and_the_run_goes_on(
    task: str, status: str, said: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    run_all(tmp_path / "run", tasks(task), tasks("fine"))
    found = record(tmp_path / "run", tasks(task))
    assert found["status"] == status and said in found["message"]
    assert record(tmp_path / "run", tasks("fine"))["status"] == "ok"


@pytest.mark.parametrize("fills", ["fills_the_disk", "fills_the_disk_through_a_library", "fills_the_disk_on_the_way"])
def test_a_full_disk_stops_the_run_and_keeps_what_was_there(
    fills: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run_all(out, tasks("fine"))
    kept = (RunFolder(out).cell_folder(tasks("fine")) / "cell.json").read_bytes()
    with pytest.raises(DiskFullError, match="no space is left"):
        run_all(out, tasks("fine"), tasks(fills))
    assert (RunFolder(out).cell_folder(tasks("fine")) / "cell.json").read_bytes() == kept
    assert RunFolder(out).record(tasks(fills)) is None, "it is missing, and run again"


@pytest.mark.parametrize("end", ["parent killed", "interrupted", "disk full"])
def test_a_result_stands_until_the_one_that_replaces_it_is_complete(
    end: str, tasks: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cell = tmp_path / "run", tasks("changes")
    monkeypatch.setenv("ATTEMPT", "first")
    run_all(out, cell)
    before = contents(RunFolder(out).cell_folder(cell))
    if end == "disk full":
        monkeypatch.setenv("ATTEMPT", "fills")
        with pytest.raises(DiskFullError):
            run_all(out, cell, rerun=Rerun.ALL)
    else:
        monkeypatch.setenv("ATTEMPT", "sleeps")
        parent, pid = begin(out, "changes", tasks, Rerun.ALL)
        parent.send_signal(signal.SIGKILL if end == "parent killed" else signal.SIGINT)
        parent.wait(timeout=20)
        assert ends_within(pid, 5)
    assert contents(RunFolder(out).cell_folder(cell)) == before
    assert run_all(out, cell) == {"ok": 1} and missing(RunFolder(out), [cell]) == []
    assert [place.name for place in (out / "cells" / "stub").iterdir()] == [cell.cell_id], "nothing is left beside it"


def test_a_result_is_replaced_with_all_its_files_and_without_those_of_the_one_before(
    tasks: Callable[..., Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, cell = tmp_path / "run", tasks("changes")
    place = RunFolder(out).cell_folder(cell)
    for attempt in ("first", "second"):
        monkeypatch.setenv("ATTEMPT", attempt)
        run_all(out, cell, rerun=Rerun.ALL)
        (place / "cell.damaged-1.json").touch()  # what was set aside stays
    assert record(out, cell)["measurements"] == {"attempt": "second"}
    assert (place / "artifacts" / "a.txt").read_text() == "second"
    assert (place / "curves.jsonl").read_text().splitlines() == ['{"attempt": "second"}']
    assert (place / "cell.damaged-1.json").exists()


def test_a_run_killed_between_the_two_renames_of_a_result_has_lost_nothing(
    tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    out, cell = tmp_path / "run", tasks("fine")
    run_all(out, cell)
    place = RunFolder(out).cell_folder(cell)
    before = contents(place)
    place.rename(place.with_name(place.name + ".replaced"))
    place.with_name(place.name + ".again").mkdir()
    assert run_all(out, cell) == {"ok": 1} and contents(place) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("task", ["removes_the_run", "removes_the_run_and_ends_well"])
def test_a_run_that_is_removed_while_it_is_going_ends_and_leaves_no_results(
    task: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="run was removed while its cells were run"):
        run_all(tmp_path / "run", tasks(task), tasks("fine"))
    assert not list(tmp_path.glob("run/**/cell.json")) and not list(tmp_path.glob("run/environments/*"))
    assert run_all(tmp_path / "run", tasks("fine")) == {"ok": 1}, "the same folder can be begun anew"


def test_a_second_run_says_who_holds_the_folder(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with held(out), pytest.raises(UserError, match=f"process {os.getpid()}, since 20"):
        run_all(out, tasks("fine"))
    assert not (out / "cells").exists()
    assert run_all(out, tasks("fine")) == {"ok": 1}


def test_looking_at_a_run_does_not_stop_it_and_is_not_taken_for_one(tmp_path: Path) -> None:
    with held(tmp_path):
        assert holder(tmp_path) is not None
    with ThreadPoolExecutor(2) as pool:
        over = threading.Event()
        looks = [pool.submit(look_until, over, tmp_path) for _ in range(2)]
        try:
            for _ in range(200):
                with held(tmp_path):
                    pass
        finally:
            over.set()
    assert min(look.result() for look in looks) > 0
    with (tmp_path / ".lock").open("wb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert holder(tmp_path) is None, "who looks is no run"


def look_until(over: threading.Event, folder: Path) -> int:
    count = 0
    while not over.is_set():
        holder(folder)
        count += 1
    return count


def test_a_worker_does_not_inherit_the_runs_lock(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    run_all(tmp_path / "run", tasks("fine"))
    opened = record(tmp_path / "run", tasks("fine"))["measurements"]["open"]
    assert opened and not [name for name in opened if name.endswith(".lock")]


def test_a_result_does_not_say_whose_home_it_was_made_in(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    run_all(tmp_path / "run", tasks("names_its_home"))
    found = record(tmp_path / "run", tasks("names_its_home"))
    assert "~/secret/data" in found["message"]
    folder = RunFolder(tmp_path / "run").cell_folder(tasks("names_its_home"))
    assert str(Path.home()) + "/secret" not in (folder / "stderr.log").read_text() + json.dumps(found)
