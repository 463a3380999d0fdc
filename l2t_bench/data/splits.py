"""Images with labels, split into train, dev and test by a stated rule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from l2t_bench.batches import Examples
from l2t_bench.data.checks import ImageForm, check_arrays, check_dev
from l2t_bench.data.label_noise import LabelNoise, with_noise
from l2t_bench.errors import UserError


class Arrays(NamedTuple):
    """Images (N, C, S, S), in [0, 1] as float32 or as they were stored in uint8; labels (N,) as int64."""

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

    ``stratified``: train and dev have the classes in the pool's proportions (``stratified_rows``). ``subtract_mean``:
    the mean image of train, per pixel and channel, is subtracted from all three (appendix B.2). With a ``form`` the
    images and labels are held to it when they are loaded; ``UserError`` where they differ or dev lacks a class.
    ``label_noise``, with a ``form``: train's labels are drawn wrong; dev's and test's never are.
    """

    def __init__(
        self,
        load: Callable[[], tuple[Arrays, Arrays | None]],
        sizes: SplitSizes,
        device: torch.device,
        dtype: torch.dtype,
        *,
        form: ImageForm | None = None,
        stratified: bool = False,
        subtract_mean: bool = False,
        label_noise: LabelNoise | None = None,
    ) -> None:
        self._load = load
        self._form = form
        self._stratified = stratified
        self._subtract_mean = subtract_mean
        self._label_noise = label_noise
        self._sizes = sizes
        self._device = device
        self._dtype = dtype

    def train(self) -> Examples:
        return self._splits[0]

    def dev(self) -> Examples:
        return self._splits[1]

    def test(self) -> Examples:
        """Raises ``UserError`` where train and dev have left nothing for it."""
        if not len(self._splits[2].targets):
            raise UserError("the test set is empty: train and dev take all the images there are")
        return self._splits[2]

    @cached_property
    def _splits(self) -> tuple[Examples, Examples, Examples]:
        pool, test = self._load()
        self._check(pool, "training images")
        rows = stratified_rows(pool.labels, self._sizes) if self._stratified else None
        train_rows, dev_rows, rest = rows or split_rows(len(pool.labels), self._sizes)
        if self._form is not None:
            check_dev(pool.labels[dev_rows], self._form.classes)
        taught = self._with_noise(Arrays(pool.images[train_rows], pool.labels[train_rows]))
        if test is None:
            test = Arrays(pool.images[rest], pool.labels[rest])
        if len(test.labels):
            self._check(test, "test images")
        parts = (
            self._examples(taught, np.arange(len(train_rows))),
            self._examples(pool, dev_rows),
            self._examples(test, np.arange(len(test.labels))),
        )
        if self._subtract_mean:
            mean = parts[0].inputs.mean(0, dtype=torch.float64).to(self._dtype)
            for part in parts:
                part.inputs.sub_(mean)
        return parts

    def _with_noise(self, train: Arrays) -> Arrays:
        if self._label_noise is None or self._form is None:
            return train
        return train._replace(labels=with_noise(train.labels, self._label_noise, self._form.classes))

    def _check(self, arrays: Arrays, what: str) -> None:
        if self._form is not None:
            check_arrays(arrays.images, arrays.labels, self._form, what)

    def _examples(self, arrays: Arrays, rows: np.ndarray) -> Examples:
        images = torch.from_numpy(arrays.images[rows]).to(device=self._device)
        scaled = images.to(self._dtype).div_(255) if images.dtype == torch.uint8 else images.to(self._dtype)
        return Examples(scaled, torch.from_numpy(arrays.labels[rows]).to(self._device))


def split_rows(count: int, sizes: SplitSizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of train, dev and what is left of ``count`` examples, in an order shuffled under ``sizes.seed``.

    Raises ``UserError`` when there are too few.
    """
    if sizes.train + sizes.dev > count:
        raise UserError(f"train={sizes.train} and dev={sizes.dev} are more than the {count} examples there are")
    order = np.random.default_rng(sizes.seed).permutation(count)
    return order[: sizes.train], order[sizes.train : sizes.train + sizes.dev], order[sizes.train + sizes.dev :]


def stratified_rows(labels: np.ndarray, sizes: SplitSizes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of train, dev and what is left, in the order shuffled under ``sizes.seed``, class by class in proportion.

    Of each class the first rows of that order are dev's, the next are train's. Dev has of each class its share of
    ``labels``, rounded by largest remainder (ties: the smaller class first); train has its share of what dev left.

    Raises ``UserError`` when there are too few examples.
    """
    if sizes.train + sizes.dev > len(labels):
        raise UserError(f"train={sizes.train} and dev={sizes.dev} are more than the {len(labels)} examples there are")
    order = np.random.default_rng(sizes.seed).permutation(len(labels))
    ordered = labels[order]
    counts = np.bincount(ordered)
    to_dev = _apportioned(sizes.dev, counts)
    to_train = _apportioned(sizes.train, counts - to_dev)
    rank = np.empty(len(labels), dtype=np.int64)  # how many of the same class come before
    for each in range(len(counts)):
        rank[ordered == each] = np.arange(counts[each])
    in_dev = rank < to_dev[ordered]
    in_train = ~in_dev & (rank < (to_dev + to_train)[ordered])
    return order[in_train], order[in_dev], order[~in_dev & ~in_train]


def _apportioned(seats: int, counts: np.ndarray) -> np.ndarray:
    """``seats`` divided in proportion to ``counts``, in whole numbers by largest remainder; none gets more than it has.

    ``seats`` is at most the sum of ``counts``.
    """
    total = int(counts.sum())
    if not total:
        return np.zeros_like(counts)
    whole, left = np.divmod(seats * counts.astype(np.int64), total)
    extra = np.argsort(-left, kind="stable")[: seats - int(whole.sum())]
    whole[extra] += 1
    return whole
