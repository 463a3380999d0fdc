"""Cells that read what another has kept: a student's reads its teacher's. Order, refusal, and what is run again."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from l2t_bench.engine.cell import Cell, Status
from l2t_bench.engine.planning import Plan, cells_of, linked_again, overridden
from l2t_bench.engine.runner import Rerun, missing, run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError

_TASKS = """
import time

def keeps(cell, recorder):
    time.sleep(0.3)
    count = len(list(recorder.folder.glob("*")))
    recorder.artifact("word.txt").write_text(str(time.time_ns()))
    return {"files": count}

def fails(cell, recorder):
    raise KeyError("lost")

def reads(cell, recorder):
    return {"word": recorder.needed_artifact("word.txt").read_text()}

def asks_in_vain(cell, recorder):
    recorder.needed_artifact("word.txt")
"""


@pytest.fixture
def cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cell]:
    (tmp_path / "kept_tasks.py").write_text(_TASKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def made(kind: str, task: str, *, needs: str = "", timed: bool = False, **settings: Any) -> Cell:
        return Cell("kept", 1, "smoke", kind, "none", task, 0, f"kept_tasks:{task}", settings=settings, timed=timed, needs=needs)  # fmt: skip  # noqa: E501

    return made


def run_all(out: Path, *cells: Cell, rerun: Rerun = Rerun.NONE) -> list[str]:
    """The labels of cells in the order in which they ended."""
    ended: list[str] = []

    def on_event(event: Any) -> None:
        if event.status:
            ended.append(f"{event.cell.kind} {event.status}")

    run(Plan(Study(("kept",), timeout=60), cells), out, on_event, rerun=rerun)
    return ended


def read(out: Path, cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RunFolder(out).cell_folder(cell) / "cell.json").read_text())
    return found


def word(out: Path, cell: Cell) -> str:
    return str(read(out, cell)["measurements"]["word"])


def test_it_runs_after_the_cell_that_it_needs_and_reads_its_files(cell: Callable[..., Cell], tmp_path: Path) -> None:
    needed = cell("teacher", "keeps")
    student = cell("teaching", "reads", needs=needed.cell_id)
    assert run_all(tmp_path / "run", student, needed) == ["teacher ok", "teaching ok"]
    kept = RunFolder(tmp_path / "run").cell_folder(needed) / "artifacts" / "word.txt"
    assert word(tmp_path / "run", student) == kept.read_text()


def test_without_that_cells_result_it_is_refused_and_says_why(cell: Callable[..., Cell], tmp_path: Path) -> None:
    needed = cell("teacher", "fails")
    student = cell("teaching", "reads", needs=needed.cell_id)
    assert run_all(tmp_path / "run", needed, student) == ["teacher error", "teaching refused"]
    message = read(tmp_path / "run", student)["message"]
    assert message == "the teacher cell that it needs is error: KeyError: 'lost'"


def test_it_is_run_again_where_that_one_is(cell: Callable[..., Cell], tmp_path: Path) -> None:
    out, needed = tmp_path / "run", cell("teacher", "keeps")
    student = cell("teaching", "reads", needs=needed.cell_id)
    run_all(out, needed, student)
    before = word(out, student)
    assert missing(RunFolder(out), (needed, student)) == []
    (RunFolder(out).cell_folder(needed) / "cell.json").unlink()
    assert missing(RunFolder(out), (needed, student)) == [needed, student]
    run_all(out, needed, student)
    assert word(out, student) != before


def test_a_run_that_was_cut_between_the_two_goes_on_with_the_second(cell: Callable[..., Cell], tmp_path: Path) -> None:
    out, needed = tmp_path / "run", cell("teacher", "keeps")
    student = cell("teaching", "reads", needs=needed.cell_id)
    run_all(out, needed, student)
    run_all(out, needed, rerun=Rerun.ALL)  # as if the run had ended here
    assert missing(RunFolder(out), (needed, student)) == [student]


def test_a_teacher_that_failed_and_is_tried_again_takes_its_students_with_it(
    cell: Callable[..., Cell], tmp_path: Path
) -> None:
    out, needed = tmp_path / "run", cell("teacher", "fails")
    student = cell("teaching", "reads", needs=needed.cell_id)
    run_all(out, needed, student)
    assert missing(RunFolder(out), (needed, student), Rerun.NONE) == []
    assert missing(RunFolder(out), (needed, student), Rerun.FAILED) == [needed, student]


def test_a_chain_is_run_in_order_and_again_from_where_it_broke(cell: Callable[..., Cell], tmp_path: Path) -> None:
    out, start = tmp_path / "run", cell("start", "keeps")
    teacher = cell("teacher", "keeps", needs=start.cell_id)
    student = cell("teaching", "reads", needs=teacher.cell_id)
    assert run_all(out, student, teacher, start) == ["start ok", "teacher ok", "teaching ok"]
    assert missing(RunFolder(out), (student, teacher, start)) == []
    (RunFolder(out).cell_folder(start) / "cell.json").unlink()
    assert missing(RunFolder(out), (student, teacher, start)) == [student, teacher, start]
    changed = overridden([start, teacher, student], {"start": {}})
    assert [each.needs for each in changed[1:]] == [each.cell_id for each in changed[:2]]
    other = linked_again(
        [start, teacher, student], [replace(each, dtype="float64") for each in (start, teacher, student)]
    )
    assert [each.needs for each in other[1:]] == [each.cell_id for each in other[:2]]


def test_what_it_needs_is_part_of_what_it_is_and_of_nothing_else(cell: Callable[..., Cell]) -> None:
    one, other = cell("teacher", "keeps", steps=1), cell("teacher", "keeps", steps=2)
    assert "needs" not in one.identity
    assert (
        cell("teaching", "reads", needs=one.cell_id).cell_id != cell("teaching", "reads", needs=other.cell_id).cell_id
    )


def test_another_setting_of_the_needed_cell_makes_another_of_both(cell: Callable[..., Cell]) -> None:
    needed = cell("teacher", "keeps", steps=1)
    student = cell("teaching", "reads", needs=needed.cell_id, students=3)
    changed, taught = overridden([needed, student], {"teacher": {"steps": 2}})
    assert taught.needs == changed.cell_id != needed.cell_id and taught.cell_id != student.cell_id
    same, judged = overridden([needed, student], {"teaching": {"students": 5}})
    assert judged.needs == same.cell_id == needed.cell_id


def test_another_device_is_followed_too(cell: Callable[..., Cell]) -> None:
    needed = cell("teacher", "keeps")
    student = cell("teaching", "reads", needs=needed.cell_id)
    moved = [replace(each, device="cuda") for each in (needed, student)]
    first, second = linked_again([needed, student], moved)
    assert second.needs == first.cell_id != needed.cell_id


def test_a_file_that_no_needed_cell_could_have_kept_is_a_mistake(cell: Callable[..., Cell], tmp_path: Path) -> None:
    alone = cell("teaching", "asks_in_vain")
    run_all(tmp_path / "run", alone)
    found = read(tmp_path / "run", alone)
    assert found["status"] == Status.ERROR and "no cell is needed" in found["message"]


def test_a_suite_whose_cell_needs_what_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "lost_suite.py").write_text(
        "from l2t_bench.engine.cell import Cell\n"
        "from l2t_bench.engine.suite import Suite\n"
        "def cells(request):\n"
        "    return [Cell('lost', 1, 'only', 'teaching', 'none', 'm', 0, 'json:loads', needs='teacher-x-0123456789')]\n"
        "SUITE = Suite('lost', 1, 'needs nobody', {'only': cells}, 'only')\n"
    )
    with pytest.raises(UserError, match="needs the cell teacher-x-0123456789, which is not a cell of this suite"):
        cells_of(Study((f"{tmp_path / 'lost_suite.py'}:SUITE",)))
