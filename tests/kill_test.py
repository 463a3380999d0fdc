"""Kill a run at random moments, its parent, its worker or both, go on, and compare with a run that nobody disturbed.

``python tests/kill_test.py 100`` is the long form of the test in ``test_durability.py``.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_CHANGING = ("seconds", "phases")  # times, and sizes of memory


def command(out: Path, seeds: int) -> list[str]:
    arguments = ["run", "stub", "--plugin", str(HERE / "stub_suite.py"), "--seeds", str(seeds), "--out", str(out)]
    return [sys.executable, "-P", "-m", "l2t_bench.cli.main", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])}


def finish(out: Path, seeds: int) -> int:
    """Run to the end; the exit code."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(command(out, seeds), env=environment(), check=False, **quiet).returncode  # type: ignore[call-overload]


def results(out: Path) -> dict[str, dict[str, Any]]:
    """Every finished cell's record without what a clock or the memory's size decides."""
    found = {}
    for file in sorted(out.glob("cells/*/*/cell.json")):
        record = json.loads(file.read_text())
        found[record["cell_id"]] = {key: value for key, value in record.items() if key not in _CHANGING}
    return found


def sound(out: Path) -> dict[str, bytes]:
    """The finished cells that must never be altered, byte for byte."""
    files = {str(file): file.read_bytes() for file in out.glob("cells/*/*/cell.json")}
    return {name: content for name, content in files.items() if json.loads(content)["status"] == "ok"}


def kill_some(out: Path, seeds: int, draw: random.Random) -> None:
    """Start the run and kill it, or its worker, or both, after a moment."""
    parent = subprocess.Popen(
        command(out, seeds), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(draw.uniform(0.3, 1.6))
    workers = children(parent.pid)
    victims = draw.choice([[parent.pid], workers, [*workers, parent.pid], [parent.pid, *workers]])
    for pid in victims:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if parent.pid not in victims:
        time.sleep(draw.uniform(0.0, 0.5))
        with suppress(ProcessLookupError):
            parent.kill()
    parent.wait()


def children(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


def undergo(folder: Path, kills: int, seeds: int = 50) -> None:
    """The whole trial. Raises ``AssertionError`` where something was lost, altered or came twice."""
    draw = random.Random(kills)
    out, calm = folder / "killed", folder / "calm"
    for _ in range(kills):
        before = sound(out)
        kill_some(out, seeds, draw)
        after = sound(out)
        assert {name: after.get(name) for name in before} == before, "a finished cell was lost or altered"
    assert finish(out, seeds) == 0
    assert finish(calm, seeds) == 0
    disturbed, undisturbed = results(out), results(calm)
    assert len(undisturbed) == seeds and {record["status"] for record in disturbed.values()} == {"ok"}
    assert disturbed == undisturbed
    curves = [len(file.read_text().splitlines()) for file in out.glob("cells/*/*/curves.jsonl")]
    assert curves == [10] * seeds, "a curve holds points of two attempts"
    assert not list(out.rglob(".*.tmp")), "half of a file was left behind"
    assert not [*out.glob("cells/*/*.again"), *out.glob("cells/*/*.replaced")], "an attempt was left behind"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        undergo(Path(place), int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    print("every cell ok, each once, equal to the undisturbed run's")
