"""The recorder: its clock and its memory meter against known loads, in a cell's process and out of it."""

import hashlib
import json
import os
import time
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch

from l2t_bench.data.checksums import data_checksums
from l2t_bench.doctor import examine
from l2t_bench.engine import environment
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
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
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


class Cards:
    """Stands for ``torch.cuda`` of a machine with several cards: each has peaks of its own, the current one is 0."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def is_initialized(self) -> bool:
        return True

    def synchronize(self, device: object = None) -> None:
        self.asked.append(("synchronize", device))

    def reset_peak_memory_stats(self, device: object = None) -> None:
        self.asked.append(("reset", device))

    def max_memory_allocated(self, device: torch.device | None = None) -> int:
        return 1000 + ((device.index or 0) if device else 0)

    max_memory_reserved = max_memory_allocated


def test_a_phase_reads_the_peaks_of_the_cells_own_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards = Cards()
    monkeypatch.setattr(torch, "cuda", cards)
    recorder = Recorder(tmp_path, device="cuda:1")
    with recorder.phase("rollout"):
        pass
    assert recorder.phases["rollout"]["device_peak_bytes"] == 1001
    own = torch.device("cuda:1")
    assert cards.asked == [("synchronize", own), ("reset", own), ("synchronize", own)]


_CARDS = "0, GPU-aaa, NVIDIA A100, 550.1\n1, GPU-bbb, NVIDIA H200, 550.1"


@pytest.mark.parametrize(
    ("device", "visible", "name"),
    [
        ("cuda", None, "NVIDIA A100"),
        ("cuda:1", None, "NVIDIA H200"),
        ("cuda:0", "1", "NVIDIA H200"),
        ("cuda:1", "1,0", "NVIDIA A100"),
        ("cuda", "GPU-bbb", "NVIDIA H200"),
        ("cuda:1", "1", None),
        ("cuda", "", None),
    ],
)
def test_the_card_that_is_named_is_the_one_that_is_used(
    device: str, visible: str | None, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "_output", lambda *command: _CARDS)
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert environment.gpu(device, environ) == {"gpu": name, "driver": "550.1" if name else None}


def test_a_machine_without_the_tool_names_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_output", lambda *command: None)
    assert environment.gpu("cuda", {}) == {"gpu": None, "driver": None}


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
    asked = {
        "python",
        "torch",
        "libraries",
        "gpu",
        "C++ compiler",
        "triton",
        "memory meter",
        "disk",
        "data root",
        "backends",
    }
    assert asked <= set(found)
    assert found["torch"].state == "ok" and found["memory meter"].state in ("ok", "warn")


def test_a_plugin_that_raises_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.py").write_text("raise RuntimeError('no good')")
    monkeypatch.setenv("L2T_BENCH_PLUGINS", str(tmp_path / "bad.py"))
    told = [finding for finding in examine(tmp_path) if "no good" in finding.detail]
    assert told and all(finding.state == "warn" for finding in told)
