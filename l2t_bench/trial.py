"""A step tried at some point before the run is taken: at its own, near it, on few examples, in float64.

A run may begin where derivatives show nothing: a head of zeros hides what lies below it, phi_0 = 0 hides the loss, and
zero pre-activations sit on the kink of a ReLU. What is to be compared is compared near such a point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from l2t_bench.modules import cast, float_leaves, map_tensors, tensor_leaves, with_float_leaves
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.sampling import standard_normal
from l2t_bench.tensors import TensorDict, Tensors

_FAR = 0.1  # of a tensor's root mean square
_LEAST = 0.1  # what that counts as where it is less, as of zeros
_FEW, _FEWEST = 16, 4  # examples; of a student that is large
_LARGE = 1 << 20  # parameters

NOT_TAKEN = (Exception,)
"""What a student, a loss or a library raises that does not take float64, fewer examples, or a point near the run's own:
whatever it asserts or looks up, a look that was never asked for must not fail for it."""


@dataclass(frozen=True)
class Trial:
    """A training step at the student's ``state`` under ``phi``, both constants."""

    problem: TeachingProblem
    state: StudentState
    step: Step
    phi: Any

    @property
    def params(self) -> Tensors:
        return self.state.params


def trial(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> Trial:
    """The step where the run takes it."""
    return Trial(problem, state, step, map_tensors(Tensor.detach, phi))


def nearby(at: Trial) -> Trial:
    """The same step near its point, always the same one: no parameter and no entry of phi stays where it was.

    phi only grows: coefficients that must not be negative stay so.
    """
    entries = phi_entries(at.phi)
    params, phi = standard_normal(at.params, 43), standard_normal(entries, 44)
    along = {name: _amount(tensor) * params[name] for name, tensor in at.params.items()}
    grown = {name: _amount(leaf) * phi[name].abs() for name, leaf in entries.items()}
    return moved(at, along | grown)


def moved(at: Trial, along: Tensors, amount: float = 1.0) -> Trial:
    """The same step, ``amount`` times ``along`` away: by the parameters' names and those of ``phi_entries``."""
    params = {name: tensor + amount * along[name] if name in along else tensor for name, tensor in at.params.items()}
    leaves = [leaf + amount * along[name] if name in along else leaf for name, leaf in phi_entries(at.phi).items()]
    return replace(at, state=replace(at.state, params=params), phi=with_float_leaves(at.phi, leaves))


def phi_entries(phi: Any) -> TensorDict:
    """phi's ``float_leaves`` by names that no parameter has."""
    return {f"phi[{index}]": leaf for index, leaf in enumerate(float_leaves(phi))}


def _amount(tensor: Tensor) -> Tensor:
    return _FAR * tensor.abs().square().mean().sqrt().clamp_min(_LEAST)


def on_few_examples(at: Trial) -> Trial:
    """The same step on the first examples of its batch, fewer of a student that ``is_large``.

    On all of them where its tensors do not begin with one number.

    Whether a student takes fewer is its own affair: what it raises then says that it does not.
    """
    batch = tuple(at.step.batch)
    leaves = tensor_leaves(batch)
    if any(leaf.ndim == 0 for leaf in leaves) or len({leaf.shape[0] for leaf in leaves}) != 1:
        return at
    few = _FEWEST if is_large(at) else _FEW
    return replace(at, step=replace(at.step, batch=map_tensors(lambda leaf: leaf[:few], batch)))


def is_large(at: Trial) -> bool:
    """Whether a gradient costs so much that few should be taken for a look."""
    return sum(param.numel() for param in at.params.values()) > _LARGE


def in_float64(at: Trial) -> Trial:
    """The same step with every number of it in float64."""
    problem = at.problem if at.problem.dtype is torch.float64 else at.problem.to(dtype=torch.float64)
    state = StudentState(*(_double(held) for held in (at.state.params, at.state.buffers, at.state.slots)))
    step = replace(at.step, batch=_double(tuple(at.step.batch)), features=_double(at.step.features))
    return Trial(problem, state, step, _double(at.phi))


def _double(tree: Any) -> Any:
    devices = [leaf.device for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    return cast(tree, devices[0], torch.float64) if devices else tree


FORMS: Sequence[Callable[[Trial], Trial]] = (lambda own: nearby(on_few_examples(own)), nearby, lambda own: own)
"""How a step is tried: by the first of these that the student takes, and that tells anything."""
