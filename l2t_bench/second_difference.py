"""A step's second derivatives, as a method takes them, against differences of its gradient.

They are not the same where a rule of torch's own is wrong (``weight_norm``'s is), and where a layer or the loss
computes something without a gradient on the way (``detach``, ``spectral_norm``'s power iteration): every method that
differentiates twice would take that over in silence.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from l2t_bench.modules import with_float_leaves
from l2t_bench.precision import LowestPrecision
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import Maker
from l2t_bench.tensors import TensorDict, Tensors, detached, global_norm, inner, scaled
from l2t_bench.training_step import student_gradient
from l2t_bench.trial import FORMS, NOT_TAKEN, Trial, in_float64, is_large, moved, phi_entries, trial

_SIZES = (1e-6, 1e-7, 1e-8)  # of the parameters' norm: so short that a ReLU's kink is hardly ever between
_COARSE = (3e-2, 1e-2, 3e-3, 1e-3)  # for a student that computes in float32 by itself
_NEAR = 1e-5  # nearer need no step size be
_DIRECTIONS, _OF_LARGE = 3, 1  # of each kind; of a large student, which is looked at in three places all the same
_FLOOR = 1e-2  # of |g| |omega|: what products count as where they are less, as those of a loss that is linear
_DOUBT = 10.0  # how many times its own inconsistency a difference is mistrusted by
_FLAT = 1e-7  # of |L|: where |g| |omega| is less, what is left of g is rounding, as of a softmax that is saturated
_BOUNDS: Mapping[torch.dtype, float] = MappingProxyType({torch.float64: 1e-4, torch.float32: 0.05})


@dataclass(frozen=True)
class Look:
    """What a look at second derivatives found."""

    error: float
    """How far they are from differences, relative, beyond what the differences themselves are in doubt by."""
    precision: torch.dtype
    """The lowest that the student and its loss compute in when they are given float64."""

    @property
    def wrong(self) -> bool:
        """Whether no rounding explains it; nothing is said of what computes in less than float32."""
        return self.precision in _BOUNDS and self.error > _BOUNDS[self.precision]


def second_look(maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> Look | None:
    """Hold a step's products of second derivatives with a vector to differences of its gradient.

    In float64, near ``state`` and ``phi``, on few examples where the student takes few, else where it does. ``None``
    where it takes nothing of that, where no memory is left for it, and where gradients are not finite or nothing but
    rounding.

    The products are J'v, J the derivative of the gradient g by (omega, phi): <J'v, u> is held to <v, Ju> for directions
    u at random. J need not be symmetric: g is no gradient where a layer scales or hides what goes back through it.
    """
    own = trial(problem, state, step, phi)
    for form in FORMS:
        try:
            found = _look(maker, in_float64(form(own)))
        except torch.OutOfMemoryError:
            return None
        except NOT_TAKEN:
            continue
        if found is not None:
            return found
    return None


def _look(maker: Maker, at: Trial) -> Look | None:
    with LowestPrecision() as watched:
        found = student_gradient(at.problem, at.state, at.step, at.phi)
    gradient, vector = found.gradients, _direction(at.params, found.gradients, 45)
    size = global_norm(gradient) * global_norm(vector)
    if not max(0.0, _FLAT * abs(float(found.loss))) < size < math.inf:
        return None
    least = _FLOOR * size
    sizes = _SIZES if watched.lowest is torch.float64 else _COARSE
    pairs = _pairs(_products(maker, at, vector), at, gradient)
    errors = [_error_along(at, vector, products, along, least, sizes) for products, along in pairs]
    told = [error for error in errors if not math.isnan(error)]
    return Look(max(told), watched.lowest) if told else None


def _error_along(
    at: Trial, vector: Tensors, products: Tensors, along: Tensors, least: float, sizes: Sequence[float]
) -> float:
    """The error by the step size that is least in doubt, relative to what <J'v, u> would be for a u at random.

    A difference is in doubt by what it changes to at twice and at five times its step. NaN where none tells.
    """
    count = sum(int(tensor.count_nonzero()) for tensor in along.values())
    scale = max(global_norm(products) * global_norm(along), least) / max(count, 1) ** 0.5
    product, least_doubt, found = float(inner(products, along)), math.inf, math.nan
    for size in sizes:
        slope = _slope(at, vector, along, size)
        error: float = abs(product - slope) / scale
        if error < _NEAR:
            return error
        doubt = max(abs(slope - _slope(at, vector, along, factor * size)) for factor in (2.0, 5.0)) / scale
        if doubt < least_doubt:
            least_doubt, found = doubt, error - _DOUBT * doubt
    return found


def _products(maker: Maker, at: Trial, vector: Tensors) -> tuple[TensorDict, TensorDict]:
    """By the parameters' names, and by ``phi_entries``'."""
    entries = phi_entries(at.phi)
    phi = with_float_leaves(at.phi, [leaf.detach().requires_grad_() for leaf in entries.values()])
    by_params, by_phi = maker(at.problem, at.state, at.step, phi).products(vector)
    return detached(by_params), detached(dict(zip(entries, by_phi, strict=True)))


def _pairs(
    products: tuple[TensorDict, TensorDict], at: Trial, gradient: Tensors
) -> Iterator[tuple[TensorDict, TensorDict]]:
    """The products of either kind, each with directions u of that kind."""
    by_params, by_phi = products
    entries = phi_entries(at.phi)
    for place in range(_OF_LARGE if is_large(at) else _DIRECTIONS):
        yield by_params, _direction(at.params, gradient, 46 + place)
        yield by_phi, _direction(entries, entries, 56 + place)


def _direction(like: Tensors, where: Tensors, seed: int) -> TensorDict:
    """Random, of the length of ``like``; nothing where ``where`` is zero.

    What has no gradient, such as an embedding's row for padding, is never moved, and no adjoint comes to lie there.
    """
    drawn = {name: tensor * (where[name] != 0) for name, tensor in standard_normal(like, seed).items()}
    length = global_norm(drawn)
    return scaled(global_norm(like) / length if length > 0 else 0.0, drawn)


def _slope(at: Trial, vector: Tensors, along: Tensors, size: float) -> float:
    """<v, Ju> by central differences of g along u."""
    front, back = (_gradient(moved(at, along, amount)) for amount in (size, -size))
    return float(inner(vector, {name: (front[name] - back[name]) / (2 * size) for name in front}))


def _gradient(at: Trial) -> TensorDict:
    return student_gradient(at.problem, at.state, at.step, at.phi).gradients
