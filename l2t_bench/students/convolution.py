"""Convolutions of the paper's image students, started as their authors start them."""

from torch import nn


class Convolution(nn.Conv2d):
    """A square convolution without bias that keeps the image's size at stride 1; BatchNorm follows or precedes it.

    Its weights start at normal numbers of variance 2 / (kernel^2 * filters): He et al. 2015 ("Delving deep into
    rectifiers", section 2.2, the backward case), which ResNet, Wide-ResNet and DenseNet take.
    """

    def __init__(self, channels: int, filters: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(channels, filters, kernel, stride, padding=kernel // 2, bias=False)

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
