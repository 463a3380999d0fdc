"""What docs/training.md shows is what happens."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from l2t_bench.cli.main import app

SMALL = ["--outer-steps", "1", "--horizon", "4", "--select-every", "1", "--select-students", "1"]


@pytest.fixture(scope="module")
def page() -> str:
    return (Path(__file__).parent.parent / "docs" / "training.md").read_text()


def test_the_commands_train_a_teacher_and_teach_students(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they stand, but of a size that a test can have."""
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line) for line in re.findall(r"^l2t-bench (.*)$", page, re.MULTILINE)]
    assert [command[0] for command in commands] == ["train", "teach"]
    for command in commands:
        done = CliRunner().invoke(app, [*command, *(SMALL if command[0] == "train" else [])], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert "student 4: dev" in done.output


def test_the_examples_run_one_after_the_other(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    known = {"OUTER_STEPS": 1, "HORIZON": 4}
    for example in examples:
        exec(compile(example, "docs/training.md", "exec"), known)
    assert (tmp_path / "mine.safetensors").is_file() and list((tmp_path / "run").glob("checkpoint-*"))


def test_every_option_that_the_page_names_is_one(page: str) -> None:
    from typer.main import get_command

    train = get_command(app).commands["train"]  # type: ignore[attr-defined]
    known = {name for param in train.params for name in param.opts} | {"--teacher"}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page))
    assert len(named) > 12 and named <= known
