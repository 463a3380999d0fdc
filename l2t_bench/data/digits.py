"""scikit-learn's handwritten digits: 1,797 real 8x8 images inside a wheel, the embedded default."""

from pathlib import Path

import numpy as np

from l2t_bench.data.digits_files import digits_files
from l2t_bench.data.splits import Arrays


def load_digits() -> tuple[Arrays, None]:
    """All digits, images (1797, 1, 8, 8) in [0, 1]; the data set has no test set of its own.

    Read from the file in scikit-learn's wheel: importing ``sklearn.datasets`` takes two seconds, more than most runs on
    these digits. Where the file is not where it was, scikit-learn's own loader is asked.
    """
    (file,) = digits_files()
    table = _table(file)
    images = (table[:, :-1] / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return Arrays(images, table[:, -1].astype(np.int64)), None


def _table(path: Path) -> np.ndarray:
    """Rows of 64 pixel values 0..16 and a label."""
    if path.is_file():
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits as sklearn_load

    images, labels = sklearn_load(return_X_y=True)
    return np.column_stack([images, labels])
