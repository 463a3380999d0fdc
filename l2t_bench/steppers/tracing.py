"""A step of training, and a step back, traced to plain ATen operators: what a compiler is given.

What is traced is the reference itself, ``student_step`` and ``passed_back``: nothing is written a second time. Gradient
and second derivatives are taken while tracing, so that nothing of autograd is left in a graph: ``torch.compile`` around
code that differentiates twice drops the second order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from l2t_bench.adjoint import PhiAdjoint, Visit
from l2t_bench.batches import Batch, IndexedBatch
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker
from l2t_bench.steppers.eager import passed_back
from l2t_bench.steppers.rewriting import rewritten
from l2t_bench.steppers.traced import Traced
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import student_step

_PAIR = pytree.tree_structure(((0, 0), 0))


@dataclass(frozen=True)
class Form:
    """What a step must look like to pass through functions that were traced for another one."""

    spec: pytree.TreeSpec
    tensors: tuple[tuple[torch.Size, torch.dtype, tuple[int, ...], torch.device], ...]

    @property
    def expanded(self) -> bool:
        """Whether elements of a tensor share one place, as after ``expand``: nothing can be copied into such a one."""
        return any(
            stride == 0 and size > 1
            for shape, _, strides, _ in self.tensors
            for size, stride in zip(shape, strides, strict=True)
        )


@dataclass(frozen=True)
class Given:
    """A step's inputs as a flat list of tensors, and the form that they have."""

    form: Form
    leaves: list[Tensor]


def given(batch: Batch, features: Tensor) -> Given | None:
    """Batch and features as tensors; ``None`` for a batch that holds anything else."""
    inputs, targets = batch
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor):  # most are, and this is done at every step
        leaves, spec = [inputs, targets, features], _PAIR
    else:
        leaves, spec = pytree.tree_flatten(((inputs, targets), features))
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            return None
    return Given(Form(spec, tuple(map(_look, leaves))), leaves)


def _look(leaf: Tensor) -> tuple[torch.Size, torch.dtype, tuple[int, ...], torch.device]:
    return leaf.shape, leaf.dtype, leaf.stride(), leaf.device


def given_rows(batches: Sequence[Batch], features: Sequence[Tensor], form: Form) -> list[Tensor] | None:
    """The inputs of several steps, each tensor (N, ...) with a row a step; ``None`` where one has not this form.

    Rows lie as the steps' own tensors do. Rows of a data set are looked up at once.
    """
    if (stacked := IndexedBatch.stacked(batches)) is not None:
        inputs, targets = stacked
        if tuple(map(_look, (inputs[0], targets[0]))) == form.tensors[:-1] and set(map(_look, features)) == {
            form.tensors[-1]
        }:
            return [inputs, targets, _rows(features)]
    each = [given(*own) for own in zip(batches, features, strict=True)]
    alike = [own.leaves for own in each if own is not None and own.form == form]
    return [_rows(column) for column in zip(*alike, strict=True)] if len(alike) == len(batches) else None


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """As ``torch.stack``, each row with the strides that its tensor has."""
    first = tensors[0]
    if first.is_contiguous():
        return torch.stack(list(tensors))
    span = 1 + sum((size - 1) * stride for size, stride in zip(first.shape, first.stride(), strict=True))
    strides = (span, *first.stride())
    rows = torch.empty_strided((len(tensors), *first.shape), strides, dtype=first.dtype, device=first.device)
    for row, tensor in zip(rows, tensors, strict=True):
        row.copy_(tensor)
    return rows


