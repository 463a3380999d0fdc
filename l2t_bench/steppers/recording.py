"""A function recorded once over tensors that stay where they are, and replayed on what is copied into them.

How it is recorded and replayed is a ``Recorder``'s: as a CUDA graph (``cuda_graphs``), or, on any device, by calling it
again on the same tensors (``Reruns``), which is what a graph is held to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Tree = Any
"""Dicts, lists and tuples of tensors."""


class Recording(Protocol):
    """A call that was recorded: ``replay`` makes it again, from the same tensors into the same ``outputs``."""

    outputs: Tree

    def replay(self) -> None: ...


class Lane(Protocol):
    """Where inputs are copied while other work goes on: ``put`` begins a copy, after ``join`` it may be read."""

    def put(self, places: list[Tensor], tensors: list[Tensor]) -> None: ...
    def join(self) -> None: ...


class Recorder(Protocol):
    """Records calls without arguments, and has lanes for their inputs. Hashable: equal ones record alike.

    ``record`` may make the call several times, and raises whatever speaks against recording it.
    """

    def record(self, function: Callable[[], Tree]) -> Recording: ...
    def lane(self) -> Lane: ...


class StaticCall:
    """``function(ahead, now)``, a pure function but for what it writes into its own arguments, as a recorded call.

    ``ahead`` is known before the work begins on which ``now`` hangs, and may be staged while that work is done. The
    arguments at construction are examples: of the form that all others must have, and what is recorded with. Each call
    copies all that it reads, so that calls of different runs may follow one another in any order.
    """

    def __init__(self, function: Callable[[Tree, Tree], Tree], ahead: Tree, now: Tree, recorder: Recorder) -> None:
        own_ahead, own_now = (pytree.tree_map(_place, tree) for tree in (ahead, now))
        self._ahead, self._now = pytree.tree_leaves(own_ahead), pytree.tree_leaves(own_now)
        self._slot = [_place(tensor) for tensor in self._ahead]
        self._staged: Tree = None
        self._lane = recorder.lane()
        copy_all(self._ahead, pytree.tree_leaves(ahead))  # before anything is tried: an index at random may be none
        copy_all(self._now, pytree.tree_leaves(now))
        self._recording = recorder.record(lambda: function(own_ahead, own_now))

    def __call__(self, ahead: Tree, now: Tree, then: Tree = None) -> Tree:
        """What the function returns, in places that the next call overwrites: to be copied before that.

        ``then``: what will be ``ahead`` at the next call; it is staged beside this one's work.
        """
        if self._staged is not ahead:
            self._stage(ahead)
        self._lane.join()
        copy_all(self._ahead, self._slot)
        self._staged = None
        if then is not None:
            self._stage(then)
        copy_all(self._now, pytree.tree_leaves(now))
        self._recording.replay()
        return self._recording.outputs

    def _stage(self, ahead: Tree) -> None:
        self._lane.put(self._slot, pytree.tree_leaves(ahead))
        self._staged = ahead


def _place(tensor: Tensor) -> Tensor:
    """As ``tensor`` lies: compiled code expects the strides that it was compiled for."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def copy_all(places: list[Tensor], tensors: list[Tensor]) -> None:
    """Copy each tensor to its place; one call for all of them, few kernels on a GPU."""
    if len(places) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for {len(places)} places")
    if places:
        with torch.no_grad():
            torch._foreach_copy_(places, tensors)


def kept(outputs: Tree) -> Tree:
    """Copies of a call's outputs, which the next call leaves as they are."""
    copies = pytree.tree_map(torch.empty_like, outputs)
    copy_all(pytree.tree_leaves(copies), pytree.tree_leaves(outputs))
    return copies


class _Rerun:
    """Calls the function again, and leaves what comes of it where the first call did."""

    def __init__(self, function: Callable[[], Tree]) -> None:
        self._function = function
        self.outputs = function()

    def replay(self) -> None:
        copy_all(pytree.tree_leaves(self.outputs), pytree.tree_leaves(self._function()))


class _Here:
    """No other lane: a copy is done at once."""

    def put(self, places: list[Tensor], tensors: list[Tensor]) -> None:
        copy_all(places, tensors)

    def join(self) -> None:
        """There is nothing to wait for."""


@dataclass(frozen=True)
class Reruns:
    """Records nothing: the reference, on any device."""

    def record(self, function: Callable[[], Tree]) -> Recording:
        return _Rerun(function)

    def lane(self) -> Lane:
        return _Here()
