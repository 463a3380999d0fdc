"""The paper's multi-layer perceptron (appendix B.1)."""

from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.students.activations import activation


class MLP(nn.Module):
    """One hidden layer and a linear output: images (B, ...) of ``inputs`` values -> logits (B, classes).

    Raises ``UserError`` for an empty hidden layer or an unknown nonlinearity.
    """

    def __init__(self, inputs: int, hidden: int = 500, classes: int = 10, nonlinearity: str = "relu") -> None:
        super().__init__()
        if hidden < 1:
            raise UserError(f"the hidden layer must have at least one unit, not {hidden}")
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, classes)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(self.nonlinearity(self.hidden(images.flatten(1))))
        return logits