@dataclass(frozen=True)
class Tracer:
    """Traces the steps of a problem at ``state``, which has its slots, for every step that looks like ``step``."""

    problem: TeachingProblem
    theta: Tensors
    state: StudentState
    given: Given
    numbers_on: torch.device  # where a step's lr and index lie

    def forward(self) -> Traced:
        """(params, slots, buffers, theta, inputs, lr, index, next params, next slots) -> loss, next buffers.

        The next parameters and slots are written where they are to be.
        """

        def forward(
            state: Held, theta: TensorDict, leaves: list[Tensor], numbers: _Numbers, after: Written
        ) -> list[Tensor]:
            step = self._step(leaves, numbers)
            found, loss = student_step(self.problem, _student(state), step, self.problem.phi(theta, step.features))
            _write(after, (found.params, found.slots))
            _check_same_form(found.buffers, state[2])
            return [loss, *found.buffers.values()]

        places = _like((self.state.params, self.state.slots))
        return self._traced(forward, **self._shared_inputs(self.state), after=places)

    def back(self, second_order: Maker, *, slots: bool, hyper: bool) -> Traced:
        """``slots``: whether the states gone back through have theirs.

        (params, slots, buffers, theta, inputs, lr, index, bars, d_theta) -> loss, norm, hyper-gradients.

        The adjoint is replaced by that before the step where it lies; what the step adds to d_theta is added to it.
        """

        names: list[str] = []

        def back(
            state: Held,
            theta: TensorDict,
            leaves: list[Tensor],
            numbers: _Numbers,
            bars: Written,
            d_theta: TensorDict,
        ) -> list[Tensor]:
            with torch.enable_grad():
                own = {name: tensor.detach().requires_grad_() for name, tensor in theta.items()}
                phi_adjoint = PhiAdjoint(self.problem, own)
                visit = Visit(self._step(leaves, numbers), _student(state))
                adjoint = Adjoint(dict(bars[0]), {slot: dict(held) for slot, held in bars[1].items()})
                passed = passed_back(self.problem, phi_adjoint, visit, adjoint, second_order, hyper=hyper)
                phi_adjoint.flush()
            with torch.no_grad():
                _write(bars, (passed.adjoint.params, passed.adjoint.slots))
                for name, held in d_theta.items():
                    held.add_(phi_adjoint.d_theta[name])
            names[:] = passed.hyper
            return [passed.loss, passed.norm, *passed.hyper.values()]

        state = self.state if slots else self.state.without_slots()
        bars = _like((state.params, dict.fromkeys(self.problem.optimizer.slot_names, state.params)))
        traced = self._traced(back, **self._shared_inputs(state), bars=bars, d_theta=_like(dict(self.theta)))
        return replace(traced, hyper=tuple(names))

    def _shared_inputs(self, state: StudentState) -> dict[str, Any]:
        """What a step and the step back are both given, by the names of their arguments."""
        return {
            "state": held(state),
            "theta": dict(self.theta),
            "leaves": self.given.leaves,
            "numbers": _numbers(self.numbers_on),
        }

    def _step(self, leaves: list[Tensor], numbers: "_Numbers") -> Step:
        batch, features = pytree.tree_unflatten(leaves, self.given.form.spec)
        lr, index = numbers
        # A traced step stands for many: its numbers are tensors, and its seed is set outside.
        return Step(index=index, batch=batch, features=features, lr=lr, seed=0)  # type: ignore[arg-type]

    def _traced(self, function: Callable[..., list[Tensor]], **arguments: Any) -> Traced:
        """With fake tensors: code that looks at a tensor's values cannot be traced, and raises here.

        Batches and s_t are traced as they lie, and are called so: compiled code looks at its inputs' strides. All else
        is made contiguous for every call (``compiling.inputs``).
        """
        paths, spec = pytree.tree_flatten_with_path(arguments)
        as_given = {id(leaf) for leaf in arguments["leaves"]}
        leaves = [leaf.detach() if id(leaf) in as_given else leaf.detach().contiguous() for _, leaf in paths]

        def flat(*flat_leaves: Tensor) -> list[Tensor]:
            return function(**pytree.tree_unflatten(list(flat_leaves), spec))

        graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(*leaves)
        return Traced(rewritten(graph), leaves, tuple(pytree.keystr(path) for path, _ in paths))


def _check_same_form(after: Tensors, before: Tensors) -> None:
    """Raises ``ValueError`` for a buffer that the next step would find in another form than the one that is traced."""
    for name, held in after.items():
        if (held.shape, held.dtype) != (before[name].shape, before[name].dtype):
            raise ValueError(
                f"the buffer {name} is {tuple(before[name].shape)}, {before[name].dtype}, before a step and "
                f"{tuple(held.shape)}, {held.dtype}, after it"
            )


Held = tuple[TensorDict, Mapping[str, TensorDict], TensorDict]
"""Parameters, slots and buffers of a state."""
Written = tuple[TensorDict, Mapping[str, TensorDict]]
"""Parameters and slots, or their adjoints, where they are to be written."""
_Numbers = tuple[Tensor, Tensor]


def held(state: StudentState) -> Held:
    """The state as a tree of tensors."""
    return state.params, state.slots, state.buffers


def _student(held: Held) -> StudentState:
    params, slots, buffers = held
    return StudentState(params, buffers, dict(slots))


def _numbers(device: torch.device) -> _Numbers:
    lr, index = torch.ones(2, dtype=torch.float64, device=device).unbind()
    return lr.clone(), index.clone()


def _like(tree: Any) -> Any:
    return pytree.tree_map(lambda leaf: torch.zeros_like(leaf, memory_format=torch.contiguous_format), tree)


def _write(places: Written, found: tuple[Tensors, Mapping[str, Tensors]]) -> None:
    params, slots = places
    for name, held in params.items():
        held.copy_(found[0][name])
    for slot, all_held in slots.items():
        for name, held in all_held.items():
            held.copy_(found[1][slot][name])
