"""Images of one's own, from a ``.npz`` file: read as they are, checked, never written."""

from pathlib import Path

import numpy as np

from l2t_bench.data.arrays_file import arrays_file
from l2t_bench.data.npz import NotNpz, read_npz
from l2t_bench.data.splits import Arrays
from l2t_bench.errors import UserError

_FORM = (
    "train_images (N, S, S) or (N, S, S, C) in uint8 and train_labels (N,), and test_images and test_labels likewise "
    "where there is a test set"
)


def load_arrays(path: str) -> tuple[Arrays, Arrays | None]:
    """The images and labels of an ``.npz`` file, uint8 of (N, C, S, S); ``None`` where it holds no test set.

    Raises ``UserError`` for a file that is missing or no ``.npz``, lacks the arrays, or holds them in another type.
    """
    if not path:
        raise UserError(f"arrays need the option path=FILE.npz, a file that holds {_FORM}")
    file = arrays_file(path)
    if not file.is_file():
        raise UserError(f"arrays: there is no file {file}")
    try:
        found = read_npz(file)
    except NotNpz as error:
        raise UserError(f"arrays: {file} cannot be read as a .npz file ({error}); it must hold {_FORM}") from error
    train = _part(found, "train", file)
    return train, _part(found, "test", file) if {"test_images", "test_labels"} & set(found) else None


def _part(found: dict[str, np.ndarray], part: str, file: Path) -> Arrays:
    """Raises ``UserError``."""
    for name in (f"{part}_images", f"{part}_labels"):
        if name not in found:
            raise UserError(
                f"arrays: {file} lacks {name}; it has {', '.join(found) or 'nothing'} and must hold {_FORM}"
            )
    images, labels = found[f"{part}_images"], found[f"{part}_labels"]
    what = f"arrays: {part}_images in {file}"
    if images.dtype != np.uint8:
        raise UserError(f"{what} must be uint8, not {images.dtype}")
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4:
        raise UserError(f"{what} must be (N, S, S) or (N, S, S, C), not {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"arrays: {part}_labels in {file} must be whole numbers, not {labels.dtype}")
    if labels.shape != images.shape[:1]:
        raise UserError(f"{what} are {len(images)}, and {part}_labels have the shape {labels.shape}")
    if not len(images):
        raise UserError(f"{what} are none")
    return Arrays(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64))
