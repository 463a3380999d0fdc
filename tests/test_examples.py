"""The example scripts train a student under a teacher from a file."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

import l2t_bench as l2t


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained one of the digits: what the examples are about is how it is used."""
    problem = l2t.build_problem("digits/mlp[gain=0.3,refresh=20]")
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    l2t.save_teacher(file, problem, problem.init_teacher(0), horizon=300)
    return file


def example(repository: Path, name: str) -> Callable[..., float]:
    """The ``main`` of an example."""
    spec = importlib.util.spec_from_file_location(name, repository / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., float] = module.main
    return found


def test_a_plain_loop_under_a_teacher_from_a_file_learns_the_digits(repository: Path, teacher: Path) -> None:
    assert example(repository, "plain_pytorch")(str(teacher), steps=60) > 0.7


def test_five_lines_of_the_plain_loop_are_the_teachers(repository: Path) -> None:
    lines = (repository / "examples" / "plain_pytorch.py").read_text().splitlines()
    assert [line[-3:] for line in lines if line.endswith(("# 1", "# 2", "# 3", "# 4", "# 5"))] == [
        f"# {number}" for number in range(1, 6)
    ]


@pytest.mark.filterwarnings("ignore")  # lightning's own
def test_a_lightning_module_under_a_teacher_from_a_file_learns_the_digits(repository: Path, teacher: Path) -> None:
    pytest.importorskip("lightning")
    assert example(repository, "lightning_digits")(str(teacher), steps=60) > 0.7
