"""A function recorded once over tensors that stay where they are, and replayed on what is copied into them.

How it is recorded and replayed is a ``Recorder``'s: as a CUDA graph (``cuda_graphs``), or, on any device, by calling it
again on the same tensors (``Reruns``), which is what a graph is held to.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Tree = Any
"""Dicts, lists and tuples of tensors, named ones too; ``None`` holds none."""


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
        own_ahead, own_now = (tree_of(tree, map(place_like, leaves_of(tree))) for tree in (ahead, now))
        self._ahead, self._now = leaves_of(own_ahead), leaves_of(own_now)
        self._slot = [place_like(tensor) for tensor in self._ahead]
        self._staged: Tree = None
        self._lane = recorder.lane()
        copy_all(self._ahead, leaves_of(ahead))  # before anything is tried: an index at random may be none
        copy_all(self._now, leaves_of(now))
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
        copy_all(self._now, leaves_of(now))
        self._recording.replay()
        return self._recording.outputs

    def _stage(self, ahead: Tree) -> None:
        self._lane.put(self._slot, leaves_of(ahead))
        self._staged = ahead


def place_like(tensor: Tensor) -> Tensor:
    """Not initialised, and lies as ``tensor`` does: compiled code expects the strides that it was compiled for."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def copy_all(places: list[Tensor], tensors: list[Tensor]) -> None:
    """Copy each tensor to its place; a call for all of a kind, which is few kernels on a GPU."""
    if len(places) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for {len(places)} places")
    alike: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for place, tensor in zip(places, tensors, strict=True):
        of_kind = alike.setdefault(place.dtype, ([], []))
        of_kind[0].append(place)
        of_kind[1].append(tensor)
    with torch.no_grad():
        for of_kind in alike.values():
            torch._foreach_copy_(*of_kind)


def kept(outputs: Tree) -> Tree:
    """Copies of a call's outputs, which the next call leaves as they are."""
    tensors = leaves_of(outputs)
    copies = [torch.empty_like(tensor) for tensor in tensors]
    copy_all(copies, tensors)
    return tree_of(outputs, iter(copies))


def leaves_of(tree: Tree) -> list[Tensor]:
    """The tensors of a tree, in order. As ``torch.utils._pytree`` has it, at a fifth of its time: it is asked often."""
    found: list[Tensor] = []
    _gather(tree, found)
    return found


def _gather(tree: Tree, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif tree is not None:
        for part in tree.values() if isinstance(tree, dict) else tree:
            _gather(part, found)


def tree_of(like: Tree, leaves: Iterator[Tensor]) -> Tree:
    """A tree as ``like``, of other tensors."""
    if isinstance(like, Tensor):
        return next(leaves)
    if isinstance(like, dict):
        return {name: tree_of(part, leaves) for name, part in like.items()}
    if like is None:
        return None
    parts = [tree_of(part, leaves) for part in like]
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)


class _Rerun:
    """Calls the function again, and leaves what comes of it where the first call did."""

    def __init__(self, function: Callable[[], Tree]) -> None:
        self._function = function
        self.outputs = function()

    def replay(self) -> None:
        copy_all(leaves_of(self.outputs), leaves_of(self._function()))


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
