"""Splits class by class: proportions, what they are a function of, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import l2t_bench as l2t
from l2t_bench.data.checks import ImageForm
from l2t_bench.data.splits import Arrays, ImageSplits, SplitSizes, stratified_rows

labels = st.lists(st.integers(0, 4), min_size=2, max_size=80).map(np.asarray)


@given(labels, st.data(), st.integers(0, 2**31))
def test_parts_partition_the_examples_and_have_each_class_to_within_one(
    held: np.ndarray, data: st.DataObject, seed: int
) -> None:
    dev = data.draw(st.integers(1, len(held) - 1))
    train = data.draw(st.integers(1, len(held) - dev))
    parts = stratified_rows(held, SplitSizes(train, dev, seed))
    assert [len(part) for part in parts] == [train, dev, len(held) - train - dev]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(held)))
    counts = np.bincount(held)
    in_dev = np.bincount(held[parts[1]], minlength=len(counts))
    assert (abs(in_dev - dev * counts / len(held)) < 1).all()
    left = counts - in_dev
    assert (abs(np.bincount(held[parts[0]], minlength=len(counts)) - train * left / left.sum()) < 1).all()


@given(labels, st.integers(0, 2**31))
def test_a_split_is_a_function_of_labels_sizes_and_seed_alone(held: np.ndarray, seed: int) -> None:
    state = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]  # numpy's global generator
    first, again = (stratified_rows(held, SplitSizes(1, len(held) // 2, seed)) for _ in range(2))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, again, strict=True))
    assert np.random.get_state()[1].tolist() == state  # type: ignore[index, union-attr]


def test_dev_depends_on_its_own_size_alone() -> None:
    held = np.arange(90) % 3
    assert np.array_equal(*(stratified_rows(held, SplitSizes(train, 30, 4))[1] for train in (10, 60)))


def test_another_seed_splits_otherwise_and_parts_are_not_in_the_order_of_their_classes() -> None:
    held = np.repeat(np.arange(4), 25)
    splits = [stratified_rows(held, SplitSizes(60, 40, seed)) for seed in range(20)]
    assert len({tuple(train.tolist()) for train, _, _ in splits}) == 20
    assert all((np.diff(held[train]) < 0).any() for train, _, _ in splits)


def test_equal_classes_have_equal_shares() -> None:
    train, dev, _ = stratified_rows(np.arange(500) % 10, SplitSizes(450, 50))
    assert np.bincount(np.arange(500)[train] % 10).tolist() == [45] * 10
    assert np.bincount(np.arange(500)[dev] % 10).tolist() == [5] * 10


def test_too_few_examples_are_an_error() -> None:
    with pytest.raises(l2t.UserError, match="train=6 and dev=5 are more than the 10 examples there are"):
        stratified_rows(np.arange(10), SplitSizes(6, 5))


@pytest.mark.usefixtures("mnist_root")
def test_mnists_dev_set_has_every_digit_in_proportion() -> None:
    problem = l2t.build_problem("mnist/mlp")
    counts = torch.bincount(torch.cat([targets for _, targets in problem.dev_batches]))
    pool = torch.tensor([5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert bool(((counts - pool / 6).abs() < 1).all())


# -- what the splits are held to ---------------------------------------------------------------------------------------

FORM = ImageForm(channels=1, size=2, classes=3)


def splits(pool: Arrays, test: Arrays | None = None, dev: int = 3) -> ImageSplits:
    sizes = SplitSizes(3, dev)
    return ImageSplits(lambda: (pool, test), sizes, torch.device("cpu"), torch.float32, form=FORM, stratified=True)


def arrays(count: int = 9, size: int = 2, dtype: type = np.float32) -> Arrays:
    return Arrays(np.zeros((count, 1, size, size), dtype), np.arange(count) % 3)


@pytest.mark.parametrize(
    ("made", "answer"),
    [
        (lambda: splits(arrays(size=3)), "training images: images of 3x3 with 1 channels"),
        (lambda: splits(arrays(), arrays(size=3)), "test images: images of 3x3 with 1 channels"),
        (lambda: splits(arrays(dtype=np.int32)), "images must be uint8, not int32"),
        (lambda: splits(arrays()._replace(labels=np.arange(9) / 2)), "labels must be whole numbers, not float64"),
        (
            lambda: splits(arrays()._replace(labels=np.arange(9) % 4)),
            "labels from 0 to 3, where 3 classes are 0 to 2",
        ),
        (lambda: splits(arrays()._replace(labels=np.arange(8) % 3)), "do not fit labels of shape"),
        (lambda: splits(arrays(0)), "there is no image"),
        (lambda: splits(arrays()._replace(images=np.full((9, 1, 2, 2), np.nan))), "numbers that are not finite"),
        (lambda: splits(arrays(), dev=2), "dev has 2 examples and none of class 2: take a larger dev"),
    ],
)
def test_images_that_do_not_fit_are_refused_when_they_are_loaded(made: object, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        made().train()  # type: ignore[operator]


def test_stored_images_and_scaled_ones_are_the_same_examples() -> None:
    stored = Arrays(np.arange(36, dtype=np.uint8).reshape(9, 1, 2, 2), np.arange(9) % 3)
    scaled = stored._replace(images=(stored.images / np.float32(255)).astype(np.float32))
    torch.testing.assert_close(splits(stored).dev().inputs, splits(scaled).dev().inputs, rtol=1e-7, atol=0)
