"""Adam and AdamW with torch's semantics, and the adjoint of their step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.clipping import clip, pull_back_clip
from l2t_bench.errors import UserError
from l2t_bench.groups import Group, Rates, rates
from l2t_bench.optimizers import Adjoint, Schedule, Slots, Taken, check_shared, lr_of
from l2t_bench.tensors import TensorDict, Tensors


@dataclass(frozen=True)
class _Moments:
    """The two moments after a step, and what the update divides by."""

    first: TensorDict
    second: TensorDict
    root: TensorDict  # sqrt(v/c2) + eps
    correction: float | Tensor  # c1


@dataclass(frozen=True)
class Adam:
    """``torch.optim.Adam`` (Kingma and Ba 2015), or ``torch.optim.AdamW`` where the decay is ``decoupled``.

    The square root has no derivative at a second moment of zero, where a parameter has never had a gradient: the
    derivative there is taken as zero, in the step function too, so that every backend follows the same convention.
    ``clip`` and ``groups`` as for ``SGD``. Raises ``UserError`` for an lr of zero, and for values that
    ``torch.optim.Adam`` does not take.
    """

    lr: float | Schedule
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    clip: float | None = None
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        check_shared(self.lr, self.weight_decay, self.clip)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise UserError(f"betas must be in [0, 1), not {self.betas!r}")
        if not 0 <= self.eps < math.inf:
            raise UserError(f"eps must not be negative, not {self.eps!r}")

    @property
    def slot_names(self) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq")

    @property
    def reads_slots(self) -> bool:
        return True

    @property
    def reads_gradients(self) -> bool:
        return True

    def lr_at(self, index: int, horizon: int) -> float:
        return lr_of(self.lr, index, horizon)

    def step(
        self, params: Tensors, gradients: Tensors, slots: Slots, *, index: int | Tensor, lr: float | Tensor
    ) -> tuple[TensorDict, dict[str, TensorDict]]:
        moments = self._moments(self._decayed(params, gradients), slots, index)
        updated = {}
        for name, param in params.items():
            own = self._rates(name)
            kept = param * (1 - lr * own.lr * own.weight_decay) if self.decoupled and own.weight_decay else param
            rate = lr * own.lr / moments.correction
            updated[name] = _addcdiv(kept, moments.first[name], moments.root[name], -rate)
        return updated, {"exp_avg": moments.first, "exp_avg_sq": moments.second}

    def pull_back(self, adjoint: Adjoint, taken: Taken) -> tuple[TensorDict, Adjoint]:
        """MATHS: Adam's reverse recursion."""
        gradients = self._decayed(taken.params, taken.gradients)
        moments = self._moments(gradients, taken.slots, taken.index)
        params, first, second, bars = {}, {}, {}, {}
        for name, w in adjoint.params.items():
            m_bar, v_bar = self._moment_bars(name, adjoint, taken, moments)
            gradient_bar = (1 - self.betas[0]) * m_bar + 2 * (1 - self.betas[1]) * gradients[name] * v_bar
            first[name], second[name], bars[name] = self.betas[0] * m_bar, self.betas[1] * v_bar, gradient_bar
            params[name] = self._through_decay(name, w, gradient_bar, taken.lr)
        slots = {"exp_avg": first, "exp_avg_sq": second}
        return pull_back_clip(bars, taken.gradients, self.clip), Adjoint(params, slots)

    def hyper_gradients(self, adjoint: Adjoint, taken: Taken) -> dict[str, Tensor]:
        """By ``lr`` (of this step) and ``weight_decay``."""
        moments = self._moments(self._decayed(taken.params, taken.gradients), taken.slots, taken.index)
        by_lr = by_decay = next(iter(taken.params.values())).new_zeros(())
        for name, w in adjoint.params.items():
            own = self._rates(name)
            direction = moments.first[name] / (moments.correction * moments.root[name])
            if self.decoupled:
                direction = direction + own.weight_decay * taken.params[name]
            by_lr = by_lr - own.lr * (w * direction).sum()
            if not own.own_decay:
                by_decay = by_decay + (self._decay_bar(name, adjoint, taken, moments) * taken.params[name]).sum()
        return {"lr": by_lr, "weight_decay": by_decay}

    def _decay_bar(self, name: str, adjoint: Adjoint, taken: Taken, moments: _Moments) -> Tensor:
        """The adjoint of (weight decay times parameter) in this step."""
        if self.decoupled:
            return -(taken.lr * self._rates(name).lr) * adjoint.params[name]
        gradient = self._decayed(taken.params, taken.gradients)[name]
        m_bar, v_bar = self._moment_bars(name, adjoint, taken, moments)
        return (1 - self.betas[0]) * m_bar + 2 * (1 - self.betas[1]) * gradient * v_bar

    def _moment_bars(self, name: str, adjoint: Adjoint, taken: Taken, moments: _Moments) -> tuple[Tensor, Tensor]:
        """m' and v': the adjoints of m_{t+1} and v_{t+1} with what the parameters add to them."""
        root, second = moments.root[name], moments.second[name]
        u = -(taken.lr * self._rates(name).lr / moments.correction) * adjoint.params[name]
        root_bar = -u * moments.first[name] / root.square()
        unscaled = (1 - self.betas[1] ** (taken.index + 1)) ** 0.5
        root_bar = root_bar * (0.5 / (unscaled * torch.sqrt(second)))  # not finite at v = 0, and left out there
        return (
            adjoint.slots["exp_avg"][name] + u / root,
            adjoint.slots["exp_avg_sq"][name] + torch.where(second > 0, root_bar, torch.zeros_like(second)),
        )

    def _moments(self, gradients: Tensors, slots: Slots, index: int | Tensor) -> _Moments:
        beta1, beta2 = self.betas
        held = {name: (slots["exp_avg"][name], slots["exp_avg_sq"][name]) for name in gradients} if slots else {}
        first, second, root = {}, {}, {}
        scale = (1 - beta2 ** (index + 1)) ** 0.5
        for name, gradient in gradients.items():
            m, v = held.get(name, (torch.zeros_like(gradient), torch.zeros_like(gradient)))
            # torch's own operations, in its order: the update divides by roots as small as their rounding
            first[name] = torch.lerp(m, gradient, 1 - beta1)
            second[name] = torch.addcmul(v * beta2, gradient, gradient, value=1 - beta2)
            root[name] = _safe_sqrt(second[name]) / scale + self.eps
        return _Moments(first, second, root, 1 - beta1 ** (index + 1))

    def _decayed(self, params: Tensors, gradients: Tensors) -> TensorDict:
        clipped = clip(gradients, self.clip)
        if self.decoupled:
            return clipped
        return {
            name: gradient + decay * params[name] if (decay := self._rates(name).weight_decay) else gradient
            for name, gradient in clipped.items()
        }

    def _through_decay(self, name: str, w: Tensor, gradient_bar: Tensor, lr: float | Tensor) -> Tensor:
        own = self._rates(name)
        if not own.weight_decay:
            return w
        if self.decoupled:
            return (1 - lr * own.lr * own.weight_decay) * w
        return w + own.weight_decay * gradient_bar

    def _rates(self, name: str) -> Rates:
        return rates(name, self.groups, self.weight_decay)


def _addcdiv(start: Tensor, numerator: Tensor, denominator: Tensor, factor: float | Tensor) -> Tensor:
    """start + factor * numerator / denominator, as torch's Adam takes it where the factor is a number."""
    if isinstance(factor, Tensor):
        return start + factor * numerator / denominator
    return torch.addcdiv(start, numerator, denominator, value=factor)


def _safe_sqrt(tensor: Tensor) -> Tensor:
    """The square root with derivative zero at zero: autograd's would be infinite, and times zero not a number."""
    positive = tensor > 0
    root = torch.sqrt(torch.where(positive, tensor, torch.ones_like(tensor)))
    return torch.where(positive, root, torch.zeros_like(root))
