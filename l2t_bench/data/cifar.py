"""CIFAR-10 and CIFAR-100 from the data root: the original files through torchvision, or the packed copy of CIFAR-10."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np

from l2t_bench.data.cifar_files import CIFAR10, CIFAR100, Cifar
from l2t_bench.data.npz import NotNpz, read_npz
from l2t_bench.data.root import required
from l2t_bench.data.splits import Arrays
from l2t_bench.data.transfer import check
from l2t_bench.errors import UserError


def load_cifar10() -> tuple[Arrays, Arrays]:
    """The 50,000 training and 10,000 test images, uint8 of (N, 3, 32, 32). Raises as ``load_cifar``."""
    return load_cifar(CIFAR10)


def load_cifar100() -> tuple[Arrays, Arrays]:
    """The same of CIFAR-100, with its 100 fine labels. Raises as ``load_cifar``."""
    return load_cifar(CIFAR100)


def load_cifar(cifar: Cifar) -> tuple[Arrays, Arrays]:
    """Training and test images, uint8 of (N, 3, 32, 32), from the data root: the original, else the packed copy.

    Raises ``UserError`` for files that are missing or damaged.
    """
    if cifar.is_copy:
        for file in cifar.copies():
            check(file, cifar.packed[file.name])
        return _unpacked(cifar.place, "train"), _unpacked(cifar.place, "test")
    for file in cifar.originals():
        required(file, cifar.name)
    return _read(cifar, train=True), _read(cifar, train=False)


def _read(cifar: Cifar, train: bool) -> Arrays:
    """What torchvision reads, which holds each file to its md5 before it is unpickled."""
    import torchvision.datasets

    try:
        found = getattr(torchvision.datasets, cifar.torchvision)(str(cifar.place), train=train)
    except (RuntimeError, ValueError, LookupError, OSError, EOFError) as error:
        told = " ".join(str(error).split())
        raise UserError(
            f"the {cifar.title} files in {cifar.place / cifar.folder} are damaged ({told}): "
            f"run `l2t-bench prepare {cifar.name}`"
        ) from error
    return _arrays(found.data, np.asarray(found.targets))


def _unpacked(folder: Path, part: str) -> Arrays:
    """JPEG images, those that are kept without loss put in their places.

    ``PART.npz`` holds ``labels``, ``jpeg_offsets`` (where each image begins in ``PART.jpegs``), ``lossless_index`` and
    ``lossless_images``.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        packed = read_npz(folder / f"{part}.npz")
        labels, offsets = packed["labels"], packed["jpeg_offsets"]
        content = (folder / f"{part}.jpegs").read_bytes()
        images = np.empty((len(labels), 32, 32, 3), np.uint8)
        for row, (start, stop) in enumerate(pairwise(offsets)):
            images[row] = np.asarray(Image.open(io.BytesIO(content[start:stop])).convert("RGB"))
        images[packed["lossless_index"]] = packed["lossless_images"]
    except (NotNpz, OSError, ValueError, LookupError, UnidentifiedImageError) as error:
        raise UserError(
            f"the packed copy {part}.npz, {part}.jpegs in {folder} is damaged ({error}): "
            "run `l2t-bench prepare cifar10 --from DIR`"
        ) from error
    return _arrays(images, labels)


def _arrays(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """From images (N, 32, 32, 3)."""
    return Arrays(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64))
