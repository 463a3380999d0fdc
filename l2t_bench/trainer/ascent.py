"""theta on its way up M~: the teacher's optimiser, its schedule, and the state that they leave."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from l2t_bench.errors import Diverged, UserError
from l2t_bench.tensors import TensorDict, Tensors, length_in_float64

Factor = Callable[[int, int], float]
"""(outer step, outer steps) -> what the lr is multiplied by."""


@dataclass(frozen=True)
class TeacherOptimizer:
    """How theta climbs: torch's Adam, its lr constant or falling to zero over the outer steps.

    The paper's is Adam(1e-4, 0.9, 0.999), constant (appendix B.4); the default is the one that was found to teach.

    ``schedule``: ``linear`` or ``cosine`` to zero, ``constant``, or a function of (outer step, outer steps) that gives
    what the lr is multiplied by. ``make``: another of torch's optimisers in Adam's place, made of the tensors that it
    moves: ``lambda tensors: torch.optim.AdamW(tensors, lr=1e-3)``; the schedule multiplies the lr that it has.
    """

    lr: float = 0.003
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["linear", "constant", "cosine"] | Factor = "linear"
    clip: float | None = 1.0  # bound on each student's |d_theta|, before averaging
    make: Callable[[list[Tensor]], torch.optim.Optimizer] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or (self.clip is not None and not self.clip > 0):
            raise UserError("the teacher's lr and clip must be positive")
        if not callable(self.schedule) and self.schedule not in ("linear", "constant", "cosine"):
            raise UserError(f"the teacher's schedule is linear, cosine or constant, not {self.schedule!r}")

    def factor_at(self, outer_step: int, outer_steps: int) -> float:
        """What the lr is multiplied by at an outer step. Raises ``UserError`` for a function that gives no factor."""
        if callable(self.schedule):
            return _factor(self.schedule(outer_step, outer_steps), outer_step)
        if self.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * outer_step / outer_steps))
        return 1 - outer_step / outer_steps if self.schedule == "linear" else 1.0

    def made(self, tensors: list[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of these tensors. Raises ``UserError`` for one that wants a closure, as L-BFGS does."""
        if self.make is None:
            return torch.optim.Adam(tensors, lr=self.lr, betas=self.betas)
        optimizer = self.make(tensors)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise UserError(f"the teacher's optimiser must be one of torch.optim, not {type(optimizer).__name__}")
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise UserError(
                f"{type(optimizer).__name__} evaluates the objective itself: take one that follows gradients"
            )
        return optimizer


class Ascent:
    """theta with the optimiser that moves it: what changes in place during a training."""

    def __init__(self, theta: Tensors, settings: TeacherOptimizer) -> None:
        self._theta = {name: tensor.detach().clone().requires_grad_() for name, tensor in theta.items()}
        self._settings = settings
        self._optimizer = settings.made(list(self._theta.values()))
        self._lrs = [float(group["lr"]) for group in self._optimizer.param_groups]
        moved = [id(param) for group in self._optimizer.param_groups for param in group["params"]]
        if sorted(moved) != sorted(map(id, self._theta.values())):
            raise UserError("the teacher's optimiser must be made of all the tensors that it is given")

    @property
    def description(self) -> dict[str, Any]:
        """The optimiser and its numbers, in words: what two trainings that climb alike have in common."""
        numbers = {name: repr(value) for name, value in sorted(self._optimizer.defaults.items())}
        schedule = self._settings.schedule
        named = getattr(schedule, "__qualname__", type(schedule).__name__) if callable(schedule) else schedule
        return {"name": type(self._optimizer).__name__, **numbers, "schedule": named, "clip": self._settings.clip}

    def step(self, d_theta: Tensors, outer_step: int, outer_steps: int) -> float:
        """Climb along ``d_theta``, and say how far theta moved. Raises ``Diverged`` where that is not finite."""
        before, factor = self.snapshot(), self._settings.factor_at(outer_step, outer_steps)
        for group, lr in zip(self._optimizer.param_groups, self._lrs, strict=True):
            group["lr"] = lr * factor
        upwards = bool(self._optimizer.defaults.get("maximize", False))
        for name, tensor in self._theta.items():
            gradient = d_theta[name].to(tensor)
            tensor.grad = gradient.clone() if upwards else -gradient
        self._optimizer.step()
        moved = distance(self.snapshot(), before)
        if not math.isfinite(moved):
            raise Diverged(
                f"the teacher is no longer finite after outer step {outer_step}: lower its lr, or clip its gradients"
            )
        return moved

    def snapshot(self) -> TensorDict:
        """theta as it stands, in memory of its own."""
        return {name: tensor.detach().clone() for name, tensor in self._theta.items()}

    def state(self) -> dict[str, Any]:
        """What the optimiser carries, a tree of numbers and tensors; in memory of its own."""
        return _copied(self._optimizer.state_dict())  # type: ignore[no-any-return]

    def restore(self, theta: Tensors, state: Mapping[str, Any]) -> None:
        """Go on from ``theta`` and from a ``state`` that has been through JSON: its tuples may be lists by now."""
        with torch.no_grad():
            for name, tensor in self._theta.items():
                tensor.copy_(theta[name])
        groups = [{key: _tupled(value, key) for key, value in group.items()} for group in state["param_groups"]]
        own = {int(index): held for index, held in state["state"].items()}
        self._optimizer.load_state_dict({"state": own, "param_groups": groups})
        params = [param for group in self._optimizer.param_groups for param in group["params"]]
        for index, exact in own.items():  # torch has cast what it loaded to the parameters' dtype
            loaded = self._optimizer.state[params[index]]
            loaded.update(
                {key: value.to(loaded[key].device) for key, value in exact.items() if isinstance(value, Tensor)}
            )


def _factor(given: Any, outer_step: int) -> float:
    if not isinstance(given, Real) or not 0 <= float(given) < math.inf:
        raise UserError(f"the teacher's schedule gives {given!r} at outer step {outer_step}: a factor is from 0 on")
    return float(given)


def distance(left: Tensors, right: Tensors) -> float:
    """|left - right| over all entries together."""
    return length_in_float64(tensor - right[name] for name, tensor in left.items())


def _tupled(value: Any, key: str) -> Any:
    return tuple(value) if isinstance(value, list) and key != "params" else value


def _copied(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, list) else tree
