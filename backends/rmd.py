"""Reverse-mode differentiation by hand: Algorithm 1 of the paper, with the optimiser's own recursion."""

from dataclasses import dataclass
from typing import Literal

from l2t_bench.adjoint import reverse_sweep
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import train_student


@dataclass(frozen=True)
class ManualRMD(Backend):
    """The trajectory of omega_t is stored; the reverse loop replays each step and takes its vector products.

    Exact. Memory T*P + G (P parameters, G the graph of one step). Per step: one gradient forward; one gradient replayed
    and one vector product back. With momentum the paper's Eq. 4 and 5 are not the adjoint of the step that was taken;
    ``Optimizer.pull_back`` has the recursion that is.

    ``store``: what is kept of the trajectory. ``all``: every omega_t.
    """

    store: Literal["all"] = "all"

    name = "rmd"
    capabilities = Capabilities(Exactness.EXACT, optimizers=("SGD",), memory_law="T*P + G")

    def differentiate(self, run: Run) -> Derivative:
        trajectory: list[tuple[Step, StudentState]] = []
        with run.forward():
            final = train_student(run.rollout, lambda step, state: trajectory.append((step, state.to_replay())))
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            d_theta, d_omega0 = reverse_sweep(run.rollout, reversed(trajectory), w_bar, run.meter)
        return Derivative(d_theta, value, final, d_omega0)
