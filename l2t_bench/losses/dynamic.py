"""The loss whose coefficients the teacher outputs (paper, section 4.1 and figure 2)."""

import torch
from torch import Tensor


def bilinear_sigmoid(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
    """Mean of -sigma(y' Phi log p): logits (B, C), target (B,) class indices, phi (C, C); a scalar.

    With Phi = c*I its gradient by the logits is c*sigma'(c log p_y) times that of cross entropy: bounded, and small
    where p_y is small.
    """
    weighted = (phi[target] * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
    return -torch.sigmoid(weighted).mean()
