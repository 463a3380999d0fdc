"""The student's optimisers as pure step functions, each with the adjoint of its own step.

Parameters, gradients and adjoints are dicts of tensors with the keys of the student's trained parameters; slots are
such dicts by the name of what the optimiser carries from step to step (momentum; Adam's two moments).
The semantics are those of ``torch.optim`` with ``zero_grad(set_to_none=False)``: a parameter that the loss of a step
does not reach has a gradient of zeros there (it still decays and still moves by its momentum), because that is the
derivative of the loss, and the only rule that every library here can follow.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from l2t_bench.clipping import clip, pull_back_clip
from l2t_bench.errors import UserError
from l2t_bench.groups import Group, Rates, rates
from l2t_bench.tensors import TensorDict, Tensors, axpy, inner

Slots = Mapping[str, Tensors]
"""What an optimiser carries, by slot name; empty before the first step."""
Schedule = Callable[[int, int], float]
"""(index, horizon) -> learning rate of step ``index``, 0 <= index < horizon."""


@dataclass(frozen=True)
class Adjoint:
    """Derivatives of the teacher's objective: by the parameters, and by each of the optimiser's slots."""

    params: TensorDict
    slots: dict[str, TensorDict]


@dataclass(frozen=True)
class Taken:
    """A step that was taken, as its adjoint wants to know it.

    ``gradients`` (of the loss, before clipping and decay) and ``slots`` (before the step) are there where the optimiser
    says that it reads them, and may be empty where it does not. ``index`` and ``lr`` are 0-dimensional tensors in code
    that is traced for many steps.
    """

    index: int | Tensor
    lr: float | Tensor
    params: Tensors
    gradients: Tensors
    slots: Slots

    @property
    def first(self) -> bool:
        """Whether it is the run's first step; traced code is for the others."""
        return isinstance(self.index, int) and self.index == 0


