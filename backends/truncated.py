"""Truncated reverse-mode differentiation: the last steps of the run only (Shaban et al. 2019)."""

from collections import deque
from dataclasses import dataclass, replace

from l2t_bench.adjoint import Visit
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.kept_run import There
from l2t_bench.prediction import Scaling
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.steppers.telling import told_by
from l2t_bench.stored import StoredRMD
from l2t_bench.sweep import Swept, reverse_sweep
from l2t_bench.tensors import Tensors, added, global_norm, scaled, zeros_like

_SHARES = (50, 20, 10, 4, 2)  # of a run, that its window may be one of


@dataclass(frozen=True)
class TruncatedRMD(StoredRMD):
    """``rmd`` that goes back through the last ``window`` steps and leaves what theta did before them out.

    Memory K*P + G with the store ``all``, time of the reverse pass by K and not T. The error is not monotone in K:
    quote cosine and norm ratio to the exact gradient. What it can say by itself: ``diagnostics['w_bar_at_cut']``, the
    norm of the adjoint where the rest is left out (through which all of the rest would have come), and its share of
    |w_bar_T|. With K >= T it is the exact method, bit for bit, and says so.

    ``every`` = J: for teaching online, M~ is taken at each J-th step of the run and at its end, each gone back from
    through the last K steps; the gradient, and the value, are the means over those, and ``cut_share`` is that of the
    windows that something is cut from. ``every`` = 0: at omega_T alone.
    """

    window: int = 20
    every: int = 0

    name = "truncated"
    capabilities = Capabilities(Exactness.TRUNCATED, optimizers=("SGD", "Adam"), memory_law="K*P + G", shards=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window < 1:
            raise UserError(f"truncated: window must be at least 1 step, not {self.window}")
        if self.every < 0:
            raise UserError(f"truncated: every must be a number of steps, or 0 for the end alone, not {self.every}")
        if self.every and self.students > 1:
            raise UserError("truncated: every goes with students=1: the windows of a run are gone back through alone")
        if self.every and (self.store != "all" or self.hyper or self.activations != "some"):
            raise UserError(
                "truncated: every keeps the last window of states in memory, and nothing else: store=all, hyper=false, "
                "activations=some"
            )

    def steps_back(self, horizon: int) -> int:
        return min(self.window, horizon)

    def compiled_step_bytes(self, problem: TeachingProblem) -> int | None:
        return None if self.every else super().compiled_step_bytes(problem)  # of a window states are kept whole

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        found = super().scaling(problem, horizon)
        if not self.every:
            return found
        passes, cut = -(-horizon // self.every), min(self.window, horizon)
        shorter = (cut - 1) // self.every  # than the window are as many runs, of J, 2 J, ... steps
        back = self.every * shorter * (shorter + 1) // 2 + (passes - shorter) * cut
        return replace(found, steps_back=back, steps_kept=found.steps_back, dev_passes=passes)

    def choices(self, horizon: int) -> tuple[Backend, ...]:
        """Windows of a share of the run, each in memory: what a window costs is little beside what it leaves out."""
        windows = sorted({max(1, horizon // share) for share in _SHARES} - {horizon})
        return tuple(replace(self, window=window) for window in windows)

    def keeping_refusal(self) -> Refused | None:
        if self.every:
            return Refused(f"{self}: a run with every= cannot be gone on with by another process", "every=0 can")
        return super().keeping_refusal()

    def differentiate(self, run: Run) -> Derivative:
        return self._online(run) if self.every else self.there_and_back(run)

    def derivative(self, horizon: int, there: There, swept: Swept) -> Derivative:
        whole = self.window >= horizon
        at_cut, share = global_norm(swept.adjoint.params), _share(swept.adjoint.params, there.w_bar)
        return Derivative(
            swept.d_theta,
            there.value,
            there.final,
            swept.adjoint.params if whole else None,
            self.of_whole_run if whole else None,
            {} if whole else {"w_bar_at_cut": at_cut, "cut_share": share},
            swept.hyper,
        )

    def _online(self, run: Run) -> Derivative:
        """The tail of the run is kept as it goes; every J steps it is gone back through, and stays."""
        tail: deque[Visit] = deque(maxlen=self.window)
        total, values = zeros_like(run.theta), []
        at_cuts: list[float] = []
        shares: list[float] = []
        stepper, state = self.stepper(run), run.rollout.initial()
        index = 0
        while index < run.horizon:
            ahead = run.rollout.known_ahead(index, min(stepper.at_once, self.every - index % self.every))
            with run.forward(steps=ahead):
                steps = [run.rollout.step(at, state) for at in range(index, index + ahead)]
                states = [state, *stepper.advance_all(steps, state)]
                tail.extend(Visit(*pair) for pair in zip(steps, self._visited(run, states[:-1]), strict=True))
                state, index = states[-1], index + ahead
            if index % self.every == 0 or index == run.horizon:
                value, w_bar = run.dev_gradient(state, index)
                watch = run.watch if index == run.horizon else None
                with run.reverse():
                    swept = reverse_sweep(run.rollout, reversed(tail), w_bar, run.meter, watch=watch, stepper=stepper)
                total = added(total, swept.d_theta)
                if index > self.window:
                    at_cuts.append(global_norm(swept.adjoint.params))
                    shares.append(_share(swept.adjoint.params, w_bar))
                values.append(value)
        at_cut, share = (sum(found) / max(1, len(found)) for found in (at_cuts, shares))
        derivative = Derivative(
            scaled(1 / len(values), total),
            sum(values) / len(values),
            state,
            diagnostics={"objectives": float(len(values)), "w_bar_at_cut": at_cut, "cut_share": share},
        )
        return told_by(stepper, run.problem).with_result(derivative)

    def _visited(self, run: Run, states: list[StudentState]) -> list[StudentState]:
        return states if run.problem.optimizer.reads_slots else [state.without_slots() for state in states]


def _share(at_cut: Tensors, at_end: Tensors) -> float:
    """|w_bar| at the cut over |w_bar| at the end."""
    length = global_norm(at_end)
    return global_norm(at_cut) / length if length else 0.0
