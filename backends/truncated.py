"""Truncated reverse-mode differentiation: the last steps of the run only (Shaban et al. 2019)."""

from collections import deque
from dataclasses import dataclass

from l2t_bench.adjoint import reverse_sweep
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import train_student


@dataclass(frozen=True)
class TruncatedRMD(Backend):
    """``rmd`` that goes back through the last ``window`` steps and leaves what theta did before them out.

    Memory K*P + G, time of the reverse pass by K and not T. The error is not monotone in K: quote cosine and norm ratio
    to the exact gradient. With K >= T it is the exact method, bit for bit, and says so.
    """

    window: int = 20

    name = "truncated"
    capabilities = Capabilities(Exactness.TRUNCATED, optimizers=("SGD",), memory_law="K*P + G")

    def __post_init__(self) -> None:
        if self.window < 1:
            raise UserError(f"truncated: window must be at least 1 step, not {self.window}")

    def kept_steps(self, horizon: int) -> int:
        return min(self.window, horizon)

    def differentiate(self, run: Run) -> Derivative:
        tail: deque[tuple[Step, StudentState]] = deque(maxlen=self.window)
        with run.forward():
            final = train_student(run.rollout, lambda step, state: tail.append((step, state.to_replay())))
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            d_theta, d_earliest = reverse_sweep(run.rollout, reversed(tail), w_bar, run.meter)
        if self.window >= run.horizon:
            return Derivative(d_theta, value, final, d_earliest, Exactness.EXACT)
        return Derivative(d_theta, value, final)
