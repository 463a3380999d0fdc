"""Forward mode through a student's training: a step taken together with its tangent along a direction of theta.

Forward-over-reverse: one Jacobian-vector product of the step map, the loss gradient inside.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from l2t_bench.errors import Diverged
from l2t_bench.health import EXPLOSION, EXPLOSION_SPAN, REMEDY, length_of
from l2t_bench.problem import Step, TeachingProblem
from l2t_bench.rollout import LOOK_EVERY
from l2t_bench.second_order import quiet_forward_mode
from l2t_bench.tensors import TensorDict, Tensors, zeros_like


class Carried(NamedTuple):
    """What a student's step takes from the one before, or the tangent of that."""

    params: TensorDict
    slots: dict[str, TensorDict]


class Tangent(NamedTuple):
    """A step's outcome: the state after it, its tangent, and the step's loss and buffers, which have none."""

    primal: Carried
    tangent: Carried
    loss: Tensor
    buffers: TensorDict


def no_tangent(params: Tensors) -> Carried:
    """omega_0's: it does not depend on theta."""
    return Carried(zeros_like(params), {})


def tangent_step(
    problem: TeachingProblem,
    step: Step,
    theta: tuple[Tensors, Tensors],
    primal: Carried,
    tangent: Carried,
    buffers: Tensors,
) -> Tangent:
    """One student step with its tangent; ``theta`` is the point and the direction, ``buffers`` are constants.

    Raises what torch raises for a layer without forward mode (see ``l2t_bench.undifferentiable``).
    """

    def loss_of(params: TensorDict, theta: TensorDict) -> tuple[Tensor, Any]:
        loss, after = problem.train_loss(params, buffers, problem.phi(theta, step.features), step)
        return loss, (loss.detach(), after)

    def step_map(params: TensorDict, slots: dict[str, TensorDict], theta: TensorDict) -> tuple[Any, Any]:
        gradients, aux = torch.func.grad(loss_of, has_aux=True)(params, theta)
        return problem.optimizer.step(params, gradients, slots, index=step.index, lr=step.lr), aux

    at, along = theta
    primals, tangents = (*primal, _plain(at)), (*tangent, _plain(along))
    with quiet_forward_mode():
        after, slopes, (loss, held) = torch.func.jvp(step_map, primals, tangents, has_aux=True)  # type: ignore[misc]
    return Tangent(Carried(*after), Carried(*slopes), loss, held)


class TangentWatch:
    """|d omega_t / d theta v| of the longest direction, for t = 1, 2 ...; a look at them waits for the device."""

    def __init__(self) -> None:
        self._known: list[float] = []
        self._new: list[Tensor] = []

    def see(self, tangents: Iterable[Tensors]) -> None:
        """Those of every direction after one step more; of every so many steps there is a look."""
        self._new.append(torch.stack([length_of(tangent).double() for tangent in tangents]).max())
        if len(self._new) == LOOK_EVERY:
            self.look()

    def look(self) -> None:
        """Raises ``Diverged`` with the step that made a tangent infinite or no number, and the lengths up to there."""
        first, new = len(self._known), torch.stack(self._new).tolist() if self._new else []
        self._known, self._new = [*self._known, *new], []
        broken = next((at for at, length in enumerate(new, start=first) if not math.isfinite(length)), None)
        if broken is not None:
            raise Diverged(
                f"the student trained, but its derivative by theta is not finite after step {broken}: {REMEDY}",
                broken,
                self._known[: broken + 1][-LOOK_EVERY:],
            )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with what was looked at: growth by what is called an explosion of an adjoint, twice in a row.

        Unlike an adjoint a tangent is fed at every step: where theta comes to matter late, as after a warm-up, it grows
        once as fast. Not of the first ten steps, in which what depends on theta comes to be.
        """
        lengths = list(enumerate(self._known, start=1))[EXPLOSION_SPAN - 1 :]
        grown = zip(lengths, lengths[EXPLOSION_SPAN:], lengths[2 * EXPLOSION_SPAN :], strict=False)
        found = ((step, (before, between, after)) for (step, before), (_, between), (_, after) in grown)
        step = next((step for step, three in found if all(0 < a * EXPLOSION < b for a, b in pairwise(three))), None)
        if step is None:
            return ()
        return (
            f"the student's derivative by theta explodes from step {step} (more than {EXPLOSION:,.0f} times over "
            f"{EXPLOSION_SPAN} steps, and once more over the next): {REMEDY}",
        )


def _plain(tensors: Tensors) -> TensorDict:
    return {name: tensor.detach() for name, tensor in tensors.items()}
