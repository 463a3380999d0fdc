"""The paper's LeNet (appendix B.1): two convolutions with pooling, one hidden layer of 500."""

from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.students.activations import activation, pooling


class LeNet(nn.Module):
    """Images (B, channels, S, S) -> logits (B, classes). 5x5 convolutions of 20 and 50 filters, each with 2x2 pooling.

    ``filters``: of the first convolution, the paper's 20; the second has two and a half times as many, rounded down.

    ``padding`` is 0 for 28x28 images (28 -> 24 -> 12 -> 8 -> 4, 800 inputs to the hidden layer) and 2 for 8x8 ones
    (8 -> 4 -> 2, 200 inputs). ``pool``: ``max`` as in the paper, or ``average`` for a smooth student.

    Raises ``UserError`` for images that are too small, no filter or hidden unit, an unknown nonlinearity or pool.
    """

    def __init__(
        self,
        size: int,
        padding: int = 0,
        hidden: int = 500,
        classes: int = 10,
        nonlinearity: str = "relu",
        pool: str = "max",
        channels: int = 1,
        filters: int = 20,
    ) -> None:
        super().__init__()
        after = ((size - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2
        if after < 1:
            raise UserError(f"images of {size}x{size} are too small for LeNet with padding {padding}")
        if hidden < 1:
            raise UserError(f"the hidden layer must have at least one unit, not {hidden}")
        if filters < 1:
            raise UserError(f"a LeNet must have at least one filter, not {filters}")
        second = 5 * filters // 2
        self.first = nn.Conv2d(channels, filters, 5, padding=padding)
        self.second = nn.Conv2d(filters, second, 5, padding=padding)
        self.hidden = nn.Linear(second * after * after, hidden)
        self.output = nn.Linear(hidden, classes)
        self.nonlinearity = activation(nonlinearity)
        self.pool = pooling(pool)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(self.nonlinearity(self.first(images)))
        maps = self.pool(self.nonlinearity(self.second(maps)))
        logits: Tensor = self.output(self.nonlinearity(self.hidden(maps.flatten(1))))
        return logits
