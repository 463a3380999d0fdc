"""Blocks of steps, and of steps back, as recorded calls: compiled steps in a row, as one function of tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from l2t_bench.errors import said_first
from l2t_bench.problem import Step
from l2t_bench.steppers.compiling import Functions, inputs
from l2t_bench.steppers.recording import Recorder, StaticCall, Tree
from l2t_bench.steppers.tracing import Held, Written
from l2t_bench.tensors import TensorDict, relative_difference

# Named tuples and no dataclasses: these are trees of tensors to torch.


class Ahead(NamedTuple):
    """What is known of a step before its state is: batch and s_t, and its numbers (lr, index), float64 of shape ()."""

    leaves: list[Tensor]
    numbers: list[Tensor]


class Start(NamedTuple):
    """Where a block begins."""

    state: Held
    theta: TensorDict


class Taken(NamedTuple):
    """What comes of a step of a block; ``kept`` is for the way back."""

    after: Written
    loss: Tensor
    buffers: TensorDict
    kept: list[Tensor]


class End(NamedTuple):
    """Where a block back begins: the states of its steps, the last one first, and the adjoint after the last one."""

    states: list[Held]
    kept: list[list[Tensor]]
    theta: TensorDict
    bars: Written
    d_theta: TensorDict


class WentBack(NamedTuple):
    """The adjoint before the block's earliest step, d_theta with the block's; of each step loss, norm, hyper."""

    bars: Written
    d_theta: TensorDict
    told: list[list[Tensor]]


def ahead_of(steps: Sequence[Step], leaves: Sequence[list[Tensor]], device: torch.device) -> list[Ahead]:
    """The numbers of all steps go to the device in one copy that the host does not wait for."""
    numbers = torch.tensor([[step.lr, step.index] for step in steps], dtype=torch.float64)
    if device.type == "cuda":
        numbers = numbers.pin_memory().to(device, non_blocking=True)
    return [Ahead(own, list(pair.unbind())) for own, pair in zip(leaves, numbers, strict=True)]


def forward_block(functions: Functions) -> Callable[[list[Ahead], Start], list[Taken]]:
    """Steps in a row."""

    def forward(ahead: list[Ahead], start: Start) -> list[Taken]:
        (params, slots, buffers), theta = start
        found: list[Taken] = []
        with torch.no_grad():
            for leaves, numbers in ahead:
                after = _places_like(params, slots)
                given = inputs((params, slots, buffers), theta, leaves, numbers, flat(after))
                loss, *others = functions.forward(*given)
                buffers, kept = dict(zip(buffers, others, strict=False)), others[len(buffers) :]
                found.append(Taken(after, loss, buffers, kept))
                params, slots = after
        return found

    return forward


def back_block(functions: Functions) -> Callable[[list[Ahead], End], WentBack]:
    """Steps back in a row, the last step first. Writes into the adjoint and the d_theta that it is given."""

    def back(ahead: list[Ahead], end: End) -> WentBack:
        told: list[list[Tensor]] = []
        with torch.no_grad():
            for (leaves, numbers), state, kept in zip(ahead, end.states, end.kept, strict=True):
                written = [*flat(end.bars), *end.d_theta.values(), *kept]
                told.append(list(functions.back(*inputs(state, end.theta, leaves, numbers, written))))
        return WentBack(end.bars, end.d_theta, told)

    return back


@dataclass(frozen=True)
class Block:
    """A function of the steps known ahead and of where they begin, with first arguments: to be recorded."""

    function: Callable[[list[Ahead], Tree], Tree]
    ahead: list[Ahead]
    now: Tree


def recorded(block: Block, recorder: Recorder, device: torch.device) -> StaticCall | str:
    """The block as a recorded call that was held to the plain one, or why there is none.

    Whatever goes wrong is a reason to take the steps one by one. The call is tried on other steps than those that it
    was recorded with: a number that the host read while recording would be in it for ever.
    """
    if any(tensor.device != device for tensor in pytree.tree_leaves((block.ahead, block.now))):
        return f"its batches do not all lie on {device}"
    try:
        call = StaticCall(block.function, block.ahead, block.now, recorder)
        others = [Ahead(leaves, [number / 2 for number in numbers]) for leaves, numbers in reversed(block.ahead)]
        expected = block.function(others, pytree.tree_map(torch.clone, block.now))
        difference = _difference(call(others, block.now), expected)
    except Exception as error:  # captures have their own ways to fail, and memory may not do
        return f"a block of its steps cannot be recorded: {said_first(error)}"
    floats = [tensor.dtype for tensor in pytree.tree_leaves(block.now) if tensor.is_floating_point()]
    if not difference <= max(torch.finfo(dtype).eps for dtype in floats) ** 0.5:
        return f"a recorded block of its steps differs from the plain one by {difference:.1g}"
    return call


def _difference(ours: Tree, theirs: Tree) -> float:
    """The largest of any tensor's; not a number where one is not."""
    pairs = zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True)
    apart = torch.tensor([relative_difference({"": our}, {"": their}) for our, their in pairs])
    return float(apart.max())


def _places_like(params: TensorDict, slots: Mapping[str, TensorDict]) -> Written:
    params, slots = pytree.tree_map(torch.empty_like, (params, slots))
    return params, slots


def flat(places: Written) -> list[Tensor]:
    """Parameters, then slots."""
    params, slots = places
    return [*params.values(), *(tensor for held in slots.values() for tensor in held.values())]
