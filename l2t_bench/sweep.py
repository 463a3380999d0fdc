"""The reverse sweep that hand-written methods share: from w_bar at omega_T back to d_theta, step by step.

A stepper goes back through one step; here is the loop around it, which watches what comes of it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.health import AdjointWatch
from l2t_bench.kept_run import WayBack
from l2t_bench.measure import Meter
from l2t_bench.optimizers import Adjoint
from l2t_bench.rollout import ReplayCheck, Rollout
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.tensors import TensorDict


@dataclass(frozen=True)
class Swept:
    """What a sweep found: d_theta, the adjoint before its earliest step, and derivatives by the optimiser's numbers.

    ``hyper["lr"]`` has an entry for each step swept, in the order of time; the others are numbers, shape ().
    """

    d_theta: TensorDict
    adjoint: Adjoint
    hyper: Mapping[str, Tensor] = field(default_factory=dict)


class _Guard:
    """Looks at the adjoint and at the replayed losses every so many steps: each look waits for the device."""

    def __init__(self, rollout: Rollout, watch: AdjointWatch) -> None:
        self._replay, self._watch = ReplayCheck(rollout), watch

    def see(self, index: int, loss: Tensor) -> None:
        if self._replay.see(index, loss):
            self._watch.check()

    def look(self) -> None:
        """Raises ``UserError`` for a step that was not the one replayed, ``Diverged`` for an adjoint not finite."""
        self._replay.look()
        self._watch.check()


def reverse_sweep(
    rollout: Rollout,
    backwards: Iterable[Visit],
    w_bar: TensorDict,
    meter: Meter,
    *,
    watch: AdjointWatch | None = None,
    stepper: EagerStepper | None = None,
    begun: WayBack | None = None,
    after: Callable[[int, Adjoint], None] | None = None,
) -> Swept:
    """Go back along ``backwards`` (the steps, last one first) with w_bar the adjoint of the state after them.

    ``stepper`` goes back through each; by default in plain torch, reverse-over-reverse. ``begun``: how far an earlier
    process has come. ``after`` is told each step, or the earliest of a group, with the adjoint before it.

    Raises ``Diverged`` with the step from which the adjoint is not finite, and ``UserError`` for a step that cannot be
    replayed.
    """
    watch, stepper = watch or AdjointWatch(), stepper or EagerStepper(rollout, meter)
    guard = _Guard(rollout, watch)
    found: list[Mapping[str, Tensor]] = []
    adjoint = stepper.begin_back(w_bar) if begun is None else stepper.go_on_back(begun)
    for visits in _in_groups(backwards, stepper.at_once):
        all_passed = stepper.back_all(visits, adjoint)
        adjoint = all_passed[-1].adjoint
        for visit, passed in zip(visits, all_passed, strict=True):
            found.append(passed.hyper)
            guard.see(visit.step.index, passed.loss)
            meter.count(vector_products=1, recomputed_steps=0 if visit.second_order else 1)
            watch.see_norm(visit.step.index, passed.norm, passed.adjoint.params if passed is all_passed[-1] else None)
        if after is not None:
            after(visits[-1].step.index, adjoint)
        del visits, visit, all_passed, passed  # else a step's graph lives until the next step's is made
    guard.look()
    return Swept(stepper.d_theta(), adjoint, _hyper(found))


def _in_groups(visits: Iterable[Visit], size: int) -> Iterator[list[Visit]]:
    """So many visits at a time, and what is left at the end; none is held while the next is asked for."""
    rest = iter(visits)
    while group := list(islice(rest, size)):
        yield group
        del group


def _hyper(found: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """By name: the lr's of every step in the order of time, the sum over the steps of all others."""
    if not found:
        return {}
    stacked = {name: torch.stack([each[name] for each in reversed(found)]) for name in found[-1]}
    return {name: parts if name == "lr" else parts.sum(0) for name, parts in stacked.items()}
