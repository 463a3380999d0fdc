"""The recorder: its clock and its memory meter against known loads, in a cell's process and out of it."""

import hashlib
import json
import time
from importlib.metadata import distribution
from pathlib import Path

import pytest

from l2t_bench.data.checksums import data_checksums
from l2t_bench.doctor import examine
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.recorder import Recorder
from l2t_bench.engine.runner import run
from l2t_bench.engine.store import RunFolder
from l2t_bench.engine.study import Study
from l2t_bench.errors import UserError

MB = 10**6
_TASKS = """
import time

def works(cell, recorder):
    with recorder.phase("warm-up"):
        block = b"x" * 300_000_000
        del block
    with recorder.phase("rollout"):
        time.sleep(0.2)
    return {}
"""

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux: /proc tells resident sizes"
)


@needs_proc
def test_a_phase_has_its_own_peak_and_its_own_time_also_in_the_child_of_a_fat_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "load_tasks.py").write_text(_TASKS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fat = bytearray(b"x" * (500 * MB))  # what ru_maxrss would have the child inherit
    cell = Cell("stub", 1, "smoke", "stub", "none", "works", 0, "load_tasks:works")
    run(Plan(Study(("stub",)), (cell,)), tmp_path / "run", lambda event: None)
    assert len(fat) == 500 * MB
    record = RunFolder(tmp_path / "run").record(cell)
    assert record is not None and record["status"] == "ok"
    phases = record["phases"]
    assert 300 * MB <= phases["warm-up"]["host_peak_bytes"] < 400 * MB
    assert phases["rollout"]["host_peak_bytes"] < 100 * MB, "the block is gone, and so is its peak"
    assert phases["rollout"]["seconds"] >= 0.2
    assert phases["rollout"]["device_peak_bytes"] is None


def test_the_seconds_of_a_phase_add_up_and_other_work_is_not_among_them(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for _ in range(2):
        with recorder.phase("data"):
            time.sleep(0.05)
        with recorder.phase("io"):
            time.sleep(0.001)
    assert recorder.phases["data"]["seconds"] >= 0.1 > recorder.phases["io"]["seconds"]
    assert list(recorder.phases) == ["data", "io"]


def test_a_phase_that_there_is_not_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no phase 'roll'"), Recorder(tmp_path).phase("roll"):
        pass


def test_curves_are_there_as_they_grow_and_samples_at_the_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.curve(step=0, value=0.5)
    assert json.loads((tmp_path / "curves.jsonl").read_text()) == {"step": 0, "value": 0.5}
    recorder.samples("rollout", [0.1, 0.2])
    recorder.close()
    assert json.loads((tmp_path / "samples.json").read_text())["rollout"] == [0.1, 0.2]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "..", "a/b", ""])
def test_an_artifact_stays_in_its_cell(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be a file's name"):
        Recorder(tmp_path).artifact(name)


def test_a_result_names_the_bytes_that_it_was_measured_on() -> None:
    file = Path(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert data_checksums("digits") == {"digits.csv.gz": f"sha256:{digest}"}


def test_the_doctor_has_an_answer_to_every_question(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert {"python", "torch", "libraries", "gpu", "memory meter", "disk", "data root", "backends"} <= set(found)
    assert found["torch"].state == "ok" and found["memory meter"].state in ("ok", "warn")


def test_a_plugin_that_raises_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no good')")
    monkeypatch.setenv("L2T_BENCH_PLUGINS", str(tmp_path / "bad.py"))
    told = [finding for finding in examine(tmp_path) if "no good" in finding.detail]
    assert told and all(finding.state == "warn" for finding in told)
