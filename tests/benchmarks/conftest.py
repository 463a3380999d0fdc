"""What the benchmarks of one session share: the machine's threads, a cache of compiled steps that begins empty."""

import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from l2t_bench.engine.environment import environment


@pytest.fixture(scope="session", autouse=True)
def _the_same_in_every_order() -> None:
    """Not the one thread of the tests: as many as torch takes by itself, or ``OMP_NUM_THREADS``."""


@pytest.fixture(scope="session")
def compile_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled steps are kept in a folder of this session: those of a problem take what they take the first time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Libraries and threads beside the machine; no host's name, which says nothing about a figure."""
    machine_info["node"] = platform.machine()
    told = environment("cpu", int(os.environ.get("OMP_NUM_THREADS") or torch.get_num_threads()))
    machine_info["l2t_bench"] = {name: told[name] for name in ("threads", "torch", "libraries")}
