"""Losses of a sequence, word by word: the learned one of section 4.2, and cross entropy with teacher forcing."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from l2t_bench.data.specials import PAD
from l2t_bench.errors import UserError
from l2t_bench.losses.contract import OfLogits


def word_log_p(logits: Tensor, words: Tensor) -> Tensor:
    """log p of each word: logits (..., R, V), words (..., R) -> (..., R); nothing is as large as the logits but they.

    Raises ``UserError`` for shapes that do not fit.
    """
    if logits.shape[:-1] != words.shape:
        raise UserError(f"logits {tuple(logits.shape)} must be of the shape of the words {tuple(words.shape)}, and V")
    return logits.gather(-1, words[..., None]).squeeze(-1) - torch.logsumexp(logits, dim=-1)


def diagonal_sigmoid(logits: Tensor, target: Tensor, phi: Tensor) -> Tensor:
    """Mean over the sentences of -sum_r sigma(Phi[y_r] log p(y_r | x, y_<r)) (section 4.2); padding does not count.

    Logits (B, R, V), target (B, R) words, phi (V,): the diagonal alone. A scalar.
    """
    taught = torch.sigmoid(phi[target] * word_log_p(logits, target))
    return -taught.masked_fill(target == PAD, 0).sum(-1).mean()


@dataclass(frozen=True)
class WordCrossEntropy(OfLogits):
    """Mean over the sentences of -sum_r log p(y_r | x, y_<r), in nats: maximum likelihood with teacher forcing.

    Logits (B, R, V), target (B, R) words; padding does not count. Raises ``UserError`` for shapes that do not fit.
    """

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        return -word_log_p(output, target).masked_fill(target == PAD, 0).sum(-1).mean()
