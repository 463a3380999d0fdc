"""What all tests share: one thread, one random state, and the data root of those that need real data."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from l2t_bench.data.root import VARIABLE

# The same examples in every run, and none kept in a folder of the checkout.
settings.register_profile("suite", derandomize=True, deadline=None, database=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _the_same_in_every_order() -> None:
    """Sums over several threads differ from run to run; a warning given once would hit whichever test comes first."""
    torch.set_num_threads(1)
    torch.set_warn_always(True)


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    """A test that draws from torch's global generator draws the same, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests belong to."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture
def mnist_root() -> Path:
    """The data root, where it holds MNIST; the test is skipped where it does not."""
    root = os.environ.get(VARIABLE)
    if not root:
        pytest.skip(f"needs MNIST: set {VARIABLE} to a data root that has it")
    missing = Path(root) / "mnist" / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    if not missing.is_file():
        pytest.skip(f"needs MNIST: the data root {VARIABLE} has no mnist/MNIST/raw/{missing.name}")
    return Path(root)
