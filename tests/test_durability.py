"""What a run survives: kills, interrupts, limits, a full disk, a second run; and what is kept when it does."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from l2t_bench.engine.cell import Cell
from l2t_bench.engine.lock import held, holder
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.process import DiskFullError
from l2t_bench.engine.runner import run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError

_TASKS = """
import errno, os, time, subprocess

def sleeps(cell, recorder):
    (recorder.folder / "pid").write_text(str(os.getpid()))
    time.sleep(600)

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

def fine(cell, recorder):
    return {"open": [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{number}")]}

def fills_the_disk(cell, recorder):
    raise OSError(errno.ENOSPC, "No space left on device", str(recorder.folder / "artifact"))

def runs_out(cell, recorder):
    raise MemoryError

def says_it_ran_out(cell, recorder):
    class OutOfMemoryError(RuntimeError):
        pass
    raise OutOfMemoryError("CUDA out of memory")

def names_its_home(cell, recorder):
    raise FileNotFoundError(os.path.expanduser("~/secret/data"))
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    """A factory of cells whose tasks live in a module that only the workers import."""
    (tmp_path / "durable_tasks.py").write_text(_TASKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def cell(task: str, seed: int = 0) -> Cell:
        return Cell("stub", 1, "smoke", "stub", "none", task, seed, f"durable_tasks:{task}")

    return cell


def run_all(out: Path, *cells: Cell, **limits: Any) -> dict[str, int]:
    return run(Plan(Study(("stub",), **limits), cells), out, lambda event: None)


def record(out: Path, cell: Cell) -> dict[str, Any]:
    found = RunFolder(out).record(cell)
    assert found is not None
    return found


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def begin(out: Path, task: str, tasks: Callable[..., Cell]) -> tuple[subprocess.Popen[bytes], int]:
    """A run of one cell in a process of its own, and the process id that the cell's task wrote."""
    cell = tasks(task)
    code = (
        "import sys; from pathlib import Path; from l2t_bench.engine.cell import Cell\n"
        "from l2t_bench.engine.planning import Plan; from l2t_bench.engine.runner import run\n"
        "from l2t_bench.engine.study import Study\n"
        f"cell = Cell('stub', 1, 'smoke', 'stub', 'none', {task!r}, 0, 'durable_tasks:{task}')\n"
        f"try: run(Plan(Study(('stub',)), (cell,)), Path({str(out)!r}), lambda event: None)\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    file = RunFolder(out).cell_folder(cell) / "pid"
    deadline = time.monotonic() + 30
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return parent, int(file.read_text())


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_a_run_that_is_killed_ten_times_ends_as_one_that_was_left_alone(repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "tests" / "kill_test.py"), "10"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_worker_dies_with_its_parent(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    parent, worker = begin(tmp_path / "run", "sleeps", tasks)
    parent.kill()
    parent.wait()
    assert ends_within(worker, 5)
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


def test_an_interrupt_ends_the_cell_and_is_no_result(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    parent, worker = begin(tmp_path / "run", "sleeps", tasks)
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=20) == 130
    assert not is_running(worker)
    assert record(tmp_path / "run", tasks("sleeps"))["status"] == "interrupted"
    from l2t_bench.engine.runner import missing

    assert missing(RunFolder(tmp_path / "run"), [tasks("sleeps")]) == [tasks("sleeps")]


def test_a_second_interrupt_does_not_wait_for_a_worker_that_will_not_end(
    tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    parent, worker = begin(tmp_path / "run", "ignores_term", tasks)
    parent.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert is_running(worker), "it has ten seconds"
    parent.send_signal(signal.SIGINT)
    assert parent.wait(timeout=5) == 130
    assert not is_running(worker)


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


@pytest.mark.parametrize(("task", "status"), [("runs_out", "oom_host"), ("says_it_ran_out", "error")])
def test_out_of_memory_is_said_on_evidence_only(
    task: str, status: str, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    run_all(tmp_path / "run", tasks(task))
    assert record(tmp_path / "run", tasks(task))["status"] == status


def test_a_full_disk_stops_the_run_and_keeps_what_was_there(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_all(out, tasks("fine"))
    kept = (RunFolder(out).cell_folder(tasks("fine")) / "cell.json").read_bytes()
    with pytest.raises(DiskFullError, match="no space is left"):
        run_all(out, tasks("fine"), tasks("fills_the_disk"))
    assert (RunFolder(out).cell_folder(tasks("fine")) / "cell.json").read_bytes() == kept
    assert RunFolder(out).record(tasks("fills_the_disk")) is None, "it is missing, and run again"


def test_a_second_run_says_who_holds_the_folder(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with held(out), pytest.raises(UserError, match=f"process {os.getpid()}, since 20"):
        run_all(out, tasks("fine"))
    assert not (out / "cells").exists()
    assert run_all(out, tasks("fine")) == {"ok": 1}


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
