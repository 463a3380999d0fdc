"""The run: cells by identity, one process each, results that survive, statuses on evidence. Tasks here are stubs."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from l2t_bench.durable import write_json
from l2t_bench.engine.cell import Cell, Outcome, Status
from l2t_bench.engine.planning import Plan, cells_of, check
from l2t_bench.engine.runner import Event, Rerun, missing, run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.engine.suite import Request
from l2t_bench.errors import UserError
from l2t_bench.registry import load_suite

_TASKS = """
import os, signal, time
from pathlib import Path
from l2t_bench.errors import Diverged, Refused

def fine(cell, recorder):
    with (recorder.folder.parent / "calls.txt").open("a") as calls:
        calls.write(cell.method + "\\n")
    return {"answer": 42}

def refuses(cell, recorder):
    raise Refused("not this one", "another can")

def diverges(cell, recorder):
    raise Diverged("at step 7", 7)

def breaks(cell, recorder):
    raise KeyError("lost")

def dies(cell, recorder):
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)

def sleeps(cell, recorder):
    time.sleep(600)

def leaves_a_child(cell, recorder):
    import subprocess
    child = subprocess.Popen(["sleep", "600"])
    (recorder.folder.parent / "child.pid").write_text(str(child.pid))
    time.sleep(600)

def not_a_number(cell, recorder):
    return {"answer": float("nan")}
