"""MNIST from the data root: the four original ``.gz`` files, read as they are."""

import gzip
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np

from l2t_bench.data.root import data_root, required
from l2t_bench.data.splits import Arrays
from l2t_bench.errors import UserError

FILES = tuple(f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def load_mnist() -> tuple[Arrays, Arrays]:
    """The 60,000 training and the 10,000 test images, (N, 1, 28, 28) in [0, 1].

    torchvision reads unpacked files only, and nothing but ``prepare`` writes to the data root: they are unpacked into a
    temporary folder. Raises ``UserError`` for files that are missing or damaged.
    """
    from torchvision.datasets import MNIST

    raw = data_root() / "mnist" / "MNIST" / "raw"
    packed = [required(raw / f"{name}.gz", "mnist") for name in FILES]
    with tempfile.TemporaryDirectory() as folder:
        for archive in packed:
            _unpack(archive, Path(folder) / "MNIST" / "raw" / archive.stem)
        try:
            return tuple(_arrays(MNIST(folder, train=train)) for train in (True, False))  # type: ignore[return-value]
        except (RuntimeError, ValueError, LookupError, AssertionError) as error:
            raise UserError(f"the MNIST files in {raw} are damaged ({error}): run `l2t-bench prepare mnist`") from error


def _unpack(archive: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with gzip.open(archive) as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive} is damaged ({error}): run `l2t-bench prepare mnist`") from error


def _arrays(dataset: object) -> Arrays:
    """What torchvision read. It compares no sizes: ``ValueError`` where images and labels do not fit together."""
    images = dataset.data.numpy()  # type: ignore[attr-defined]
    labels = dataset.targets.numpy()  # type: ignore[attr-defined]
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise ValueError(f"images of shape {images.shape} with labels of shape {labels.shape}")
    return Arrays((images / np.float32(255)).astype(np.float32)[:, None], labels.astype(np.int64))


def prepare_mnist() -> Path:
    """Download MNIST into the data root through torchvision, which checks each file's md5; the folder it is in.

    Raises ``UserError`` where the root cannot be written or the download fails.
    """
    from torchvision.datasets import MNIST

    folder = data_root() / "mnist"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        MNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"MNIST could not be prepared in {folder}: {error}") from error
    return folder
