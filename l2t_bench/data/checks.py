"""Images and labels held to what a problem says of them, before anything is trained on them."""

from typing import NamedTuple

import numpy as np

from l2t_bench.errors import UserError


class ImageForm(NamedTuple):
    """What a problem says of its images: (channels, size, size), and labels 0 .. classes - 1."""

    channels: int
    size: int
    classes: int


def check_arrays(images: np.ndarray, labels: np.ndarray, form: ImageForm, what: str) -> None:
    """Raises ``UserError`` unless ``images`` are (N, C, S, S) of ``form`` and ``labels`` (N,) name its classes.

    Images are uint8, or floats in which every number is finite. ``what`` says in a message whose images they are.
    """
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise UserError(f"{what}: images must be uint8, not {images.dtype}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{what}: labels must be whole numbers, not {labels.dtype}")
    if labels.ndim != 1 or images.ndim != 4 or len(images) != len(labels):
        raise UserError(f"{what}: images of shape {images.shape} do not fit labels of shape {labels.shape}")
    if not len(images):
        raise UserError(f"{what}: there is no image")
    if images.shape[1:] != (form.channels, form.size, form.size):
        _, channels, height, width = images.shape
        raise UserError(
            f"{what}: images of {height}x{width} with {channels} channels, where the problem has "
            f"{form.size}x{form.size} with {form.channels}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= form.classes:
        raise UserError(
            f"{what}: labels from {low} to {high}, where {form.classes} classes are 0 to {form.classes - 1}"
        )
    if images.dtype != np.uint8 and not np.isfinite(images).all():
        raise UserError(f"{what}: images hold numbers that are not finite")


def check_dev(labels: np.ndarray, classes: int) -> None:
    """Raises ``UserError`` where dev lacks a class: its precision, a feature of the teacher's, would mean nothing."""
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if len(missing):
        named = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise UserError(
            f"dev has {len(labels)} examples and none of class {named}: take a larger dev, or data with every class"
        )
