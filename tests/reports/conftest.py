"""Runs of invented numbers, made anew for each test or once for all that only read them."""

from pathlib import Path

import pytest
from invented_runs import RunWriter, invented_run


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    """An empty run's folder to write into."""
    path = tmp_path / "quick"
    path.mkdir()
    return RunWriter(path)


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The invented run, finished, for tests that only read it."""
    path = tmp_path_factory.mktemp("runs") / "quick"
    path.mkdir()
    writer = RunWriter(path)
    invented_run(writer)
    return writer.finish()


@pytest.fixture
def run_folder(writer: RunWriter) -> Path:
    """The invented run, finished, for tests that change it or write into it."""
    invented_run(writer)
    return writer.finish()
