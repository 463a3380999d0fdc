"""Augmentation of training images on their device, a pure function of the images and a seed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.errors import UserError


@dataclass(frozen=True)
class CropFlip:
    """A random crop out of the image padded by reflection, and a horizontal flip of every other one (appendix B.2).

    Each side gets ``padding`` pixels, mirrored at the border pixel (which is not repeated, as in ``F.pad``'s
    ``reflect``); the crop has the image's size, every position being equally likely.

    ``augment(images, seed)``: images (B, C, S, S) -> the same shape, device and dtype. The draws are the same on every
    device, and torch's global generators are neither read nor moved. Raises ``UserError`` for a negative padding and
    for images that are not larger than it.
    """

    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise UserError(f"the padding of an augmentation must not be negative, not {self.padding}")

    def __call__(self, images: Tensor, seed: int) -> Tensor:
        count, channels, height, width = images.shape
        if min(height, width) <= self.padding:
            raise UserError(f"images of {height}x{width} cannot be reflected over {self.padding} pixels")
        generator = torch.Generator().manual_seed(seed)
        shifts = torch.randint(2 * self.padding + 1, (2, count), generator=generator) - self.padding
        flipped = torch.randint(2, (count, 1), generator=generator).bool()
        rows = _mirrored(shifts[0, :, None] + torch.arange(height), height)
        columns = _mirrored(shifts[1, :, None] + torch.arange(width), width)
        columns = torch.where(flipped, columns.flip(1), columns)
        # one look-up in the images as they are: no padded copy is made
        index = (
            torch.arange(count)[:, None, None, None],
            torch.arange(channels)[None, :, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        )
        return images[tuple(part.to(images.device) for part in index)]


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Positions from -size + 1 to 2 size - 2 as positions in an image of ``size`` pixels."""
    last = size - 1
    return last - (last - positions.abs()).abs()
