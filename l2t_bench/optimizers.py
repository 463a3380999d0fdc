"""The student's optimisers as pure step functions, each with the adjoint of its own step.

Parameters, gradients and adjoints are dicts of tensors with the keys of ``student.named_parameters()``.
The semantics are those of ``torch.optim`` with ``zero_grad(set_to_none=False)``: a parameter that the loss of a step
does not reach has a gradient of zeros there (it still decays and still moves by its momentum), because that is the
derivative of the loss, and the only rule that every library here can follow.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from l2t_bench.errors import UserError

Tensors = Mapping[str, Tensor]
TensorDict = dict[str, Tensor]
Schedule = Callable[[int, int], float]
"""(index, horizon) -> learning rate of step ``index``, 0 <= index < horizon."""


@dataclass(frozen=True)
class Adjoint:
    """Derivatives of the teacher's objective: by the parameters, and by the momentum buffers."""

    params: TensorDict
    momentum: TensorDict


@runtime_checkable
class Optimizer(Protocol):
    """A student's optimiser: how one step is taken, and how an adjoint is pulled back through that step."""

    def lr_at(self, index: int, horizon: int) -> float:
        """The learning rate eta_t of step ``index`` in a run of ``horizon`` steps."""

    def step(
        self, params: Tensors, gradients: Tensors, momentum: Tensors | None, lr: float
    ) -> tuple[TensorDict, TensorDict | None]:
        """One step: the new parameters and the new momentum buffers (``None`` before the first step)."""

    def pull_back(self, adjoint: Adjoint, lr: float, *, first: bool) -> tuple[TensorDict, Adjoint]:
        """The adjoint through one step: the adjoint of the loss gradient, and of the parameters and momentum before.

        The caller adds ``[d2L/domega2] g_bar`` to the parameters' adjoint returned here.
        """


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with torch's semantics: momentum, dampening, weight decay, Nesterov, lr schedules.

    ``lr`` is a number or a schedule ``(index, horizon) -> float``. Raises ``UserError`` for values that
    ``torch.optim.SGD`` would not take.
    """

    lr: float | Schedule
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not callable(self.lr) and not 0 < self.lr < math.inf:
            raise UserError(f"lr must be a positive number or a schedule, not {self.lr!r}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be in [0, 1), not {self.momentum!r}")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"weight_decay must not be negative, not {self.weight_decay!r}")
        if not math.isfinite(self.dampening):
            raise UserError(f"dampening must be a finite number, not {self.dampening!r}")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise UserError("Nesterov momentum needs momentum > 0 and dampening = 0")

    def lr_at(self, index: int, horizon: int) -> float:
        return float(self.lr(index, horizon)) if callable(self.lr) else float(self.lr)

    def step(
        self, params: Tensors, gradients: Tensors, momentum: Tensors | None, lr: float
    ) -> tuple[TensorDict, TensorDict | None]:
        decayed = {name: self._decayed(params[name], gradient) for name, gradient in gradients.items()}
        if self.momentum == 0:
            return {name: params[name] - lr * decayed[name] for name in params}, None
        if momentum is None:  # torch's first-step rule: b_1 = g, undamped
            buffers = dict(decayed)
        else:
            buffers = {name: momentum[name] * self.momentum + (1 - self.dampening) * decayed[name] for name in decayed}
        if self.nesterov:
            directions = {name: decayed[name] + self.momentum * buffers[name] for name in decayed}
        else:
            directions = buffers
        return {name: params[name] - lr * directions[name] for name in params}, buffers

    def pull_back(self, adjoint: Adjoint, lr: float, *, first: bool) -> tuple[TensorDict, Adjoint]:
        """MATHS: heavy ball, Nesterov and plain SGD; with no momentum this is the paper's Eq. 4 and 5."""
        w_bar, b_bar = adjoint.params, adjoint.momentum
        if self.momentum == 0:
            g_bar = {name: -lr * w for name, w in w_bar.items()}
            return g_bar, Adjoint(self._undecayed(w_bar, g_bar), b_bar)
        gain = 1.0 if first else 1 - self.dampening
        if self.nesterov:
            after = {name: b_bar[name] - (lr * self.momentum) * w for name, w in w_bar.items()}
            g_bar = {name: after[name] - lr * w for name, w in w_bar.items()}
        else:
            after = {name: b_bar[name] - lr * w for name, w in w_bar.items()}
            g_bar = {name: gain * b for name, b in after.items()}
        carried = {name: self.momentum * b for name, b in after.items()}
        return g_bar, Adjoint(self._undecayed(w_bar, g_bar), carried)

    def _decayed(self, param: Tensor, gradient: Tensor) -> Tensor:
        return gradient + self.weight_decay * param if self.weight_decay else gradient

    def _undecayed(self, w_bar: TensorDict, g_bar: TensorDict) -> TensorDict:
        if not self.weight_decay:
            return w_bar
        return {name: w + self.weight_decay * g_bar[name] for name, w in w_bar.items()}


def linear_decay(lr: float) -> Schedule:
    """lr * (1 - t/T): the decay that keeps the teacher gradient finite at high student learning rates."""
    return lambda index, horizon: lr * (1 - index / horizon)


def multistep(lr: float, milestones: tuple[int, ...], gamma: float = 0.1) -> Schedule:
    """``lr`` multiplied by ``gamma`` at each milestone (a step index), as ``torch.optim.lr_scheduler.MultiStepLR``."""
    return lambda index, horizon: lr * gamma ** sum(index >= milestone for milestone in milestones)
