"""Images with labels, split into train, dev and test by a stated rule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from l2t_bench.batches import Examples
from l2t_bench.errors import UserError


class Arrays(NamedTuple):
    """Images (N, 1, S, S) in [0, 1] as float32, labels (N,) as int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class SplitSizes:
    """How many examples of the training pool go to train and to dev; the order is shuffled under ``seed``.

    Raises ``UserError`` when train or dev would be empty, and for a negative seed.
    """

    train: int
    dev: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.train < 1 or self.dev < 1:
            raise UserError(f"train and dev must each hold an example, not {self.train} and {self.dev}")
        if self.seed < 0:
            raise UserError(f"the seed of the split must not be negative, not {self.seed}")


class ImageSplits:
    """Train, dev and test of a data set as tensors, loaded when first asked for.

    ``load`` gives the pool and the test set; where the data set has no test set of its own, ``None``: what is left of
    the pool after train and dev is then the test set. Dev is never taken from a test set.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Arrays, Arrays | None]],
        sizes: SplitSizes,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._load = load
        self._sizes = sizes
        self._device = device
        self._dtype = dtype

    def train(self) -> Examples:
        return self._splits[0]

    def dev(self) -> Examples:
        return self._splits[1]

    def test(self) -> Examples:
        return self._splits[2]

    @cached_property
    def _splits(self) -> tuple[Examples, Examples, Examples]:
        pool, test = self._load()
        train_rows, dev_rows, rest = split_rows(len(pool.labels), self._sizes)
        if test is None:
            test = Arrays(pool.images[rest], pool.labels[rest])
        return (
            self._examples(pool, train_rows),
            self._examples(pool, dev_rows),
            self._examples(test, np.arange(len(test.labels))),
        )

    def _examples(self, arrays: Arrays, rows: np.ndarray) -> Examples:
        images = torch.from_numpy(arrays.images[rows]).to(device=self._device, dtype=self._dtype)
        return Examples(images, torch.from_numpy(arrays.labels[rows]).to(self._device))


def split_rows(count: int, sizes: SplitSizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of train, dev and what is left of ``count`` examples, in an order shuffled under ``sizes.seed``.

    Raises ``UserError`` when there are too few.
    """
    if sizes.train + sizes.dev > count:
        raise UserError(f"train={sizes.train} and dev={sizes.dev} are more than the {count} examples there are")
    order = np.random.default_rng(sizes.seed).permutation(count)
    return order[: sizes.train], order[sizes.train : sizes.train + sizes.dev], order[sizes.train + sizes.dev :]
