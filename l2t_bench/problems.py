"""The named problems, made of the public parts: each class's fields are the options of its name.

Train and dev are drawn from the training images in an order shuffled under ``split``; with ``stratify`` class by class
in proportion. MNIST has a test set of its own, the digits' is what is left. Dev is never taken from a test set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from l2t_bench.augmentation import CropFlip
from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.data.checks import ImageForm
from l2t_bench.data.digits import load_digits
from l2t_bench.data.label_noise import Kind, LabelNoise
from l2t_bench.data.mnist import load_mnist
from l2t_bench.data.splits import Arrays, ImageSplits, SplitSizes
from l2t_bench.errors import UserError
from l2t_bench.features import PaperFeatures
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.objectives import ExpectedAccuracy
from l2t_bench.optimizers import SGD, Schedule, linear_decay, multistep
from l2t_bench.problem import TeachingProblem
from l2t_bench.students.lenet import LeNet
from l2t_bench.students.mlp import MLP
from l2t_bench.teachers import AttentionTeacher, StaticTeacher

_CLASSES = 10


@dataclass(frozen=True)
class ImageProblem:
    """The options that all image problems share. The defaults are the paper's where it gives one.

    ``schedule=multistep`` divides the lr by 10 after ``first_drop`` and after ``second_drop`` epochs, an epoch being as
    many whole batches as train holds (appendix B.2). ``augment=crop-flip``: crops from 4 pixels of reflection padding,
    and horizontal flips. ``subtract_mean``: the mean image of train is subtracted, per pixel.
    ``label_noise``: so many of train's labels are wrong, ``noise_rate`` of each class's, drawn under ``split``.
    """

    batch: int = 20
    train: int = 900
    dev: int = 400
    split: int = 0
    stratify: bool = False
    augment: Literal["none", "crop-flip"] = "none"
    subtract_mean: bool = False
    label_noise: Kind = "none"
    noise_rate: float = 0.4
    lr: float = 0.01
    schedule: Literal["constant", "linear", "multistep"] = "constant"
    first_drop: int = 40
    second_drop: int = 60
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    beta: float = 1.0
    features: Literal["paper", "none"] = "paper"
    refresh: int = 20
    train_batches: int = 10
    dev_examples: int = 256
    keys: int = 10
    gain: float = 1.0
    smoothing: float = 0.0
    noise: float = 0.0
    dev_chunk: int = 250
    nonlinearity: Literal["relu", "tanh"] = "relu"
    teacher: Literal["attention", "static"] = "attention"

    def form(self) -> ImageForm:
        """What the images and labels must be."""
        raise NotImplementedError

    def student(self) -> nn.Module:
        raise NotImplementedError

    def load(self) -> tuple[Arrays, Arrays | None]:
        raise NotImplementedError

    def build(self, name: str, device: torch.device, dtype: torch.dtype) -> TeachingProblem:
        """The problem itself, on ``device`` in ``dtype``; no data is read."""
        if self.dev_chunk < 1:
            raise UserError(f"dev_chunk must be at least 1, not {self.dev_chunk}")
        splits = ImageSplits(
            self.load,
            SplitSizes(self.train, self.dev, self.split),
            device,
            dtype,
            form=self.form(),
            stratified=self.stratify,
            subtract_mean=self.subtract_mean,
            label_noise=LabelNoise(self.label_noise, self.noise_rate, self.split),
        )
        paper = PaperFeatures(self.refresh, self.train_batches, self.dev_examples)
        return TeachingProblem(
            student=self.student().to(device=device, dtype=dtype),
            teacher=self._teacher().to(device=device, dtype=dtype),
            loss=bilinear_sigmoid,
            objective=ExpectedAccuracy(self.beta),
            optimizer=SGD(
                lr=self._lr(),
                momentum=self.momentum,
                dampening=self.dampening,
                weight_decay=self.weight_decay,
                nesterov=self.nesterov,
            ),
            train=IndexedBatches(splits.train, self.batch, CropFlip() if self.augment == "crop-flip" else None),
            dev=_chunks(splits.dev, self.dev_chunk),
            test=_chunks(splits.test, self.dev_chunk),
            features=paper if self._measures else None,
            name=name,
        )

    def _lr(self) -> float | Schedule:
        if self.schedule == "linear":
            return linear_decay(self.lr)
        if self.schedule == "constant":
            return self.lr
        if not 0 < self.first_drop <= self.second_drop:
            raise UserError(
                f"lr drops after {self.first_drop} and {self.second_drop} epochs: give them in order, from 1"
            )
        epoch = max(1, self.train // max(1, self.batch))
        return multistep(self.lr, (self.first_drop * epoch, self.second_drop * epoch))

    @property
    def _measures(self) -> bool:
        """Whether s_t is measured: what takes no notice of it need not wait for it."""
        return self.features == "paper" and self.teacher == "attention"

    def _teacher(self) -> nn.Module:
        start = {"gain": self.gain, "smoothing": self.smoothing, "noise": self.noise}
        classes = self.form().classes
        if self.teacher == "static":
            return StaticTeacher(classes, **start)
        return AttentionTeacher(classes, 3 + classes if self.features == "paper" else 1, self.keys, **start)


def _chunks(load: Callable[[], Examples], size: int) -> Callable[[], list[tuple[torch.Tensor, torch.Tensor]]]:
    def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
        inputs, targets = load()
        return list(zip(torch.split(inputs, size), torch.split(targets, size), strict=True))

    return batches


@dataclass(frozen=True)
class DigitsMLP(ImageProblem):
    """scikit-learn's 8x8 digits, an MLP 64-100-10."""

    hidden: int = 100
    size: ClassVar[int] = 8

    def form(self) -> ImageForm:
        return ImageForm(channels=1, size=self.size, classes=_CLASSES)

    def student(self) -> nn.Module:
        return MLP(self.size**2, self.hidden, _CLASSES, self.nonlinearity)

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_digits()


@dataclass(frozen=True)
class DigitsLeNet(ImageProblem):
    """scikit-learn's 8x8 digits, LeNet with padding 2."""

    hidden: int = 500
    pool: Literal["max", "average"] = "max"
    filters: int = 20
    size: ClassVar[int] = 8
    padding: ClassVar[int] = 2

    def form(self) -> ImageForm:
        return ImageForm(channels=1, size=self.size, classes=_CLASSES)

    def student(self) -> nn.Module:
        shape = (self.size, self.padding, self.hidden, _CLASSES)
        return LeNet(*shape, self.nonlinearity, self.pool, filters=self.filters)

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_digits()


@dataclass(frozen=True)
class MnistMLP(DigitsMLP):
    """MNIST from the data root, the paper's MLP 784-500-10, batch 20: 50,000 to train, 10,000 for dev."""

    hidden: int = 500
    train: int = 50_000
    dev: int = 10_000
    stratify: bool = True
    size = 28

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_mnist()


@dataclass(frozen=True)
class MnistLeNet(DigitsLeNet):
    """MNIST from the data root, the paper's LeNet, batch 500: 50,000 to train, 10,000 for dev."""

    batch: int = 500
    train: int = 50_000
    dev: int = 10_000
    stratify: bool = True
    size = 28
    padding = 0

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_mnist()
