"""The paper's multi-layer perceptron (appendix B.1)."""

from torch import Tensor, nn

from l2t_bench.students.activations import activation


class MLP(nn.Module):
    """One hidden layer and a linear output: images (B, ...) of ``inputs`` values -> logits (B, classes)."""

    def __init__(self, inputs: int, hidden: int = 500, classes: int = 10, nonlinearity: str = "relu") -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, classes)
        self.nonlinearity = activation(nonlinearity)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.output(self.nonlinearity(self.hidden(images.flatten(1))))
        return logits
