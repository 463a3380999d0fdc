"""One step's second derivatives of the loss, as products with a vector, by two modes of differentiation.

Reverse-over-reverse and forward-over-reverse are right for every layer; reverse-over-forward is silently wrong for
normalisation layers in torch, and is not offered.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from l2t_bench.double_backward import OwnDoubleBackward
from l2t_bench.modules import float_leaves, map_tensors, with_float_leaves
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, detached, ones_like
from l2t_bench.training_step import loss_gradients


class SecondOrder(Protocol):
    """A step at its state: loss and gradient, and the products of its second derivatives with a vector g_bar."""

    @property
    def loss(self) -> Tensor: ...

    @property
    def buffers(self) -> TensorDict:
        """After the step."""

    @property
    def gradients(self) -> TensorDict:
        """dL/domega by parameter name, a constant."""

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        """[d2L/domega2] g_bar by parameter name, [d2L/dphi domega] g_bar by phi's ``float_leaves``. Call it once."""


class StepGraph:
    """Reverse-over-reverse: the graph of dL/domega, differentiated once more. ``phi`` holds leaves.

    Some layers by rules of our own (``double_backward``).
    """

    _rules: Callable[[], AbstractContextManager[Any]] = OwnDoubleBackward

    def __init__(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> None:
        self._params = {name: param.detach().requires_grad_() for name, param in state.params.items()}
        self._leaves = float_leaves(phi)
        with torch.enable_grad():
            with self._rules():
                loss, self.buffers = problem.train_loss(self._params, state.buffers, phi, step)
            self._graph = loss_gradients(loss, self._params, create_graph=True)
        self.loss = loss.detach()

    @property
    def gradients(self) -> TensorDict:
        return detached(self._graph)

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        inputs = [*self._params.values(), *self._leaves]
        reached = [name for name, gradient in self._graph.items() if gradient.requires_grad]
        if not reached:  # a loss linear in everything has no second derivative
            found: tuple[Tensor, ...] = tuple(torch.zeros_like(tensor) for tensor in inputs)
        else:
            outputs, vectors = [self._graph[name] for name in reached], [g_bar[name] for name in reached]
            found = torch.autograd.grad(outputs, inputs, vectors, allow_unused=True, materialize_grads=True)
        return dict(zip(self._params, found, strict=False)), list(found[len(self._params) :])


class TorchStepGraph(StepGraph):
    """By torch's rules alone, as other libraries differentiate: what they are looked at by (``second_difference``)."""

    _rules = nullcontext


class ForwardOverReverse:
    """Forward-over-reverse: one Jacobian-vector product through the function that gives dL/d(omega, phi)."""

    def __init__(self, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> None:
        self._problem, self._state, self._step = problem, state, step
        self._params, self._phi = detached(state.params), map_tensors(Tensor.detach, phi)
        self._leaves = float_leaves(self._phi)

    @property
    def loss(self) -> Tensor:
        loss: Tensor = self._first[1][0]
        return loss

    @property
    def buffers(self) -> TensorDict:
        buffers: TensorDict = self._first[1][1]
        return buffers

    @property
    def gradients(self) -> TensorDict:
        gradients: TensorDict = self._first[0][0]
        return gradients

    def products(self, g_bar: Tensors) -> tuple[TensorDict, list[Tensor]]:
        at = self._params, self._leaves
        along = dict(g_bar), [torch.zeros_like(leaf) for leaf in self._leaves]
        with quiet_forward_mode():
            found, tangents, aux = torch.func.jvp(self._gradient, at, along, has_aux=True)  # type: ignore[misc]
        self.__dict__.setdefault("_first", (found, aux))
        return tangents[0], list(tangents[1])

    @cached_property
    def _first(self) -> tuple[Any, Any]:
        return self._gradient(self._params, self._leaves)

    def _gradient(self, params: TensorDict, leaves: list[Tensor]) -> tuple[Any, Any]:
        def loss_of(params: TensorDict, leaves: list[Tensor]) -> tuple[Tensor, Any]:
            phi = with_float_leaves(self._phi, leaves)
            loss, buffers = self._problem.train_loss(params, self._state.buffers, phi, self._step)
            return loss.sum(), (loss.detach(), buffers)  # of several students, each with a loss of its own

        return torch.func.grad(loss_of, argnums=(0, 1), has_aux=True)(params, leaves)  # type: ignore[no-any-return]


Maker = Callable[[TeachingProblem, StudentState, Step, Any], SecondOrder]
MODES: Mapping[str, Maker] = MappingProxyType({"ror": StepGraph, "for": ForwardOverReverse})


def try_products(maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> None:
    """Take the products of a step with some vector. Raises what torch raises for a student that has none."""
    leaves = [leaf.detach().requires_grad_() for leaf in float_leaves(phi)]
    maker(problem, state, step, with_float_leaves(phi, leaves)).products(ones_like(state.params))


@contextmanager
def quiet_forward_mode() -> Iterator[None]:
    """torch makes its own forward-mode rules by its own deprecated torch.jit.script, and warns of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit")
        yield
