"""Momentum SGD in fixed point: a step that is taken, and undone bit for bit."""

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from l2t_bench.errors import Diverged
from l2t_bench.groups import rates
from l2t_bench.optimizers import SGD
from l2t_bench.stores.exact import LARGEST_DENOMINATOR, ExactRatio, FixedPoint
from l2t_bench.tensors import TensorDict, Tensors, size_in_bytes

PARAMS = FixedPoint(48)
"""omega: multiples of 4e-15 up to 4,096."""
VELOCITY = FixedPoint(44)
"""b, SGD's momentum buffer: multiples of 6e-14 up to 65,536."""

_Reaches = Mapping[str, tuple[FixedPoint, Tensor]]


class FixedPointSGD:
    """omega and b as integers under heavy-ball SGD with torch's semantics, [] rounding to the nearest multiple.

        b_{t+1} = mu (*) b_t + [(1 - dampening) g_t]   (b_1 = [g_0]),      omega_{t+1} = omega_t - [lr_t b_{t+1}]

    (*) is the product of ``ExactRatio`` and g_t the gradient after clipping and decay. A step is undone in two parts:
    ``retreat`` gives omega_t, at which the caller takes the loss gradient once more; with that ``undo`` gives b_t.

    Raises ``Diverged`` for parameters out of range.
    """

    def __init__(self, optimizer: SGD, params: Tensors) -> None:
        self._optimizer = optimizer
        self._like = {name: param.to("meta") for name, param in params.items()}
        self._params, reach = _integers(PARAMS.rounded(_flat(params)))
        _check_range(0, {"a parameter": (PARAMS, reach)})
        self._velocity = torch.zeros_like(self._params)
        self._bits = ExactRatio(ratio_of(optimizer.momentum), len(self._params), self._params.device)

    @property
    def bytes(self) -> int:
        return size_in_bytes([self._params, self._velocity]) + self._bits.bytes

    def params(self) -> TensorDict:
        """In the student's shapes and precision, the nearest."""
        return self._floats(PARAMS, self._params)

    def momentum(self) -> TensorDict:
        """b likewise."""
        return self._floats(VELOCITY, self._velocity)

    def forget(self) -> None:
        """What was done so far need not be undone."""
        self._bits.forget()

    def step(self, index: int, lr: float, params: Tensors, gradients: Tensors) -> Tensor:
        """Step ``index`` by the loss gradients at ``params``; their checksum, shape ().

        Raises ``Diverged`` with the step where something leaves the range of fixed point.
        """
        gradient, reach = _integers(self._taken_in(index, params, gradients))
        reaches = {"the gradient": (VELOCITY, reach)}
        if index:
            self._velocity = self._bits.multiply(self._velocity)
        self._velocity += gradient
        reaches["the momentum"] = VELOCITY, _reach(self._velocity)
        change, reach = _integers(self._change(lr))
        reaches["the change of a parameter"] = PARAMS, reach
        self._params -= change
        reaches["a parameter"] = PARAMS, _reach(self._params)
        _check_range(index, reaches)
        return _checksum(gradient)

    def retreat(self, lr: float) -> TensorDict:
        """The parameters before the last step, which had this ``lr``."""
        self._params += self._change(lr).long()
        return self.params()

    def undo(self, index: int, params: Tensors, gradients: Tensors) -> Tensor:
        """The momentum too; the checksum of the gradients, which tells whether they are those of the step."""
        gradient = self._taken_in(index, params, gradients).long()
        self._velocity -= gradient
        if index:
            self._velocity = self._bits.undo(self._velocity)
        return _checksum(gradient)

    def _taken_in(self, index: int, params: Tensors, gradients: Tensors) -> Tensor:
        """What the momentum takes in, in its multiples."""
        gain = 1 - self._optimizer.dampening if index else 1.0
        with torch.no_grad():
            return VELOCITY.rounded(_flat(self._optimizer.decayed(params, gradients)), gain)

    def _change(self, lr: float) -> Tensor:
        """lr*b, in multiples of the parameters."""
        return PARAMS.rounded(VELOCITY.values(self._velocity), lr * self._lr_factors())

    def _lr_factors(self) -> float | Tensor:
        """What multiplies eta_t, by entry where there are parameter groups."""
        groups, device = self._optimizer.groups, self._params.device
        if not groups:
            return 1.0
        return torch.cat(
            [
                torch.full((param.numel(),), rates(name, groups, 0.0).lr, dtype=torch.float64, device=device)
                for name, param in self._like.items()
            ]
        )

    def _floats(self, kind: FixedPoint, integers: Tensor) -> TensorDict:
        parts = torch.split(kind.values(integers), [param.numel() for param in self._like.values()])
        return {
            name: part.view(param.shape).to(param.dtype)
            for part, (name, param) in zip(parts, self._like.items(), strict=True)
        }


def ratio_of(momentum: float) -> Fraction:
    """The nearest ratio with a denominator that ``ExactRatio`` takes."""
    return Fraction(momentum).limit_denominator(LARGEST_DENOMINATOR)


def _flat(tensors: Tensors) -> Tensor:
    """All entries in one dimension, float64."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors.values()]).double()


def _integers(rounded: Tensor) -> tuple[Tensor, Tensor]:
    """int64, and the largest magnitude: where that is out of range, or no number, the integers mean nothing."""
    return rounded.long(), _reach(rounded)


def _reach(numbers: Tensor) -> Tensor:
    """The largest magnitude, float64, shape (); no number where one of them is none."""
    low, high = torch.aminmax(numbers)
    return torch.maximum(-low.double(), high.double())


def _check_range(index: int, reaches: _Reaches) -> None:
    """Raises ``Diverged`` for the first that is out of range: before anything that has wrapped around is used."""
    found = torch.stack([reach for _, reach in reaches.values()]).tolist()  # the step's one wait for the device
    for (what, (kind, _)), units in zip(reaches.items(), found, strict=True):
        if not units <= kind.reach * 2.0**kind.bits:
            raise Diverged(
                f"{what} is {units * 2.0**-kind.bits:.3g} at step {index}, outside the range of fixed point (up to "
                f"{kind.reach:g}): lower the student's lr, let it decay (l2t.linear_decay), clip its gradient, or "
                "take another store",
                index,
                (units * 2.0**-kind.bits,),
            )


def _checksum(integers: Tensor) -> Tensor:
    """Modulo 2^64, shape (); another one, but for bad luck, as soon as an entry is another one."""
    return (integers * (integers + 1)).sum()
