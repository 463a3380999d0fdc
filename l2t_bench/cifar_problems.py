"""The paper's problems on CIFAR (section 4.1, appendix B.2), and smaller relatives of the two large students.

The optimiser, its lr and when it drops, the batch and the treatment of the images are the paper's. It does not say how
dev is made: 5,000 of the training images, stratified under ``split``. It names no weight decay: there is none.
"""

from dataclasses import dataclass
from typing import Literal

from l2t_bench.convolutional_problems import OfDenseNetBC, OfResNet, OfWideResNet
from l2t_bench.data.checks import ImageForm
from l2t_bench.data.cifar import load_cifar10, load_cifar100
from l2t_bench.data.splits import Arrays
from l2t_bench.problems import ImageProblem


@dataclass(frozen=True)
class Cifar10(ImageProblem):
    """CIFAR-10 from the data root, or its packed copy, which every result then names."""

    batch: int = 128
    train: int = 45_000
    dev: int = 5_000
    stratify: bool = True
    augment: Literal["none", "crop-flip"] = "crop-flip"
    subtract_mean: bool = True
    lr: float = 0.1
    schedule: Literal["constant", "linear", "multistep"] = "multistep"

    def form(self) -> ImageForm:
        return ImageForm(channels=3, size=32, classes=10)

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_cifar10()


@dataclass(frozen=True)
class Cifar100(Cifar10):
    """CIFAR-100 from the data root; s_t has 103 entries and Phi is 100x100."""

    def form(self) -> ImageForm:
        return ImageForm(channels=3, size=32, classes=100)

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_cifar100()


@dataclass(frozen=True)
class Cifar10ResNet8(Cifar10, OfResNet):
    """ResNet-8 (n = 1)."""

    depth = 8


@dataclass(frozen=True)
class Cifar10ResNet20(Cifar10, OfResNet):
    """ResNet-20 (n = 3)."""

    depth = 20


@dataclass(frozen=True)
class Cifar10ResNet32(Cifar10, OfResNet):
    """ResNet-32 (n = 5)."""

    depth = 32


@dataclass(frozen=True)
class Cifar10WRN16x2(Cifar10, OfWideResNet):
    """WRN-16-2, for machines that WRN-40-10 is too large for."""

    depth, width = 16, 2


@dataclass(frozen=True)
class Cifar10WRN40x10(Cifar10, OfWideResNet):
    """WRN-40-10, the paper's."""

    depth, width = 40, 10


@dataclass(frozen=True)
class Cifar10DenseNetBC40x12(Cifar10, OfDenseNetBC):
    """DenseNet-BC of 40 layers and growth rate 12, for machines that the paper's is too large for."""

    depth = 40


@dataclass(frozen=True)
class Cifar10DenseNetBC190x40(Cifar10, OfDenseNetBC):
    """DenseNet-BC of 190 layers and growth rate 40, the paper's."""

    growth: int = 40
    depth = 190


@dataclass(frozen=True)
class Cifar100ResNet8(Cifar100, OfResNet):
    """ResNet-8 (n = 1)."""

    depth = 8


@dataclass(frozen=True)
class Cifar100ResNet20(Cifar100, OfResNet):
    """ResNet-20 (n = 3)."""

    depth = 20


@dataclass(frozen=True)
class Cifar100ResNet32(Cifar100, OfResNet):
    """ResNet-32 (n = 5)."""

    depth = 32
