"""``l2t-bench select`` and ``predict``: what cannot be done is said before minutes are spent on it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from l2t_bench.choice import from_toml
from l2t_bench.cli.main import app
from l2t_bench.errors import UserError

SELECT = ["select", "digits/mlp[train=60,dev=40,hidden=8]", "--horizon", "3", "-b", "rmd"]


def l2t_bench(*arguments: str) -> str:
    """What a command prints. Raises what it raises, which ``main`` would answer in a line with exit code 2."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*arguments: Any, **options: Any) -> None:
        pytest.fail("it was computed, and then lost")

    monkeypatch.setattr("l2t_bench.selection.selecting.select_backend", computed)


def test_a_decision_is_written_into_a_folder_that_was_not_there(tmp_path: Path) -> None:
    file = tmp_path / "there" / "is" / "backend.toml"
    assert f"written: {file}" in l2t_bench(*SELECT, "-o", str(file)).replace("\n", "")
    assert from_toml(file.read_text()).method == "rmd"


@pytest.mark.usefixtures("nothing_is_computed")
def test_an_earlier_decision_is_not_written_over(tmp_path: Path) -> None:
    (file := tmp_path / "backend.toml").write_text("of another problem")
    with pytest.raises(UserError, match=r"backend\.toml is there already: name another with -o"):
        l2t_bench(*SELECT, "-o", str(file))
    assert file.read_text() == "of another problem"


@pytest.mark.usefixtures("nothing_is_computed")
def test_a_decision_that_could_not_be_written_is_not_computed(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"backend\.toml cannot be written: "):
        l2t_bench(*SELECT, "-o", str(file / "backend.toml"))


@pytest.mark.usefixtures("nothing_is_computed")
@pytest.mark.parametrize("threads", ["0", "-2"])
@pytest.mark.parametrize("verb", [SELECT, ["predict", *SELECT[1:]]], ids=lambda verb: verb[0])
def test_fewer_threads_than_one_are_an_error(verb: list[str], threads: str) -> None:
    with pytest.raises(UserError, match=f"threads must be at least 1, not {threads}"):
        l2t_bench(*verb, "--threads", threads)
