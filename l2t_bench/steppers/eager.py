"""The steps of a run in plain torch, one by one: the readable reference, and what every other stepper is held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from l2t_bench.adjoint import PhiAdjoint, Visit, taken_step
from l2t_bench.gradient import Walked
from l2t_bench.gradient_look import GradientLooks
from l2t_bench.kept_run import WayBack
from l2t_bench.measure import Meter
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker, StepGraph
from l2t_bench.sums import WHOLE_BATCH, BatchSums
from l2t_bench.tensors import TensorDict, added, zeros_like
from l2t_bench.training_step import StudentGradient, student_step


@dataclass(frozen=True)
class Passed:
    """What comes of going back through a step: the adjoint before it, that one's norm, the loss as replayed.

    ``hyper``: what the step adds to the derivatives by the optimiser's numbers, where they are asked for.
    """

    adjoint: Adjoint
    norm: Tensor
    loss: Tensor
    hyper: Mapping[str, Tensor] = field(default_factory=dict)


class EagerStepper:
    """Takes the steps of one run, takes them once more, and goes back through them. Made anew for each run.

    ``second_order`` makes the products of steps whose visit brings none. ``hyper``: also derivatives by the optimiser's
    numbers; the visits' states must then have their slots. ``sums``: how sums over a batch are taken.
    """

    def __init__(
        self,
        rollout: Rollout,
        meter: Meter,
        *,
        second_order: Maker = StepGraph,
        hyper: bool = False,
        sums: BatchSums = WHOLE_BATCH,
    ) -> None:
        self.rollout, self.meter = rollout, meter
        self._second_order, self._hyper, self._sums = sums.second_order(second_order), hyper, sums
        self._phi_adjoint = PhiAdjoint(rollout.problem, rollout.theta)
        self._gradient_looks = GradientLooks()
        self.because = ""  # why this engine is the one; empty where it was asked for by its name

    @property
    def walked(self) -> Walked:
        """What takes the steps, as far as it is known by now."""
        return Walked("eager", self.because)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be known of how the steps were taken."""
        return ()

    @property
    def at_once(self) -> int:
        """How many steps in a row it is best given, or given back, together."""
        return 1

    def reserve(self, first: int, steps: int, *, slots: bool) -> None:
        """The states from step ``first`` on, so many, will all be kept until the end, with their slots or without."""

    def advance(self, step: Step, state: StudentState) -> StudentState:
        """Take the next step of the run; its loss is observed."""
        after, loss = self._taken_plainly(step, state)
        self.rollout.observe(loss)
        return after

    def advance_all(self, steps: Sequence[Step], state: StudentState) -> list[StudentState]:
        """Take the next ``steps``, which hang on no state but ``state``; the states after each.

        Where ``reserve`` was told that slots are not kept, only the last state is sure to have its own.
        """
        states = [state]
        for step in steps:
            states.append(self.advance(step, states[-1]))
        return states[1:]

    def again(self, step: Step, state: StudentState) -> StudentState:
        """Take a step of the run once more: the same bits."""
        return self._taken_plainly(step, state)[0]

    def gradient(self, step: Step, state: StudentState) -> StudentGradient:
        """The loss gradient of a step, of which its store makes the step."""
        return self._sums.gradient(self.rollout.problem, state, step, self.rollout.phi(step))

    def _taken_plainly(self, step: Step, state: StudentState) -> tuple[StudentState, Tensor]:
        return student_step(self.rollout.problem, state, step, self.rollout.phi(step), self._sums.gradient)

    def begin_back(self, w_bar: TensorDict) -> Adjoint:
        """The adjoint of the state after the last step, from that of its parameters; d_theta begins at zero."""
        self._phi_adjoint = PhiAdjoint(self.rollout.problem, self.rollout.theta)
        return Adjoint(w_bar, {slot: zeros_like(w_bar) for slot in self.rollout.problem.optimizer.slot_names})

    def go_on_back(self, begun: WayBack) -> Adjoint:
        """``begin_back`` where an earlier process has come so far: the adjoint, d_theta as it was left."""
        self._phi_adjoint = PhiAdjoint(self.rollout.problem, self.rollout.theta)
        self._phi_adjoint.restore(self.rollout.steps[begun.index], begun.d_theta, begun.d_phi)
        return begun.adjoint

    @property
    def left_at(self) -> tuple[TensorDict, list[Tensor]]:
        """d_theta as it is chained so far, and d_phi that is not chained yet: copies, for ``go_on_back``."""
        return self._phi_adjoint.left_at

    def back(self, visit: Visit, adjoint: Adjoint) -> Passed:
        """The adjoint before a step from that after it; what the step adds to d_theta is kept."""
        if visit.second_order is None:
            self._look(visit)
        return passed_back(
            self.rollout.problem, self._phi_adjoint, visit, adjoint, self._second_order, hyper=self._hyper
        )

    def _look(self, visit: Visit) -> None:
        step, state = visit.step, visit.state
        self._gradient_looks.see(self.rollout.problem, state, step, lambda: self.gradient(step, state))

    def back_all(self, visits: Sequence[Visit], adjoint: Adjoint) -> list[Passed]:
        """Go back through ``visits``, the last step first; only the last adjoint is sure to be its step's."""
        passed: list[Passed] = []
        for visit in visits:
            passed.append(self.back(visit, passed[-1].adjoint if passed else adjoint))
        return passed

    def d_theta(self) -> TensorDict:
        """The derivative by theta of all steps gone back through since ``begin_back``."""
        self._phi_adjoint.flush()
        return self._phi_adjoint.d_theta


def passed_back(
    problem: TeachingProblem,
    phi_adjoint: PhiAdjoint,
    visit: Visit,
    adjoint: Adjoint,
    second_order: Maker,
    *,
    hyper: bool,
) -> Passed:
    """One step back: the adjoint before a step from that after it; d_phi is added to ``phi_adjoint``.

    The adjoint is pulled through the optimiser's update (``Optimizer.pull_back``), and the two vector products of the
    loss are added, [d2L/domega2] g_bar and [d2L/dtheta domega] g_bar, which one differentiation of dL/domega gives
    together (paper, Eq. 4 and 5, with the optimiser's own recursion in their place).
    """
    optimizer, step = problem.optimizer, visit.step
    phi = phi_adjoint.leaf(step)
    second = visit.second_order or second_order(problem, visit.state, step, phi)
    taken = taken_step(visit, second, gradients=optimizer.reads_gradients or hyper)
    with torch.no_grad():
        g_bar, carried = optimizer.pull_back(adjoint, taken)
        found = optimizer.hyper_gradients(adjoint, taken) if hyper else {}
    hessian_product, d_phi = second.products(g_bar)
    phi_adjoint.add(d_phi)
    params = added(carried.params, hessian_product)
    return Passed(Adjoint(params, carried.slots), problem.norm(params), second.loss, found)
