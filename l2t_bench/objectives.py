"""The smoothed dev measures that a teacher maximises (paper, section 3.3)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.errors import UserError


@dataclass(frozen=True)
class ExpectedAccuracy:
    """Mean over the examples of softmax(beta * logits)[y]: the expected 0-1 accuracy of a sampled prediction.

    ``beta`` = 1 is the paper's relaxation. It rewards confidence beside accuracy; ``beta`` from 2 to 4 comes nearer to
    accuracy itself, and is a departure from the paper that a result must state.
    """

    beta: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise UserError(f"beta must be positive, not {self.beta!r}")

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        return torch.softmax(self.beta * logits, dim=-1).gather(-1, target[:, None]).mean()


def accuracy(logits: Tensor, target: Tensor) -> float:
    """The 0-1 accuracy, which has no derivative: what is reported, not what is maximised."""
    return float((logits.argmax(dim=-1) == target).double().mean())
