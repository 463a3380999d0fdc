"""MNIST from the data root: the four original ``.gz`` files, read as they are."""

import gzip
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from l2t_bench.data.mnist_files import ARCHIVES, mnist_folder
from l2t_bench.data.root import required
from l2t_bench.data.splits import Arrays
from l2t_bench.errors import UserError


def load_mnist() -> tuple[Arrays, Arrays]:
    """The 60,000 training and the 10,000 test images, (N, 1, 28, 28) in [0, 1].

    torchvision reads unpacked files only, and nothing but ``prepare`` writes to the data root: they are unpacked into a
    temporary folder. Raises ``UserError`` for files that are missing or damaged.
    """
    raw = mnist_folder()
    packed = [required(raw / name, "mnist") for name in ARCHIVES]
    with tempfile.TemporaryDirectory() as folder:
        for archive in packed:
            _unpack(archive, Path(folder) / "MNIST" / "raw" / archive.stem)
        try:
            return _read(folder, train=True), _read(folder, train=False)
        except (RuntimeError, ValueError, LookupError, AssertionError) as error:
            raise UserError(f"the MNIST files in {raw} are damaged ({error}): run `l2t-bench prepare mnist`") from error


def _unpack(archive: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is damaged ({error}): run `l2t-bench prepare mnist`") from error


def _read(folder: str, train: bool) -> Arrays:
    """What torchvision reads. It compares no sizes: ``ValueError`` where images and labels do not fit together."""
    from torchvision.datasets import MNIST

    found = MNIST(folder, train=train)
    images: np.ndarray = found.data.numpy()
    labels: np.ndarray = found.targets.numpy()
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise ValueError(f"images of shape {images.shape} with labels of shape {labels.shape}")
    return Arrays((images / np.float32(255)).astype(np.float32)[:, None], labels.astype(np.int64))
