"""The smooth 0-1 loss of section 4.1, in the form that the paper writes and in the one that it describes."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional

from l2t_bench.errors import UserError
from l2t_bench.losses.contract import OfLogits, at_label, check_batch, check_rivals, rivals


def margin(logits: Tensor, target: Tensor) -> Tensor:
    """log p(y) - max over y* != y of log p(y*), of shape (B,): logits (B, C), target (B,) class indices.

    The normaliser of softmax falls out of the difference, so logits do as they are. An example is right where its
    margin is positive. Raises ``UserError`` for shapes that do not fit, a single class and (on a CPU) labels out of
    range.
    """
    check_batch(logits, target)
    check_rivals(logits)
    return at_label(logits, target) - rivals(logits, target).amax(dim=-1)


@dataclass(frozen=True)
class Smooth01(OfLogits):
    """A smooth version of the 0-1 error by the margin m of each example (Nguyen and Sanner 2013; paper, section 4.1).

    ``form=log`` is the paper's L_smooth, the mean of -log sigma(K m). It does not tend to what the paper says. With
    -log sigma(z) = log(1 + exp(-z)), K -> infinity takes it to 0 where m > 0, but to infinity where m < 0 and to log 2
    where m = 0: as (1/K) log(1 + exp(-K m)) -> max(0, -m), it is K times the hinge at zero (perceptron) loss, not the
    0-1 error.

    ``form=error`` is the mean of 1 - sigma(K m) = sigma(-K m), which does: to 0 where m > 0, to 1 where m < 0, to 1/2
    for a tie. Its gradient is at most K/4 in m and vanishes far from m = 0 on both sides, also where an example is
    wrong: with a large K a student at its start is hardly taught.

    Logits (B, C), target (B,) class indices; a scalar: nats for ``log``, a rate of errors in [0, 1] for ``error``.
    K = 50 is the paper's, chosen on dev; ``log`` has a gradient of up to K times cross entropy's and wants an lr that
    is as much smaller.

    Raises ``UserError`` for a K that is not positive and finite, an unknown form, a single class, shapes that do not
    fit and (on a CPU) labels out of range.
    """

    k: float = 50.0
    form: Literal["log", "error"] = "log"

    def __post_init__(self) -> None:
        if not 0 < self.k < math.inf:
            raise UserError(f"smooth01: k must be positive, not {self.k!r}")
        if self.form not in ("log", "error"):
            raise UserError(f"smooth01: form must be log or error, not {self.form!r}")

    def __call__(self, output: Tensor, target: Tensor, phi: Any = None) -> Tensor:
        del phi
        scaled = self.k * margin(output, target)
        # sigmoid(-z) and not 1 - sigmoid(z), which is 0 to float32 from z = 17 on
        return -functional.logsigmoid(scaled).mean() if self.form == "log" else (-scaled).sigmoid().mean()
