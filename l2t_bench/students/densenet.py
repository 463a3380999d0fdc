"""DenseNet-BC (Huang et al. 2017, "Densely connected convolutional networks", section 3; the paper's appendix B.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.students.activations import activation
from l2t_bench.students.convolution import Convolution


class DenseNetBC(nn.Module):
    """Images (B, channels, S, S) -> logits (B, classes): DenseNet-BC of ``depth`` = 6n + 4 and growth rate ``growth``.

    A 3x3 convolution of 2 ``growth`` maps, then three blocks of n layers; a layer is a 1x1 convolution to 4 ``growth``
    maps (bottleneck) and a 3x3 one to ``growth`` maps, which join its input's. Between blocks a 1x1 convolution keeps
    half of the maps (compression 0.5) and 2x2 average pooling halves the image. BatchNorm and the nonlinearity precede
    each convolution but the first. No dropout.

    Raises ``UserError`` for another depth, no growth, or an unknown nonlinearity.
    """

    def __init__(
        self, depth: int, growth: int, classes: int = 10, channels: int = 3, nonlinearity: str = "relu"
    ) -> None:
        super().__init__()
        layers, left = divmod(depth - 4, 6)
        if layers < 1 or left:
            raise UserError(f"a DenseNet-BC has 6n + 4 layers (10, 16, 22, ...), not {depth}")
        if growth < 1:
            raise UserError(f"the growth rate must be at least 1, not {growth}")
        maps = 2 * growth
        self.stem = Convolution(channels, maps)
        body: list[nn.Module] = []
        for block in range(3):
            if block:
                body.append(Transition(maps, maps // 2, nonlinearity))
                maps //= 2
            for _ in range(layers):
                body.append(DenseLayer(maps, growth, nonlinearity))
                maps += growth
        self.body = nn.ModuleList(body)
        self.norm = nn.BatchNorm2d(maps)
        self.output = nn.Linear(maps, classes)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for part in self.body:
            maps = part(maps)
        logits: Tensor = self.output(self.nonlinearity(self.norm(maps)).mean((2, 3)))
        return logits


class DenseLayer(nn.Module):
    """Maps (B, M, S, S) -> (B, M + growth, S, S): the input's, and ``growth`` new ones behind them."""

    def __init__(self, maps: int, growth: int, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.first_norm, self.first = nn.BatchNorm2d(maps), Convolution(maps, 4 * growth, kernel=1)
        self.second_norm, self.second = nn.BatchNorm2d(4 * growth), Convolution(4 * growth, growth)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, maps: Tensor) -> Tensor:
        narrow = self.first(self.nonlinearity(self.first_norm(maps)))
        return torch.cat([maps, self.second(self.nonlinearity(self.second_norm(narrow)))], dim=1)


class Transition(nn.Module):
    """Maps (B, before, S, S) -> (B, after, S / 2, S / 2)."""

    def __init__(self, before: int, after: int, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.norm, self.convolution = nn.BatchNorm2d(before), Convolution(before, after, kernel=1)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, maps: Tensor) -> Tensor:
        return F.avg_pool2d(self.convolution(self.nonlinearity(self.norm(maps))), 2)