"""


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    """A factory of cells whose tasks live in a module that only the workers import."""
    (tmp_path / "stub_tasks.py").write_text(textwrap.dedent(_TASKS))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def cell(task: str, seed: int = 0) -> Cell:
        return Cell("stub", 1, "smoke", "gradient", "none", task, seed, f"stub_tasks:{task}")

    return cell


def run_all(out: Path, *cells: Cell, timeout: float = 60.0, rerun: Rerun = Rerun.NONE) -> dict[str, int]:
    plan = Plan(Study(("stub",), timeout=timeout), cells)
    return run(plan, out, lambda event: None, rerun=rerun)


def record(out: Path, cell: Cell) -> dict[str, object]:
    found: dict[str, object] = json.loads((RunFolder(out).cell_folder(cell) / "cell.json").read_text())
    return found


def test_a_cell_ends_with_the_status_of_how_it_ended(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    expected = {"fine": "ok", "refuses": "refused", "diverges": "diverged", "breaks": "error", "dies": "crashed"}
    cells = {name: tasks(name) for name in expected}
    counts = run_all(tmp_path / "run", *cells.values())
    assert {name: record(tmp_path / "run", cell)["status"] for name, cell in cells.items()} == expected
    assert counts == dict.fromkeys(sorted(expected.values()), 1)
    assert "SIGSEGV" in str(record(tmp_path / "run", cells["dies"])["message"])
    assert record(tmp_path / "run", cells["fine"])["measurements"] == {"answer": 42}
    assert record(tmp_path / "run", cells["refuses"])["message"] == "not this one; another can"


def test_a_number_that_json_does_not_have_is_no_result(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    cell = tasks("not_a_number")
    run_all(tmp_path / "run", cell)
    assert record(tmp_path / "run", cell)["status"] == "error"


def test_the_same_command_again_runs_just_what_is_missing(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    out = tmp_path / "run"
    first, second = tasks("fine", 0), tasks("fine", 1)
    run_all(out, first)
    before = (RunFolder(out).cell_folder(first) / "cell.json").read_bytes()
    run_all(out, first, second)
    assert (RunFolder(out).cell_folder(first) / "cell.json").read_bytes() == before
    assert len((out / "cells" / "stub" / "calls.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize(("policy", "calls"), [(Rerun.NONE, 1), (Rerun.FAILED, 1), (Rerun.ALL, 2)])
def test_finished_cells_are_run_again_only_when_asked(
    policy: Rerun, calls: int, tasks: Callable[..., Cell], tmp_path: Path
) -> None:
    cell = tasks("fine")
    run_all(tmp_path / "run", cell)
    run_all(tmp_path / "run", cell, rerun=policy)
    assert len((tmp_path / "run" / "cells" / "stub" / "calls.txt").read_text().splitlines()) == calls


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 99, "cell_id": "x", "status": "ok"}', '"ok"'])
def test_a_damaged_cell_is_missing_and_run_again(damage: str, tasks: Callable[..., Cell], tmp_path: Path) -> None:
    cell = tasks("fine")
    run_all(tmp_path / "run", cell)
    (RunFolder(tmp_path / "run").cell_folder(cell) / "cell.json").write_text(damage)
    run_all(tmp_path / "run", cell)
    assert record(tmp_path / "run", cell)["status"] == "ok"


def test_a_cell_over_its_time_is_ended_with_all_it_has_started(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    cell = tasks("leaves_a_child")
    run_all(tmp_path / "run", cell, timeout=6.0)
    assert record(tmp_path / "run", cell)["status"] == "timeout"
    pid = int((tmp_path / "run" / "cells" / "stub" / "child.pid").read_text())
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z", "the child of the cell is still running"


def test_timed_cells_run_alone_and_first(tasks: Callable[..., Cell], tmp_path: Path) -> None:
    import dataclasses

    shared = [dataclasses.replace(tasks("fine", seed), timed=False) for seed in (10, 11)]
    alone = [tasks("fine", seed) for seed in (0, 1)]
    at_once: list[int] = []
    running: set[str] = set()
    order: list[int] = []

    def watch(event: Event) -> None:
        if event.status is None:
            running.add(event.cell.cell_id)
            order.append(event.cell.seed)
            if event.cell.timed:
                at_once.append(len(running))
        else:
            running.discard(event.cell.cell_id)

    run(Plan(Study(("stub",)), (*shared, *alone)), tmp_path / "run", watch)
    assert at_once == [1, 1]
    assert order == [0, 1, 10, 11]


def test_a_cells_identity_is_its_declared_data_and_nothing_else() -> None:
    import dataclasses

    cell = Cell("s", 1, "p", "gradient", "digits/mlp", "rmd", 0, "a:b")
    for same in ({"task": "c:d"}, {"timed": False}, {"threads": 2}):
        assert dataclasses.replace(cell, **same).cell_id == cell.cell_id  # type: ignore[arg-type]
    changes = {"suite_version": 2, "problem": "x", "method": "y", "seed": 1, "dtype": "float64", "settings": {"a": 1}}
    ids = {dataclasses.replace(cell, **{key: value}).cell_id for key, value in changes.items()}  # type: ignore[arg-type]
    assert len(ids | {cell.cell_id}) == len(changes) + 1


def test_a_cells_folder_is_inside_the_run_whatever_its_names() -> None:
    folder = RunFolder(Path("/run"))
    cell = Cell("quick", 1, "p", "gradient", "../../etc", "a/b[../c=/d]", 0, "a:b")
    assert folder.cell_folder(cell).parent == Path("/run/cells/quick")
    assert ".." not in cell.cell_id.split("-")[0] and "/" not in cell.cell_id
    with pytest.raises(UserError, match="would lead out of the run"):
        folder.cell_folder(Cell("../../escape", 1, "p", "gradient", "none", "rmd", 0, "a:b"))


def test_writing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, {"a": float("inf")})
    assert json.loads(path.read_text()) == {"a": 1}


def test_two_machines_may_write_a_file_that_they_share_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, others = tmp_path / "x.json", os.fsync, [{"a": 2}]

    def meanwhile(descriptor: int) -> None:
        if others:
            write_json(path, others.pop())  # by a process that may have the same id there
        real(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1} and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_a_runs_is_left_alone(tmp_path: Path, tasks: Callable[..., Cell]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="--out"):
            run_all(place, tasks("fine"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "files",
    [
        {"plan.json": "my notes, not json", "run.toml": "precious"},
        {"plan.json": '{"schema": 2, "name": "another tool\'s"}', "report.html": "precious"},
        {"cells/notes.txt": "mine", "run.toml": "precious", "report.html": "mine too"},
        {"cells/a/b/cell.json": "{}", "run.toml": "precious"},
    ],
)
def test_a_folder_with_files_named_like_ours_is_left_alone(
    files: dict[str, str], tmp_path: Path, tasks: Callable[..., Cell]
) -> None:
    out = tmp_path / "run"
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(content)
    with pytest.raises(UserError, match="--out"):
        run_all(out, tasks("fine"))
    assert {name: (out / name).read_text() for name in files} == files
    assert not [file for file in out.rglob("*") if file.is_file() and str(file.relative_to(out)) not in files]


def test_a_plan_and_a_study_that_no_run_has_written_are_kept_beside_the_results(
    tmp_path: Path, tasks: Callable[..., Cell]
) -> None:
    out, notes = tmp_path / "run", []
    run_all(out, tasks("fine"))
    for name in ("plan.json", "run.toml"):
        (out / name).write_text("precious")
    plan = Plan(Study(("stub",)), (tasks("fine"),))
    assert run(plan, out, lambda event: notes.append(event.note)) == {"ok": 1}
    assert [(out / name).read_text() for name in ("plan.damaged-1.json", "run.damaged-1.toml")] == ["precious"] * 2
    assert [note.partition(";")[2] for note in notes] == [
        " kept as plan.damaged-1.json",
        " kept as run.damaged-1.toml",
    ]
    assert len((out / "cells" / "stub" / "calls.txt").read_text().splitlines()) == 1, "the result is still one"


def test_cells_of_the_same_code_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, looked = RunFolder(tmp_path), []
    folder.write_plan({})
    cells = [Cell("stub", 1, "p", "stub", "none", method, seed, "a:b") for seed in range(20) for method in ("x", "y")]
    for cell in cells:
        folder.write_cell(cell, Outcome(Status.OK, 1.0, code="0123456789ab"))
    monkeypatch.setattr("l2t_bench.registry.fingerprint", lambda sources: looked.append(sources) or "0123456789ab")
    assert missing(folder, cells, Rerun.STALE) == [] and len(looked) == 2


def test_the_parent_of_a_run_imports_no_torch() -> None:
    script = (
        "import sys; import l2t_bench.engine.runner, l2t_bench.cli.main; "
        "from l2t_bench.engine.planning import cells_of; from l2t_bench.engine.study import Study; "
        "cells_of(Study(('quick',))); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_misspelt_option_is_found_before_anything_runs() -> None:
    with pytest.raises(UserError, match="its options are store"):
        check(Study(("quick",), backends=("truncated[windw=3]",)))


def test_the_quick_suite_is_what_it_says() -> None:
    suite = load_suite("quick")
    cells = suite.cells(None, Request())
    gradient = [cell for cell in cells if cell.kind == "gradient"]
    assert {cell.method.split("[")[0] for cell in gradient} == {
        "rmd", "truncated", "higher", "torchopt", "torchopt-implicit", "functorch",
    }  # fmt: skip
    assert {cell.problem for cell in gradient} == {"digits/mlp", "digits/lenet"}
    assert {cell.seed for cell in gradient} == set(range(5))
    assert all(cell.settings["horizons"] == [20, 100] for cell in gradient)
    assert len(gradient) == 60
    assert [cell.seed for cell in cells_of(Study(("quick",))) if cell.timed] == [n for n in range(5) for _ in range(12)]
    assert len({cell.cell_id for cell in cells}) == len(cells)
    teaching = {cell.method.split("[")[0] for cell in cells if cell.kind == "teaching"}
    assert teaching == {"rmd", "higher", "truncated", "untrained-teacher", "cross-entropy"}
    smoke = suite.cells("smoke", Request())
    assert {cell.problem for cell in smoke} == {"digits/mlp"} and len(smoke) == 6


def test_a_suite_has_the_profiles_that_it_has() -> None:
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        load_suite("quick").cells("smok", Request())
    with pytest.raises(UserError, match="seed must not"):
        Request(seeds=(-1,))


def test_an_outcome_is_readable_by_anybody(tmp_path: Path) -> None:
    cell = Cell("s", 1, "p", "gradient", "digits/mlp", "rmd", 0, "a:b")
    folder = RunFolder(tmp_path / "run")
    folder.open()
    folder.write_plan({})
    folder.write_cell(cell, Outcome(Status.OK, 1.5, {"x": [1, 2]}))
    written = record(tmp_path / "run", cell)
    assert (written["schema"], written["cell_id"], written["status"]) == (2, cell.cell_id, "ok")
    assert not [name for name in os.listdir(folder.cell_folder(cell)) if name.endswith(".tmp")]
