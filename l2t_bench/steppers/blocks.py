"""Blocks of steps, and of steps back, as recorded calls: compiled steps in a row, as one function of tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from l2t_bench.errors import said_first
from l2t_bench.problem import Step
from l2t_bench.steppers.compiling import Functions, NotFinite, inputs
from l2t_bench.steppers.recording import Recorder, StaticCall, Tree, leaves_of, place_like, tree_of
from l2t_bench.steppers.tracing import Held, Written
from l2t_bench.tensors import TensorDict, relative_difference

_ALIGNED = 2  # float64 numbers: sixteen bytes, to which compiled code wants its inputs aligned

# Named tuples and no dataclasses: these are trees of tensors.


class Ahead(NamedTuple):
    """What is known of N steps before their states are.

    ``leaves``: batches and s_t, each tensor (N, ...) with a row a step. ``numbers`` (N, 2, 2): lr and index of each
    step, float64, each twice.
    """

    leaves: list[Tensor]
    numbers: Tensor

    def steps(self) -> list[tuple[list[Tensor], list[Tensor]]]:
        """The leaves and the numbers, of shape (), of each step."""
        leaves = zip(*(leaf.unbind() for leaf in self.leaves), strict=True)
        numbers = self.numbers[..., 0].unbind()
        return [(list(own), list(pair.unbind())) for own, pair in zip(leaves, numbers, strict=True)]


class Start(NamedTuple):
    """Where a block begins."""

    state: Held
    theta: TensorDict


class Taken(NamedTuple):
    """What comes of a step of a block; ``kept`` is for the way back."""

    after: Written
    buffers: TensorDict
    kept: list[Tensor]


class WentThere(NamedTuple):
    """What comes of each step, and their losses (N,)."""

    steps: list[Taken]
    losses: Tensor


class End(NamedTuple):
    """Where a block back begins: the states of its steps, the last one first, and the adjoint after the last one."""

    states: list[Held]
    kept: list[list[Tensor]]
    theta: TensorDict
    bars: Written
    d_theta: TensorDict


class WentBack(NamedTuple):
    """The adjoint before the block's earliest step, d_theta with the block's; losses, norms and hyper, each (N,)."""

    bars: Written
    d_theta: TensorDict
    told: list[Tensor]


def ahead_of(steps: Sequence[Step], leaves: list[Tensor], device: torch.device) -> Ahead:
    """The numbers of all steps go to the device in one copy that the host does not wait for."""
    numbers = torch.tensor(
        [[[number] * _ALIGNED for number in (step.lr, step.index)] for step in steps], dtype=torch.float64
    )
    if device.type == "cuda":
        numbers = numbers.pin_memory().to(device, non_blocking=True)
    return Ahead(leaves, numbers)


def forward_block(functions: Functions) -> Callable[[Ahead, Start], WentThere]:
    """Steps in a row."""

    def forward(ahead: Ahead, start: Start) -> WentThere:
        (params, slots, buffers), theta = start
        found: list[Taken] = []
        losses: list[Tensor] = []
        with torch.no_grad():
            for leaves, numbers in ahead.steps():
                after = _places_like(params, slots)
                given = inputs((params, slots, buffers), theta, leaves, numbers, flat(after))
                loss, *others = functions.forward(*given)
                buffers, kept = dict(zip(buffers, others, strict=False)), others[len(buffers) :]
                found.append(Taken(after, buffers, kept))
                losses.append(loss)
                params, slots = after
            return WentThere(found, torch.stack(losses))

    return forward


def back_block(functions: Functions) -> Callable[[Ahead, End], WentBack]:
    """Steps back in a row, the last step first. Writes into the adjoint and the d_theta that it is given."""

    def back(ahead: Ahead, end: End) -> WentBack:
        told: list[list[Tensor]] = []
        with torch.no_grad():
            for (leaves, numbers), state, kept in zip(ahead.steps(), end.states, end.kept, strict=True):
                written = [*flat(end.bars), *end.d_theta.values(), *kept]
                told.append(functions.back(*inputs(state, end.theta, leaves, numbers, written)))
            return WentBack(end.bars, end.d_theta, [torch.stack(column) for column in zip(*told, strict=True)])

    return back


@dataclass(frozen=True)
class Block:
    """A function of the steps known ahead and of where they begin, with first arguments: to be recorded."""

    function: Callable[[Ahead, Tree], Tree]
    ahead: Ahead
    now: Tree


def recorded(block: Block, recorder: Recorder, device: torch.device) -> StaticCall | str:
    """The block as a recorded call that was held to the plain one, or why there is none.

    Whatever goes wrong is a reason to take the steps one by one. The call is tried on other steps than those that it
    was recorded with: a number that the host read while recording would be in it for ever.
    """
    if any(tensor.device != device for tensor in leaves_of((block.ahead, block.now))):
        return f"its batches do not all lie on {device}"
    try:
        call = StaticCall(block.function, block.ahead, block.now, recorder)
        others = Ahead([_backwards(leaf) for leaf in block.ahead.leaves], block.ahead.numbers.flip(0) / 2)
        expected = block.function(others, tree_of(block.now, map(torch.clone, leaves_of(block.now))))
        difference = _difference(call(others, block.now), expected)
        # Losses, and on the way back norms, come last; what is kept between the ways may hold a mask of infinities.
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in leaves_of(expected[-1]))
    except Exception as error:  # captures have their own ways to fail, and memory may not do
        return f"a block of its steps cannot be recorded: {said_first(error)}"
    floats = [tensor.dtype for tensor in leaves_of(block.now) if tensor.is_floating_point()]
    if not finite:
        return NotFinite("a block of its steps gives numbers that are not finite")
    if not difference <= max(torch.finfo(dtype).eps for dtype in floats) ** 0.5:
        return f"a recorded block of its steps differs from the plain one by {difference:.1g}"
    return call


def _backwards(rows: Tensor) -> Tensor:
    return place_like(rows).copy_(rows.flip(0))


def _difference(ours: Tree, theirs: Tree) -> float:
    """The largest of any part's; not a number where one is not.

    The tensors of a dict are one part: where d_theta by V is zero, what stands there is rounding, which a GPU's kernels
    do not repeat.
    """
    apart = [relative_difference(*pair) for pair in zip(_parts(ours), _parts(theirs), strict=True)]
    return float(torch.tensor(apart).max())


def _parts(tree: Tree) -> list[TensorDict]:
    """The dicts of a tree, and each of its other tensors as one of its own."""
    if isinstance(tree, Tensor):
        return [{"": tree}]
    if isinstance(tree, dict) and all(isinstance(held, Tensor) for held in tree.values()):
        return [tree]
    return [part for held in (tree.values() if isinstance(tree, dict) else tree) for part in _parts(held)]


def _places_like(params: TensorDict, slots: Mapping[str, TensorDict]) -> Written:
    return _empty_like(params), {slot: _empty_like(held) for slot, held in slots.items()}


def _empty_like(tensors: TensorDict) -> TensorDict:
    return {name: torch.empty_like(tensor) for name, tensor in tensors.items()}


def flat(places: Written) -> list[Tensor]:
    """Parameters, then slots."""
    params, slots = places
    return [*params.values(), *(tensor for held in slots.values() for tensor in held.values())]
