"""``l2t-bench train`` and ``teach``: a teacher and its curves as files, students under it, mistakes in a line."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from l2t_bench.cli.main import app
from l2t_bench.errors import UserError
from l2t_bench.teacher_file import read_teacher

PROBLEM = "digits/mlp[train=60,dev=40,hidden=8,keys=2,lr=0.3,refresh=5]"
OPTIONS = ["--outer-steps", "2", "--horizon", "8", "--select-every", "1", "--select-students", "2"]


def l2t_bench(*arguments: str) -> str:
    """What a command prints. Raises what it raises, which ``main`` would answer in a line with exit code 2."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    file = tmp_path / "teacher.safetensors"
    l2t_bench("train", PROBLEM, *OPTIONS, "--test-curve", "-o", str(file))
    return file


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_trained_teacher_its_curves_and_its_checkpoints_are_files(teacher: Path) -> None:
    held, folder = read_teacher(teacher), teacher.with_suffix(".training")
    assert (held.problem, held.horizon, held.summary["outer_steps"]) == (PROBLEM, 8, 2)
    assert [row["outer_step"] for row in rows(folder / "outer_steps.csv")] == ["0", "1"]
    judged = rows(folder / "selection.csv")
    assert [row["outer_step"] for row in judged] == ["0", "1", "2"]
    assert all(0 < float(row["dev_mean"]) <= 1 and 0 < float(row["test_mean"]) <= 1 for row in judged)
    assert len(list(folder.glob("checkpoint-*.safetensors"))) == 2


def test_teach_prints_dev_and_test_of_fresh_students(teacher: Path) -> None:
    printed = l2t_bench("teach", PROBLEM, "--teacher", str(teacher), "--students", "2")
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["student 1", "student 2", "mean of 2"]
    assert all("dev accuracy 0." in line and "test accuracy 0." in line for line in lines)


def test_teach_takes_no_horizon_of_none_for_one_that_was_left_out(teacher: Path) -> None:
    with pytest.raises(UserError, match="horizon must be a positive number of steps, not 0"):
        l2t_bench("teach", PROBLEM, "--teacher", str(teacher), "--horizon", "0")


def test_teach_warns_where_the_status_is_measured_otherwise(teacher: Path) -> None:
    done = CliRunner().invoke(app, ["teach", PROBLEM.replace("refresh=5", "refresh=4"), "--teacher", str(teacher)])
    assert done.exit_code == 0 and "warning: s_t is measured by" in done.output


_WITH_A_MASK = """
import torch
from l2t_bench.verification.samples import random_problem
from dataclasses import replace

class Masked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.W = torch.nn.Parameter(torch.eye(4).double())
        self.register_buffer("mask", torch.rand(4, 4, generator=torch.Generator().manual_seed({seed})).double())
    def forward(self, features):
        return self.W * self.mask

problem = replace(random_problem(), teacher=Masked())
"""


def test_students_are_taught_by_the_trained_teacher_where_its_constants_were_drawn(tmp_path: Path) -> None:
    for seed, name in enumerate(("trained.py", "drawn_anew.py")):
        (tmp_path / name).write_text(_WITH_A_MASK.format(seed=seed))
    file = str(tmp_path / "teacher.safetensors")
    trained, anew = (["--problem-file", str(tmp_path / name)] for name in ("trained.py", "drawn_anew.py"))
    l2t_bench("train", *trained, "--outer-steps", "1", "--horizon", "20", "--select-every", "0", "-o", file)
    taught = [l2t_bench("teach", *problem, "--teacher", file) for problem in (trained, anew)]
    assert taught[0] == taught[1]


def test_a_teacher_for_another_number_of_classes_is_a_mistake(teacher: Path) -> None:
    with pytest.raises(UserError, match="another number of classes"):
        l2t_bench("teach", "cifar100/resnet8", "--teacher", str(teacher))


def test_a_teacher_that_is_there_is_not_written_over(teacher: Path, tmp_path: Path) -> None:
    before = teacher.read_bytes()
    with pytest.raises(UserError, match="is there already: name another with -o, or go on with --resume"):
        l2t_bench("train", PROBLEM, *OPTIONS, "-o", str(teacher))
    other = tmp_path / "other.safetensors"
    other.write_bytes(before)
    with pytest.raises(UserError, match=r"is there already: name another with -o$"):
        l2t_bench("train", PROBLEM, *OPTIONS, "--resume", "-o", str(other))
    assert teacher.read_bytes() == other.read_bytes() == before


def test_a_training_with_other_settings_does_not_go_on(teacher: Path) -> None:
    before = teacher.read_bytes()
    with pytest.raises(UserError, match="of another training: seed is 0 there and 3 here"):
        l2t_bench("train", PROBLEM, *OPTIONS, "--test-curve", "--seed", "3", "--resume", "-o", str(teacher))
    assert teacher.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "give a problem's name or --problem-file"),
        (["train", PROBLEM, "--optimizer", "AdmW"], "did you mean 'AdamW'"),
        (["train", PROBLEM, "--optimizer", "SGD[speed=3]"], "SGD"),
        (["train", PROBLEM, "--optimizer", "LBFGS"], "evaluates the objective itself"),
        (["train", PROBLEM, "--every", "3 parsecs"], "a duration is written"),
        (["train", PROBLEM, "--patience", "0"], "patience"),
        (["train", PROBLEM, "--lr", "-1"], "must be positive"),
        (["train", PROBLEM, "-b", "rdm"], "did you mean 'rmd'"),
        (["train", PROBLEM, "-o", "teacher.pt"], "ends in .safetensors"),
        (["teach", PROBLEM, "--teacher", "nothing.safetensors"], "there is no teacher file"),
        (["train", PROBLEM, "--lr", "inf"], "must be positive"),
        (["teach", PROBLEM, "--students", "0"], "students must be at least 1"),
    ],
)
def test_a_mistake_is_answered_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        l2t_bench(*arguments)
    assert said in str(raised.value)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_any_optimiser_of_torch_trains_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    l2t_bench("train", PROBLEM, *OPTIONS, "--optimizer", "AdamW[weight_decay=0.01,betas=0.8:0.9]", "-o", str(file))
    assert read_teacher(file).summary["outer_steps"] == 2


@pytest.mark.slow
def test_an_interrupt_ends_after_the_outer_step_at_hand_and_the_training_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "t.safetensors"
    curve = file.with_suffix(".training") / "outer_steps.csv"
    arguments = ["train", PROBLEM, "--outer-steps", "2000", "--horizon", "8", "--select-every", "0", "--every", "1000"]
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", *arguments, "-o", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (curve.exists() and len(curve.read_text().splitlines()) > 2):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "--resume goes on" in said
    (checkpoint,) = curve.parent.glob("checkpoint-*.safetensors")
    assert int(checkpoint.stem.removeprefix("checkpoint-")) == len(curve.read_text().splitlines()) - 1


def test_tensorboard_shows_the_curves(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    file = tmp_path / "t.safetensors"
    l2t_bench("train", PROBLEM, *OPTIONS, "--tensorboard", "-o", str(file))
    events = reading.EventAccumulator(str(file.with_suffix(".training") / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/value")] == [0, 1]
    assert [event.step for event in events.Scalars("selection/dev_mean")] == [0, 1, 2]
