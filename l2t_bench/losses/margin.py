"""Large-margin softmax (Liu et al. 2016): the angle between the last layer's input and the right class, times m.

It needs more than logits: |w_c| |x| of the last layer. ``MarginLinear`` in the place of a student's last layer tells
both in training and plain logits in eval mode, so that the dev objective, predictions and features see nothing new.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.losses.contract import at_label, check_batch

_SQUARED_NORM_FLOOR = 1e-12  # an input of zeros, as ReLU can give, has no angle; the root there no derivative


class AngularLogits(NamedTuple):
    """What the last layer tells in training: w_c.x and |w_c| |x|, both of shape (B, C)."""

    logits: Tensor
    norms: Tensor


class MarginLinear(nn.Linear):
    """A linear layer without bias, as Liu et al.'s: ``AngularLogits`` in training, logits (B, C) in eval mode."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, bias=False)

    def forward(self, inputs: Tensor) -> Any:
        logits = super().forward(inputs)
        return AngularLogits(logits, _norm(inputs)[:, None] * _norm(self.weight)) if self.training else logits


def _norm(rows: Tensor) -> Tensor:
    return (rows.square().sum(dim=-1) + _SQUARED_NORM_FLOOR).sqrt()


def with_margin_layer(student: nn.Module) -> nn.Module:
    """A copy of ``student`` whose last ``nn.Linear`` is a ``MarginLinear`` of the same weight, without its bias.

    Raises ``UserError`` for a student that has no ``nn.Linear``. The loss refuses a student that does not hand out what
    that layer tells.
    """
    made = copy.deepcopy(student)
    linear = [(name, layer) for name, layer in made.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise UserError(
            f"large-margin needs a student whose last layer is nn.Linear; {type(student).__name__} has none"
        )
    name, last = linear[-1]
    layer = MarginLinear(last.in_features, last.out_features).to(last.weight).train(last.training)
    layer.weight = last.weight
    if not name:
        return layer
    parent, _, attribute = name.rpartition(".")
    setattr(made.get_submodule(parent), attribute, layer)
    return made


def psi(cosine: Tensor, m: int) -> Tensor:
    """(-1)^k cos(m theta) - 2k for theta in [k pi/m, (k+1) pi/m] (Liu et al., Eq. 6), of cos theta; any shape.

    cos(m theta) is the Chebyshev polynomial T_m of cos theta (their binomial expansion, in another order), by its
    recurrence: no arccos, whose derivative is infinite at theta = 0 and pi. k counts the cos(j pi/m), j = 1 ... m-1,
    that cos theta does not exceed; it is a constant of the differentiation. psi and its first derivative are continuous
    where k changes; the second one jumps.
    """
    before, chebyshev = torch.ones_like(cosine), cosine
    for _ in range(m - 1):
        before, chebyshev = chebyshev, 2 * cosine * chebyshev - before
    k = torch.zeros_like(cosine)
    for j in range(1, m):
        k = k + (cosine.detach() <= math.cos(j * math.pi / m))
    return (1 - 2 * (k % 2)) * chebyshev - 2 * k


@dataclass(frozen=True)
class LargeMargin:
    """Large-margin softmax (Liu et al. 2016, Eq. 4 to 6; the paper's third loss, section 4.1).

    Cross entropy of logits where the right class has |w_y| |x| psi(theta_y) in the place of |w_y| |x| cos theta_y,
    psi(theta) <= cos theta: to be right, the angle must be m times smaller. It is hard to train from the start, so the
    two are mixed, as they do: f_y = (lambda |w_y||x| cos theta + |w_y||x| psi(theta)) / (1 + lambda), with

        lambda_t = max(floor, start * (1 + decay * t/T)^(-power)).

    t/T is read from phi, the s_t of a problem without ``features`` (as ``with_fixed_loss`` makes it): so a step replays
    as it was, and nothing counts calls. Where phi is ``None`` lambda is the ``floor``. The form of the schedule is that
    of the authors' code (base, gamma, power and lambda_min, by the step's number), by t/T here; its constants are
    assumed (the paper gives none): from 1000 at the start to the floor of 5 after a fifth of the run. A floor of 0 asks
    for the whole margin by the end, and a run of a few hundred steps does not get there: MLP students of 300 digits
    stay at 0.7 to 0.8 on dev with margin 4, where 0.95 are reached with the floor.
    ``margin`` 1 is cross entropy of a student without bias in its last layer; 4 is what Liu et al. find best on CIFAR.

    Output: ``AngularLogits`` in training; plain logits, as in eval mode, are refused. Target (B,) class indices; a
    scalar, in nats.

    Raises ``UserError`` for a margin that is no positive integer, a schedule of negative or infinite numbers, a student
    without a ``MarginLinear`` last, shapes that do not fit and (on a CPU) labels out of range.
    """

    margin: int = 4
    start: float = 1000.0
    decay: float = 9.0
    power: float = 5.0
    floor: float = 5.0

    def __post_init__(self) -> None:
        if isinstance(self.margin, bool) or not isinstance(self.margin, int) or self.margin < 1:
            raise UserError(f"large-margin: margin must be a positive integer, not {self.margin!r}")
        for name in ("start", "decay", "power", "floor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"large-margin: {name} must be a finite number from 0 on, not {getattr(self, name)!r}")

    def student(self, student: nn.Module) -> nn.Module:
        """A copy of ``student`` whose last layer is a ``MarginLinear``: ``with_margin_layer``."""
        return with_margin_layer(student)

    def mixing(self, progress: Tensor) -> Tensor:
        """lambda at ``progress`` = t/T, a tensor of any shape."""
        return (self.start * (1 + self.decay * progress) ** -self.power).clamp(min=self.floor)

    def _mixing_of(self, phi: Any) -> Tensor | float:
        if phi is None:
            return self.floor
        if not isinstance(phi, Tensor) or phi.numel() != 1:
            raise UserError("large-margin reads t/T from phi, a single number: train by with_fixed_loss")
        return self.mixing(phi.reshape(()))

    def __call__(self, output: Any, target: Tensor, phi: Any = None) -> Tensor:
        if not isinstance(output, AngularLogits):
            raise UserError(
                "large-margin needs what a MarginLinear as the student's last layer tells in training, not "
                f"{type(output).__name__}: train the student that LargeMargin().student(student) makes"
            )
        check_batch(output.logits, target)
        plain, norms = at_label(output.logits, target), at_label(output.norms, target)
        weight = self._mixing_of(phi)
        widened = (weight * plain + norms * psi(plain / norms, self.margin)) / (1 + weight)
        right = torch.arange(output.logits.shape[-1], device=target.device) == target[:, None]
        log_p = torch.log_softmax(torch.where(right, widened[:, None], output.logits), dim=-1)
        return -at_label(log_p, target).mean()
