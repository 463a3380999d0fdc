"""Compiled steps held to plain ones while they are used: what a loss reads from elsewhere may become another thing."""

import torch
from torch import Tensor

from l2t_bench.measure import Meter
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import ReplayCheck, Rollout
from l2t_bench.steppers.compiling import Functions, Wish
from l2t_bench.steppers.rows import adjoint_place
from l2t_bench.tensors import TensorDict, Tensors, global_norm, relative_difference
from l2t_bench.training_step import student_step


def same_step(wish: Wish, functions: Functions) -> bool:
    """Whether the step leads by the kept functions to where it leads by the problem as it is now.

    A number that the loss reads from elsewhere (a temperature, the factor of a gradient that a layer turns round) is a
    constant in compiled code, and may have become another one since. Loss, buffers, slots and the parameters' update
    are compared: of second derivatives alone nothing is seen.
    """
    problem, step, state = wish.problem, wish.step, wish.state
    with torch.no_grad():
        phi = problem.phi(wish.theta, step.features)
    plain, plain_loss = student_step(problem, state, step, phi)
    after = adjoint_place(state.params, tuple(state.slots))
    loss, *others = functions.take(step, state, wish.theta, wish.given.leaves, after)
    buffers = dict(zip(state.buffers, others, strict=False))
    rounding = torch.finfo(problem.dtype).eps
    bound, length = rounding**0.5, max(1.0, global_norm(state.params))
    before = state.params
    apart = [
        relative_difference({"loss": loss}, {"loss": plain_loss}, 1.0),
        relative_difference(buffers, plain.buffers, 1.0),
        *(relative_difference(after.slots[slot], held, rounding * length) for slot, held in plain.slots.items()),
        # An update is the difference of two parameters, and as uncertain as they are.
        relative_difference(_less(after.params, before), _less(plain.params, before), 4 * bound * length),
    ]
    return not any(each > bound for each in apart)  # numbers that are not finite are no other ones


def _less(left: Tensors, right: Tensors) -> TensorDict:
    return {name: tensor - right[name] for name, tensor in left.items()}


class PlainLosses:
    """Holds the losses of a run's compiled steps to those that plain torch gives at the same states.

    Those of all steps in the first run of ``functions``, as part of what compiling costs, and of those after them in a
    longer one; in any other run those of its middle and its last step.
    """

    def __init__(self, rollout: Rollout, meter: Meter) -> None:
        self._rollout, self._meter, self._check = rollout, meter, ReplayCheck(rollout)

    def see(self, functions: Functions, step: Step, state: StudentState) -> None:
        """To be called when the step's loss has been observed. Raises ``UserError`` where it is another one."""
        held, key = self._rollout.problem.derived, ("steps held to plain ones", functions)
        if step.index >= held.get(key, 0):
            held[key] = step.index + 1
            with self._meter.phase("compile"):
                self._check.see(step.index, self._plain(step, state))
        elif self._rollout.place_of(step.index):
            self._check.see(step.index, self._plain(step, state))

    def look(self) -> None:
        """At those that have not been looked at yet: at the end of the way there."""
        self._check.look()

    def _plain(self, step: Step, state: StudentState) -> Tensor:
        with torch.no_grad():
            phi = self._rollout.phi(step)
            return self._rollout.problem.train_loss(state.params, state.buffers, phi, step)[0]
