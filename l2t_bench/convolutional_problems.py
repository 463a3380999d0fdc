"""What the problems of one convolutional student share, whatever their images are."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from l2t_bench.problems import ImageProblem
from l2t_bench.students.densenet import DenseNetBC
from l2t_bench.students.resnet import ResNet
from l2t_bench.students.wide_resnet import WideResNet


@dataclass(frozen=True)
class OfResNet(ImageProblem):
    """A ResNet of ``depth`` layers. ``filters`` other than 16 make another student than the name says."""

    filters: int = 16
    depth: ClassVar[int]

    def student(self) -> nn.Module:
        form = self.form()
        return ResNet(self.depth, form.classes, form.channels, self.filters, self.nonlinearity)


@dataclass(frozen=True)
class OfWideResNet(ImageProblem):
    """A WRN-``depth``-``width``. ``filters`` other than 16 make another student than the name says."""

    filters: int = 16
    depth: ClassVar[int]
    width: ClassVar[int]

    def student(self) -> nn.Module:
        form = self.form()
        return WideResNet(self.depth, self.width, form.classes, form.channels, self.filters, self.nonlinearity)


@dataclass(frozen=True)
class OfDenseNetBC(ImageProblem):
    """A DenseNet-BC of ``depth`` layers. Another ``growth`` makes another student than the name says."""

    growth: int = 12
    depth: ClassVar[int]

    def student(self) -> nn.Module:
        form = self.form()
        return DenseNetBC(self.depth, self.growth, form.classes, form.channels, self.nonlinearity)