@runtime_checkable
class Optimizer(Protocol):
    """A student's optimiser: how one step is taken, and how an adjoint is pulled back through that step."""

    @property
    def slot_names(self) -> tuple[str, ...]:
        """What is carried from step to step."""

    @property
    def reads_slots(self) -> bool:
        """Whether ``pull_back`` needs the slots as they were before the step."""

    @property
    def reads_gradients(self) -> bool:
        """Whether ``pull_back`` needs the loss gradient of the step."""

    def lr_at(self, index: int, horizon: int) -> float:
        """The learning rate eta_t of step ``index`` in a run of ``horizon`` steps."""

    def step(
        self, params: Tensors, gradients: Tensors, slots: Slots, *, index: int | Tensor, lr: float | Tensor
    ) -> tuple[TensorDict, dict[str, TensorDict]]:
        """One step: the new parameters and the new slots.

        ``slots`` is empty before the first step. ``index`` and ``lr`` are 0-dimensional tensors in code that is traced
        for many steps: an optimiser that asks for their values there is not traced, and taken step by step instead.
        """

    def pull_back(self, adjoint: Adjoint, taken: Taken) -> tuple[TensorDict, Adjoint]:
        """The adjoint through one step: g_bar, of the loss gradient, and that of the parameters and slots before.

        The caller adds ``[d2L/domega2] g_bar`` to the parameters' adjoint returned here.
        """

    def hyper_gradients(self, adjoint: Adjoint, taken: Taken) -> dict[str, Tensor]:
        """What this step adds to the objective's derivative by the optimiser's own numbers.

        ``lr`` (eta_t of this step) and those that are the same at every step, each a 0-dimensional tensor. ``adjoint``
        is that after the step, as in ``pull_back``; ``taken.slots`` and ``taken.gradients`` must be there.
        """


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with torch's semantics: momentum, dampening, weight decay, Nesterov, lr schedules.

    ``lr`` is a number or a schedule ``(index, horizon) -> float``. ``clip`` bounds the global norm of the loss gradient
    before the decay, as ``clip_grad_norm_`` does. ``groups``: parameters with an lr or a weight decay of their own.
    Raises ``UserError`` for values that no student is trained with: an lr of zero, a momentum outside [0, 1), and those
    that ``torch.optim.SGD`` does not take.
    """

    lr: float | Schedule
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    clip: float | None = None
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        check_shared(self.lr, self.weight_decay, self.clip)
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be in [0, 1), not {self.momentum!r}")
        if not math.isfinite(self.dampening):
            raise UserError(f"dampening must be a finite number, not {self.dampening!r}")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise UserError("Nesterov momentum needs momentum > 0 and dampening = 0")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    @property
    def reads_slots(self) -> bool:
        return False

    @property
    def reads_gradients(self) -> bool:
        return self.clip is not None

    def lr_at(self, index: int, horizon: int) -> float:
        return lr_of(self.lr, index, horizon)

    def step(
        self, params: Tensors, gradients: Tensors, slots: Slots, *, index: int | Tensor, lr: float | Tensor
    ) -> tuple[TensorDict, dict[str, TensorDict]]:
        del index
        directions, after = self._directions(params, gradients, slots)
        return {name: axpy(-lr * self._rates(name).lr, directions[name], w) for name, w in params.items()}, after

    def pull_back(self, adjoint: Adjoint, taken: Taken) -> tuple[TensorDict, Adjoint]:
        """MATHS: heavy ball, Nesterov and plain SGD; with no momentum this is the paper's Eq. 4 and 5."""
        decayed_bar, after = self._bars(adjoint, taken)
        params = {
            name: axpy(decay, decayed_bar[name], w) if (decay := self._rates(name).weight_decay) else w
            for name, w in adjoint.params.items()
        }
        slots = {"momentum": {name: self.momentum * b for name, b in after.items()}} if self.momentum else {}
        return pull_back_clip(decayed_bar, taken.gradients, self.clip), Adjoint(params, slots)

    def decayed(self, params: Tensors, gradients: Tensors) -> TensorDict:
        """The loss gradients clipped, plus the weight decay: what the momentum takes in."""
        return {
            name: axpy(decay, params[name], gradient) if (decay := self._rates(name).weight_decay) else gradient
            for name, gradient in clip(gradients, self.clip).items()
        }

    def hyper_gradients(self, adjoint: Adjoint, taken: Taken) -> dict[str, Tensor]:
        directions, slots = self._directions(taken.params, taken.gradients, {} if taken.first else taken.slots)
        decayed_bar, after = self._bars(adjoint, taken)
        direction_bar = {name: -(taken.lr * self._rates(name).lr) * w for name, w in adjoint.params.items()}
        by_lr = {name: -self._rates(name).lr * w for name, w in adjoint.params.items()}
        shared = {name: bar for name, bar in decayed_bar.items() if not self._rates(name).own_decay}
        found = {"lr": inner(by_lr, directions)}
        found["weight_decay"] = inner(shared, taken.params) if shared else found["lr"] * 0
        if self.momentum:
            through_buffer = found["lr"] * 0 if taken.first else inner(after, taken.slots["momentum"])
            through_nesterov = inner(direction_bar, slots["momentum"]) if self.nesterov else 0
            found["momentum"] = through_buffer + through_nesterov
        return found

    def _directions(
        self, params: Tensors, gradients: Tensors, slots: Slots
    ) -> tuple[TensorDict, dict[str, TensorDict]]:
        """The directions d of omega <- omega - lr*d, and the slots after the step."""
        decayed = self.decayed(params, gradients)
        if not self.momentum:
            return decayed, {}
        if not slots:  # torch's first-step rule: b_1 = g, undamped
            buffers = dict(decayed)
        else:
            gain, held = 1 - self.dampening, slots["momentum"]
            buffers = {name: axpy(gain, g, held[name] * self.momentum) for name, g in decayed.items()}
        if not self.nesterov:
            return buffers, {"momentum": buffers}
        return {name: axpy(self.momentum, buffers[name], g) for name, g in decayed.items()}, {"momentum": buffers}

    def _bars(self, adjoint: Adjoint, taken: Taken) -> tuple[TensorDict, TensorDict]:
        """The adjoint of the decayed gradient, and b', that of b_{t+1} with what the parameters add to it."""
        etas = {name: taken.lr * self._rates(name).lr for name in adjoint.params}
        if not self.momentum:
            return {name: -etas[name] * w for name, w in adjoint.params.items()}, {}
        b_bar = adjoint.slots["momentum"]
        if self.nesterov:
            after = {name: axpy(-self.momentum * etas[name], w, b_bar[name]) for name, w in adjoint.params.items()}
            return {name: axpy(-etas[name], w, after[name]) for name, w in adjoint.params.items()}, after
        after = {name: axpy(-etas[name], w, b_bar[name]) for name, w in adjoint.params.items()}
        gain = 1.0 if taken.first else 1 - self.dampening
        return after if gain == 1 else {name: gain * b for name, b in after.items()}, after

    def _rates(self, name: str) -> Rates:
        return rates(name, self.groups, self.weight_decay)


def check_shared(lr: float | Schedule, weight_decay: float, bound: float | None) -> None:
    """Raises ``UserError`` for values that no optimiser here takes."""
    if not callable(lr) and not 0 < lr < math.inf:
        raise UserError(f"lr must be a positive number or a schedule, not {lr!r}")
    if not 0 <= weight_decay < math.inf:
        raise UserError(f"weight_decay must not be negative, not {weight_decay!r}")
    if bound is not None and not 0 < bound < math.inf:
        raise UserError(f"clip must be a positive norm, not {bound!r}")


def lr_of(lr: float | Schedule, index: int, horizon: int) -> float:
    """A number as it is, a schedule's value at this step."""
    return float(lr(index, horizon)) if callable(lr) else float(lr)


def linear_decay(lr: float) -> Schedule:
    """lr * (1 - t/T): the decay that keeps the teacher gradient finite at high student learning rates."""
    return lambda index, horizon: lr * (1 - index / horizon)


def multistep(lr: float, milestones: tuple[int, ...], gamma: float = 0.1) -> Schedule:
    """``lr`` multiplied by ``gamma`` at each milestone (a step index), as ``torch.optim.lr_scheduler.MultiStepLR``."""
    return lambda index, horizon: lr * gamma ** sum(index >= milestone for milestone in milestones)
