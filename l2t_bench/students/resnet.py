"""ResNet in its form for CIFAR (He et al. 2016, "Deep residual learning", section 4.2; the paper's appendix B.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.students.activations import activation
from l2t_bench.students.convolution import Convolution


class ResNet(nn.Module):
    """Images (B, channels, S, S) -> logits (B, classes): ``depth`` = 6n + 2 weighted layers.

    A 3x3 convolution, then n blocks of two 3x3 convolutions at each of ``filters``, 2 ``filters`` and 4 ``filters``
    maps, the image halved between them; global average pooling and a linear layer. BatchNorm follows each convolution.
    Shortcuts are identities without parameters; where the shape changes, every other pixel, zeros in the new maps
    (option A). ``filters`` is 16 in the paper.

    Raises ``UserError`` for another depth, no filters, or an unknown nonlinearity.
    """

    def __init__(
        self, depth: int, classes: int = 10, channels: int = 3, filters: int = 16, nonlinearity: str = "relu"
    ) -> None:
        super().__init__()
        blocks, left = divmod(depth - 2, 6)
        if blocks < 1 or left:
            raise UserError(f"a ResNet for CIFAR has 6n + 2 layers (8, 14, 20, ...), not {depth}")
        if filters < 1:
            raise UserError(f"a ResNet must have at least one filter, not {filters}")
        self.stem, self.stem_norm = Convolution(channels, filters), nn.BatchNorm2d(filters)
        body, before = [], filters
        for stage in range(3):
            after = filters * 2**stage
            for block in range(blocks):
                body.append(ResidualBlock(before, after, 2 if stage and not block else 1, nonlinearity))
                before = after
        self.blocks = nn.ModuleList(body)
        self.output = nn.Linear(before, classes)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.nonlinearity(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.output(maps.mean((2, 3)))
        return logits


class ResidualBlock(nn.Module):
    """Maps (B, before, S, S) -> (B, after, S / stride, S / stride): nonlinearity(shortcut + two convolutions)."""

    def __init__(self, before: int, after: int, stride: int, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.stride, self.added = stride, after - before
        self.first, self.first_norm = Convolution(before, after, stride=stride), nn.BatchNorm2d(after)
        self.second, self.second_norm = Convolution(after, after), nn.BatchNorm2d(after)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second_norm(self.second(self.nonlinearity(self.first_norm(self.first(maps)))))
        result: Tensor = self.nonlinearity(inner + self.shortcut(maps))
        return result

    def shortcut(self, maps: Tensor) -> Tensor:
        """Option A: the maps at every ``stride``-th pixel, with maps of zeros before and behind them."""
        if self.stride == 1 and not self.added:
            return maps
        before = self.added // 2
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))
