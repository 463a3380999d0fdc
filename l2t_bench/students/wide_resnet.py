"""Wide ResNet (Zagoruyko and Komodakis 2016, "Wide residual networks"; the paper's appendix B.2)."""

from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.students.activations import activation
from l2t_bench.students.convolution import Convolution


class WideResNet(nn.Module):
    """Images (B, channels, S, S) -> logits (B, classes): WRN-``depth``-``width``, ``depth`` = 6n + 4.

    A 3x3 convolution of ``filters`` maps, then n blocks at each of 1, 2 and 4 times ``width * filters`` maps, the image
    halved between them; BatchNorm, global average pooling and a linear layer. Blocks are BatchNorm, nonlinearity,
    convolution, twice; a shortcut is the identity, or a 1x1 convolution where the shape changes. No dropout.
    ``filters`` is 16 in the publication.

    Raises ``UserError`` for another depth, no width or filters, or an unknown nonlinearity.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        classes: int = 10,
        channels: int = 3,
        filters: int = 16,
        nonlinearity: str = "relu",
    ) -> None:
        super().__init__()
        blocks, left = divmod(depth - 4, 6)
        if blocks < 1 or left:
            raise UserError(f"a Wide ResNet has 6n + 4 layers (10, 16, 22, ...), not {depth}")
        if min(width, filters) < 1:
            raise UserError(f"width and filters of a Wide ResNet must be at least 1, not {width} and {filters}")
        self.stem = Convolution(channels, filters)
        body, before = [], filters
        for stage in range(3):
            after = filters * width * 2**stage
            for block in range(blocks):
                body.append(WideBlock(before, after, 2 if stage and not block else 1, nonlinearity))
                before = after
        self.blocks = nn.ModuleList(body)
        self.norm = nn.BatchNorm2d(before)
        self.output = nn.Linear(before, classes)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.output(self.nonlinearity(self.norm(maps)).mean((2, 3)))
        return logits


class WideBlock(nn.Module):
    """Maps (B, before, S, S) -> (B, after, S / stride, S / stride), normalised before each convolution.

    A 1x1 shortcut takes the normalised maps, as in the authors' code.
    """

    def __init__(self, before: int, after: int, stride: int, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.first_norm, self.first = nn.BatchNorm2d(before), Convolution(before, after, stride=stride)
        self.second_norm, self.second = nn.BatchNorm2d(after), Convolution(after, after)
        same = before == after and stride == 1
        self.projection = None if same else Convolution(before, after, kernel=1, stride=stride)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, maps: Tensor) -> Tensor:
        ready = self.nonlinearity(self.first_norm(maps))
        inner: Tensor = self.second(self.nonlinearity(self.second_norm(self.first(ready))))
        return inner + (maps if self.projection is None else self.projection(ready))
