"""Problems on images of one's own: ``arrays/resnet8[path=FILE.npz,size=32,channels=3,classes=10]``.

The file holds uint8 images and labels (``data/arrays.py``); ``size``, ``channels`` and ``classes`` say what is in it,
and are held against it before the first step. Without a test set in the file, what train and dev leave is the test set.
"""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from l2t_bench.convolutional_problems import OfDenseNetBC, OfResNet, OfWideResNet
from l2t_bench.data.arrays import load_arrays
from l2t_bench.data.checks import ImageForm
from l2t_bench.data.splits import Arrays
from l2t_bench.errors import UserError
from l2t_bench.problems import ImageProblem
from l2t_bench.students.lenet import LeNet
from l2t_bench.students.mlp import MLP


@dataclass(frozen=True)
class OwnArrays(ImageProblem):
    """The images of ``path``; train and dev are stratified, augmentation and mean subtraction are asked for."""

    path: str = ""
    size: int = 32
    channels: int = 3
    classes: int = 10
    stratify: bool = True

    def form(self) -> ImageForm:
        if min(self.size, self.channels) < 1 or self.classes < 2:
            raise UserError(
                "arrays need size and channels of at least 1 and two classes, "
                f"not {self.size}, {self.channels} and {self.classes}"
            )
        return ImageForm(self.channels, self.size, self.classes)

    def load(self) -> tuple[Arrays, Arrays | None]:
        return load_arrays(self.path)


@dataclass(frozen=True)
class ArraysMLP(OwnArrays):
    """One hidden layer."""

    hidden: int = 500

    def student(self) -> nn.Module:
        return MLP(self.channels * self.size**2, self.hidden, self.classes, self.nonlinearity)


@dataclass(frozen=True)
class ArraysLeNet(OwnArrays):
    """LeNet, with padding 2 for images of less than 16 pixels a side."""

    hidden: int = 500
    pool: Literal["max", "average"] = "max"
    filters: int = 20

    def student(self) -> nn.Module:
        shape = (self.size, 0 if self.size >= 16 else 2, self.hidden, self.classes)
        return LeNet(*shape, self.nonlinearity, self.pool, self.channels, self.filters)


@dataclass(frozen=True)
class ArraysResNet8(OwnArrays, OfResNet):
    """ResNet-8."""

    depth = 8


@dataclass(frozen=True)
class ArraysResNet20(OwnArrays, OfResNet):
    """ResNet-20."""

    depth = 20


@dataclass(frozen=True)
class ArraysResNet32(OwnArrays, OfResNet):
    """ResNet-32."""

    depth = 32


@dataclass(frozen=True)
class ArraysWRN16x2(OwnArrays, OfWideResNet):
    """WRN-16-2."""

    depth, width = 16, 2


@dataclass(frozen=True)
class ArraysDenseNetBC40x12(OwnArrays, OfDenseNetBC):
    """DenseNet-BC of 40 layers and growth rate 12."""

    depth = 40
