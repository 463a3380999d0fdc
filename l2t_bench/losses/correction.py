"""A loss that knows how the labels were spoilt: what a learned one should be held against."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from l2t_bench.data.label_noise import LabelNoise, transition
from l2t_bench.losses.contract import OfLogits, at_label, check_batch


@dataclass(frozen=True)
class ForwardCorrection(OfLogits):
    """-log P(label), P(label j) = sum_i p(i) T[i, j], T the true transition matrix (Patrini et al. 2017, Theorem 2).

    Logits (B, C), target (B,) class indices, which may be wrong; a scalar, in nats. At rate 0 it is cross entropy.

    Raises ``UserError`` for a rate outside [0, 1), for shapes that do not fit and (on a CPU) labels out of range.
    """

    noise: Literal["pair-flip", "symmetric"] = "symmetric"
    rate: float = 0.4

    def __post_init__(self) -> None:
        LabelNoise(self.noise, self.rate)

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        check_batch(output, target)
        given = transition(self.noise, self.rate, output.shape[-1])
        log_transition = torch.from_numpy(given).to(output).log()
        # Of a label, over the classes that it may come from; log 0 is minus infinity, and counts for nothing.
        log_p = torch.log_softmax(output, dim=-1)
        at_label(log_p, target)  # raises for labels out of range
        to_label = log_transition.T[target.long()]
        shown = torch.where(to_label.isinf(), torch.finfo(output.dtype).min, log_p + to_label)
        return -torch.logsumexp(shown, dim=-1).mean()
