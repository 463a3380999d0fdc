"""Today's usual fixed losses for classification: cross entropy, label smoothing, focal loss. They ignore phi."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.errors import UserError
from l2t_bench.losses.contract import OfLogits, at_label, check_batch, check_rivals, rivals


def cross_entropy(logits: Tensor, target: Tensor, phi: Any = None) -> Tensor:
    """Mean of -log p(y): logits (B, C), target (B,) class indices; a scalar, in nats.

    Raises ``UserError`` for shapes that do not fit, and (on a CPU) for labels out of range.
    """
    del phi
    check_batch(logits, target)
    return -at_label(torch.log_softmax(logits, dim=-1), target).mean()


@dataclass(frozen=True)
class CrossEntropy(OfLogits):
    """Cross entropy, the paper's first baseline (section 4.1): ``cross_entropy``."""

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        return cross_entropy(output, target, phi)


@dataclass(frozen=True)
class LabelSmoothing(OfLogits):
    """Cross entropy against (1 - smoothing) * onehot(y) + smoothing / C (Szegedy et al. 2016, section 7).

    Logits (B, C), target (B,) class indices; a scalar, in nats. With smoothing 0 it is cross entropy.

    Raises ``UserError`` for a smoothing outside [0, 1), for shapes that do not fit and (on a CPU) labels out of range.
    """

    smoothing: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise UserError(f"label-smoothing: smoothing must be in [0, 1), not {self.smoothing!r}")

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        check_batch(output, target)
        log_p = torch.log_softmax(output, dim=-1)
        return -((1 - self.smoothing) * at_label(log_p, target) + self.smoothing * log_p.mean(dim=-1)).mean()


@dataclass(frozen=True)
class Focal(OfLogits):
    """Focal loss, mean of -(1 - p(y))^gamma log p(y) (Lin et al. 2017, Eq. 4), without their weights of classes.

    Logits (B, C), target (B,) class indices; a scalar, in nats. With gamma 0 it is cross entropy.

    1 - p(y) is taken as exp of log sum of the other classes' p: where p(y) rounds to 1, a power of the difference would
    have an infinite derivative for gamma < 1, and times log p(y) = 0 that is no number.

    Raises ``UserError`` for a gamma that is negative or infinite, for a single class, for shapes that do not fit and
    (on a CPU) labels out of range.
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise UserError(f"focal: gamma must be a finite number from 0 on, not {self.gamma!r}")

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        check_batch(output, target)
        check_rivals(output)
        log_p = torch.log_softmax(output, dim=-1)
        log_others = torch.logsumexp(rivals(log_p, target), dim=-1)  # log(1 - p(y))
        return -(torch.exp(self.gamma * log_others) * at_label(log_p, target)).mean()
