"""Kill a teacher's training at random moments, go on, and compare with one that nobody disturbed.

``python tests/train_kill.py 10 120 [0.02s]``: so many kills, outer steps, and how often a rollout is kept on its way.
The tests in ``test_training_resumed.py`` run it.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file

PROBLEM = "digits/mlp[train=100,dev=60,hidden=12,keys=3,lr=0.3,schedule=linear,refresh=5]"
LOGS = ("outer_steps.csv", "selection.csv")


def command(out: Path, outer_steps: int, *, resume: bool) -> list[str]:
    arguments = ["train", PROBLEM, "-b", "rmd[store=binomial]", "--outer-steps", str(outer_steps), "--horizon", "30"]
    options = ["--students", "2", "--select-every", "7", "--select-students", "2", "-o", str(out)]
    options += ["--within", sys.argv[3]] if len(sys.argv) > 3 else ["--every", "3"]
    return [sys.executable, "-P", "-m", "l2t_bench.cli.main", *arguments, *options, *(["--resume"] if resume else [])]


def finish(out: Path, outer_steps: int, *, resume: bool) -> subprocess.CompletedProcess[str]:
    """Train to the end."""
    given = command(out, outer_steps, resume=resume)
    done = subprocess.run(given, check=False, capture_output=True, text=True, env=_environment())
    assert done.returncode == 0, done.stderr
    return done


def kill_once(out: Path, outer_steps: int, draw: random.Random) -> bool:
    """Go on with the training, and kill it some time after it has begun; whether it was still going on."""
    given = command(out, outer_steps, resume=True)
    curve = out.with_suffix(".training") / LOGS[0]
    before = curve.stat().st_mtime_ns if curve.exists() else 0
    process = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment())
    while process.poll() is None and (not curve.exists() or curve.stat().st_mtime_ns == before):
        time.sleep(0.01)
    time.sleep(draw.uniform(0.0, 0.4))
    going_on = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return going_on


def log_of(out: Path, name: str) -> list[list[str]]:
    """A curve without the column of a clock."""
    rows = [line.split(",") for line in (out.with_suffix(".training") / name).read_text().splitlines()]
    clock = rows[0].index("seconds") if "seconds" in rows[0] else len(rows[0])
    return [[value for at, value in enumerate(row) if at != clock] for row in rows]


def undergo(folder: Path, kills: int, outer_steps: int) -> int:
    """The whole trial; how many kills met a training that was going on. Raises ``AssertionError`` for a difference."""
    draw = random.Random(kills)
    killed, calm = folder / "killed.safetensors", folder / "calm.safetensors"
    met = sum(kill_once(killed, outer_steps, draw) for _ in range(kills))
    if not killed.exists():
        finish(killed, outer_steps, resume=True)
    finish(calm, outer_steps, resume=False)
    assert_same(killed, calm)
    return met


def assert_same(killed: Path, calm: Path) -> None:
    """The same teacher bit for bit, the same curves, nothing left half written."""
    ours, theirs = load_file(killed), load_file(calm)
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in theirs), "another teacher"
    for name in LOGS:
        assert log_of(killed, name) == log_of(calm, name), f"another {name}"
    assert not list(killed.with_suffix(".training").glob(".*.tmp")), "half of a file was left behind"


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    kills, outer_steps = (int(given) for given in (*sys.argv[1:], 10, 120)[:2])
    with tempfile.TemporaryDirectory() as place:
        met = undergo(Path(place), kills, outer_steps)
    print(f"{met} kills met a training that was going on; the teacher and the curves are the undisturbed one's")
