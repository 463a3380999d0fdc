"""Random crops and flips: what they do to an image, and that they can be drawn again."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.augmentation import CropFlip
from l2t_bench.batches import Examples, IndexedBatch, IndexedBatches


def images(count: int = 6, size: int = 9) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def crops(image: Tensor, padding: int) -> list[Tensor]:
    """All that can become of one image (C, S, S), by torch's own padding: every position, flipped and not."""
    size, padded = image.shape[-1], F.pad(image[None], (padding,) * 4, mode="reflect")[0]
    found = []
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + size, left : left + size]
            found += [crop, crop.flip(-1)]
    return found


def which(result: Tensor, image: Tensor, padding: int) -> int:
    """The number of the crop; of the few that mirroring makes equal, the first."""
    found = [number for number, crop in enumerate(crops(image, padding)) if torch.equal(crop, result)]
    assert found, "no crop of the image"
    return found[0]


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_each_image_becomes_a_crop_of_itself_padded_by_reflection_flipped_or_not(padding: int) -> None:
    given = images()
    result = CropFlip(padding)(given, seed=7)
    assert result.shape == given.shape and result.dtype == given.dtype
    for before, after in zip(given, result, strict=True):
        which(after, before, padding)


def test_every_position_and_both_directions_are_drawn_about_equally_often() -> None:
    image = images(1, 5)
    many = CropFlip(1)(image.expand(3600, -1, -1, -1), seed=0)
    counts = torch.bincount(torch.tensor([which(result, image[0], 1) for result in many]), minlength=18)
    assert len(counts) == 18 and int(counts.min()) > 200 - 5 * 14 and int(counts.max()) < 200 + 5 * 14


def test_an_augmentation_is_a_function_of_images_and_seed_alone() -> None:
    given = images()
    kept = given.clone()
    first = CropFlip()(given, seed=3)
    before = torch.get_rng_state()
    torch.rand(5)
    assert torch.equal(CropFlip()(given, seed=3), first)
    assert not torch.equal(CropFlip()(given, seed=4), first)
    assert torch.equal(given, kept), "what it is given stays as it is"
    torch.set_rng_state(before)
    CropFlip()(given, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("build", "answer"),
    [
        (lambda: CropFlip(-1), "must not be negative, not -1"),
        (lambda: CropFlip(4)(images(2, 4), 0), "images of 4x4 cannot be reflected over 4 pixels"),
    ],
)
def test_an_augmentation_that_cannot_be_says_why(build: object, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        build()  # type: ignore[operator]


def source() -> IndexedBatches:
    return IndexedBatches(Examples(images(20), torch.arange(20)), 5, CropFlip(2))


def test_an_augmented_batch_is_a_function_of_index_and_seed_and_the_same_at_every_reading() -> None:
    batches = source()
    for index, seed in ((0, 0), (3, 0), (9, 5)):
        batch, again = batches(index, seed), source()(index, seed)
        (inputs, targets), (read_again, _), (fresh, their_targets) = tuple(batch), tuple(batch), tuple(again)
        assert torch.equal(inputs, read_again) and torch.equal(inputs, fresh) and torch.equal(targets, their_targets)
        for image, target in zip(inputs, targets, strict=True):
            which(image, images(20)[int(target)], 2)


def test_batches_of_other_indices_and_seeds_are_augmented_otherwise() -> None:
    batches = source()
    seeds = {batches(index, seed).seed for index in range(20) for seed in range(20)}
    assert len(seeds) == 400


def test_the_order_of_the_examples_is_that_of_the_source_without_augmentation() -> None:
    plain = IndexedBatches(source().examples, 5)
    assert all(torch.equal(source()(index, 2).rows, plain(index, 2).rows) for index in range(8))


def test_students_taken_at_once_have_each_its_own_augmentation() -> None:
    batches = [source()(0, seed) for seed in range(3)]
    assert IndexedBatch.stacked(batches) is None, "one look-up for all would leave the augmentation out"
