"""A step's second derivatives, as torch takes them, against differences of its gradient.

They are not the same where a rule of torch's own is wrong (``weight_norm``'s is), and where a layer or the loss
computes something without a gradient on the way (``detach``, ``spectral_norm``'s power iteration): every method that
differentiates twice would take that over in silence.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from l2t_bench.modules import with_float_leaves
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import Maker
from l2t_bench.tensors import TensorDict, Tensors, detached, global_norm, inner, scaled
from l2t_bench.training_step import student_gradient
from l2t_bench.trial import NOT_TAKEN, Trial, in_float64, moved, nearby, on_few_examples, phi_entries, trial

_SIZES = (1e-7, 1e-8, 1e-9)  # of the parameters' norm: so short that a ReLU's kink is hardly ever between
_NEAR = 1e-3  # nearer need no step size be
_DIRECTIONS = 2
_FORMS: tuple[Callable[[Trial], Trial], ...] = (
    lambda own: nearby(on_few_examples(own)),
    nearby,
    lambda own: own,
)  # the first one that the student takes
_FLOOR = 1e-2  # of |g| |omega|: what products count as where they are less, as those of a loss that is linear


def product_error(maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> float | None:
    """How far a step's products with a vector are from differences of its gradient: an estimate of the relative error.

    In float64, near ``state`` and ``phi``, on few examples where the student takes few. ``None`` where it takes none of
    that, where no memory is left for it, and where nothing can be told because the numbers are not finite.

    The products are J'v, J the derivative of the gradient g by (omega, phi): <J'v, u> is held to <v, Ju> for directions
    u at random. J need not be symmetric: g is no gradient where a layer scales or hides what goes back through it.
    """
    own = trial(problem, state, step, phi)
    for form in _FORMS:
        try:
            return _error(maker, in_float64(form(own)))
        except torch.OutOfMemoryError:
            return None
        except NOT_TAKEN:
            continue
    return None


def _error(maker: Maker, at: Trial) -> float | None:
    gradient = _gradient(at)
    vector = _direction(at.params, gradient, 45)
    least = _FLOOR * global_norm(gradient) * global_norm(vector)
    if not least > 0:
        return None
    pairs = _pairs(_products(maker, at, vector), at, gradient)
    errors = [_error_along(at, vector, products, along, least) for products, along in pairs]
    return None if any(map(math.isnan, errors)) else max(errors)


def _error_along(at: Trial, vector: Tensors, products: Tensors, along: Tensors, least: float) -> float:
    """The least error among the step sizes, relative to what <J'v, u> would be for a u at random."""
    count = sum(int(tensor.count_nonzero()) for tensor in along.values())
    scale = max(global_norm(products) * global_norm(along), least) / max(count, 1) ** 0.5
    product, found = float(inner(products, along)), math.inf
    for size in _SIZES:
        error: float = abs(product - _slope(at, vector, along, size)) / scale
        if math.isnan(error) or error < _NEAR:
            return error
        found = min(found, error)
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
    for place in range(_DIRECTIONS):
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
