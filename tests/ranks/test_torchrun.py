"""A training under torchrun: a rank that is killed or hangs, another number of ranks afterwards, an interrupt."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from l2t_bench.cli.main import app
from l2t_bench.modules import same_tensors
from l2t_bench.teacher_file import read_teacher

PROBLEM = "digits/mlp[train=60,dev=40,hidden=8,keys=2,lr=0.3,refresh=5,batch=12]"
OPTIONS = ["--horizon", "6", "--select-every", "0"]
OUTER_STEPS = 60

pytestmark = pytest.mark.slow


def torchrun(
    count: int, *arguments: str, problem: Sequence[str] = (PROBLEM,), restarts: int = 0
) -> subprocess.Popen[str]:
    own = ["--standalone", "--max-restarts", str(restarts), "--nproc-per-node", str(count)]
    command = [sys.executable, "-m", "torch.distributed.run", *own]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    return subprocess.Popen(
        [*command, "-m", "l2t_bench", "train", *problem, *OPTIONS, *arguments],
        env={**alone, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def options(file: Path, by: str, outer_steps: int = OUTER_STEPS) -> Sequence[str]:
    return ("--shard", by, "--outer-steps", str(outer_steps), "-o", str(file))


def ended(job: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """The exit code, and the lines that are ours."""
    try:
        said = job.communicate(timeout=120)[1]
    finally:
        for process in ranks_of(job):
            process.kill()
        job.kill()
    return job.returncode, [line for line in said.splitlines() if line.startswith("l2t-bench: ")]


def ranks_of(job: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of the ranks, in their order."""
    try:
        children = psutil.Process(job.pid).children(recursive=True)
        ranks = [child for child in children if "train" in child.cmdline()]
        return sorted(ranks, key=lambda rank: int(rank.environ()["RANK"]))
    except psutil.NoSuchProcess:
        return []


def wait_for_checkpoint(job: subprocess.Popen[str], folder: Path, number: int) -> None:
    while job.poll() is None and not (folder / f"checkpoint-{number:08d}.safetensors").exists():
        time.sleep(0.02)
    assert job.poll() is None, job.communicate()[1]


def newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*.safetensors"))


@pytest.mark.parametrize("by", ["batch", "students"])
def test_a_rank_that_is_killed_ends_the_job_with_a_sound_checkpoint_and_fewer_ranks_go_on(
    tmp_path: Path, by: str
) -> None:
    file, few = tmp_path / "teacher.safetensors", ["--students", "6"] if by == "students" else []
    folder = file.with_suffix(".training")
    job = torchrun(3, *options(file, by), *few)
    wait_for_checkpoint(job, folder, 3)
    ranks_of(job)[1].send_signal(signal.SIGKILL)
    code, said = ended(job)
    assert code != 0 and not file.exists()
    assert any(
        "rank 0 waited for " in line
        and "another of the 3 ranks has ended; the last checkpoint, " in line
        and f"{newest(folder)}, is whole: --resume (resume=True) goes on from it" in line
        for line in said
    ), said
    code, said = ended(torchrun(2, *options(file, by), *few, "--resume"))
    assert code == 0, said
    assert read_teacher(file).summary["outer_steps"] == OUTER_STEPS
    notes = [line for line in said if "not bit for bit: parts of a batch is 3 there and 2 here" in line]
    assert len(notes) == (1 if by == "batch" else 0)
    if by == "students":
        calm = tmp_path / "calm.safetensors"
        CliRunner().invoke(app, ["train", PROBLEM, *OPTIONS, *few, *options(calm, by)[2:]], catch_exceptions=False)
        assert same_tensors(read_teacher(file).theta, read_teacher(calm).theta), "as one process finds it, undisturbed"


def test_torchruns_own_restart_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    job = torchrun(2, *options(file, "batch"), "--resume", restarts=1)
    wait_for_checkpoint(job, file.with_suffix(".training"), 3)
    ranks_of(job)[1].send_signal(signal.SIGKILL)
    code, said = ended(job)
    assert code == 0 and read_teacher(file).summary["outer_steps"] == OUTER_STEPS, said
    assert any("another of the 2 ranks has ended" in line for line in said)


def test_a_rank_that_hangs_ends_the_job_when_the_others_have_waited_long_enough(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    job = torchrun(2, *options(file, "batch"), "--rank-timeout", "3s")
    wait_for_checkpoint(job, file.with_suffix(".training"), 2)
    ranks_of(job)[1].suspend()
    code, said = ended(job)
    assert code != 0 and not file.exists()
    assert any("rank 0 waited for " in line and "has not come within 3 s" in line for line in said), said
    assert any("the last checkpoint, " in line for line in said)


def test_an_interrupt_ends_all_ranks_after_the_outer_step_at_hand_and_the_training_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    folder = file.with_suffix(".training")
    job = torchrun(2, *options(file, "batch"), "--every", "1000")
    while job.poll() is None and len(_lines(folder / "outer_steps.csv")) < 4:
        time.sleep(0.02)
    job.send_signal(signal.SIGINT)
    code, said = ended(job)
    assert code != 0 and "--resume goes on" in said[-1], said
    kept = int(newest(folder).stem.removeprefix("checkpoint-"))
    assert kept == len(_lines(folder / "outer_steps.csv")) - 1, "the step at hand is the last one"
    code, said = ended(torchrun(2, *options(file, "batch"), "--every", "1000", "--resume"))
    assert code == 0 and read_teacher(file).summary["outer_steps"] == OUTER_STEPS, said


FAILS = """
import os
from dataclasses import replace
from l2t_bench.verification.samples import random_problem

plain = random_problem()

def train(index, seed):
    if os.environ["RANK"] == "1" and (seed, index) == (2, 3):
        raise MemoryError("nothing is left on this machine")
    return plain.train(index, seed)

problem = replace(plain, train=train)
"""


def test_a_rank_that_fails_in_the_middle_of_a_step_ends_the_others(tmp_path: Path) -> None:
    mine, file = tmp_path / "mine.py", tmp_path / "teacher.safetensors"
    mine.write_text(FAILS)
    code, said = ended(torchrun(2, *options(file, "batch"), problem=["--problem-file", str(mine)]))
    assert code != 0 and not file.exists()
    assert any("another of the 2 ranks has ended; the last checkpoint, " in line for line in said), said


def test_processes_that_nothing_was_said_to_write_nothing(tmp_path: Path) -> None:
    file = tmp_path / "teacher.safetensors"
    code, said = ended(torchrun(2, "--outer-steps", "1", "-o", str(file)))
    assert code != 0 and all("say what they share out" in line for line in said) and len(said) in (1, 2)
    assert not list(tmp_path.iterdir())


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
