"""Evolution strategies over theta: black-box estimates in the place of reinforcement learning (paper, section 3.4)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.batches import Batch
from l2t_bench.errors import Diverged, UserError
from l2t_bench.gradient import ANY, Capabilities, Exactness
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.rollout import check_replay, train_student
from l2t_bench.sampling import SampleMean, standard_normal
from l2t_bench.tensors import TensorDict, Tensors, added, scaled, size_in_bytes, zeros_like
from l2t_bench.training_step import student_step

_PES_WINDOW = 10
_NOISY = 0.5  # share of noise in the estimate's square that is warned of


@dataclass(frozen=True)
class Evolution(Backend):
    """The gradient of M~ smoothed by Gaussian noise of ``sigma`` on theta, from ``population`` perturbed students.

    ``es``: noise e against the unperturbed student, (M~(theta + e) - M~(theta)) e / sigma^2. ``antithetic``: mirrored
    pairs, (M~(theta + e) - M~(theta - e)) e / 2 sigma^2, which knows no error of even order. With ``window`` the noise
    is on the last steps alone: cheaper, and the estimate of another quantity, as with ``truncated``.

    ``pes`` (Vicol, Metz and Sohl-Dickstein 2021): new noise in each window of ``window`` steps (by default 10); the
    sum of all noise so far times the loss of the window, in mirrored pairs; unbiased over truncations. The objective
    is M~(omega_T) alone, and so the loss of a window is taken as what it adds to M~, from its beginning to its end:
    these differences telescope to M~(omega_T) - M~(omega_0), and later noise meets no earlier loss.

    A perturbed student takes the recorded steps: batches, s_t, learning rates, buffers and dev batches are constants.
    The noise follows the student's seed. No second derivative, none of M~ either. Memory P, time ``population`` + 1
    runs: one is unperturbed, and must be the recorded one.
    ``diagnostics``: ``standard_error``, |standard error| / |estimate|; ``rollouts``.
    """

    estimator: Literal["es", "pes", "antithetic"] = "antithetic"
    population: int = 32
    sigma: float = 0.01
    window: int | None = None

    name = "evolution"
    capabilities = Capabilities(Exactness.STOCHASTIC, optimizers=(ANY,), memory_law="P")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.estimator not in ("es", "pes", "antithetic"):
            raise UserError(f"evolution: there is no estimator {self.estimator!r}")
        if self.estimator == "es" and self.population < 2:
            raise UserError(f"evolution: population must be at least 2, not {self.population}")
        if self.estimator != "es" and (self.population < 4 or self.population % 2):
            raise UserError(f"evolution: {self.estimator} goes in pairs: an even population from 4 on")
        if not 0 < self.sigma < math.inf:
            raise UserError(f"evolution: sigma must be a positive number, not {self.sigma!r}")
        if self.window is not None and self.window < 1:
            raise UserError(f"evolution: window must be at least 1 step, not {self.window}")

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        buffers = size_in_bytes([problem.init_student(0).buffers])
        windows = -(-horizon // (self.window or _PES_WINDOW)) if self.estimator == "pes" else 1
        passes = 1 + self.population * windows
        return Scaling(horizon - self._first(horizon), bytes=horizon * buffers, dev_passes=passes)

    def differentiate(self, run: Run) -> Derivative:
        ends = self._window_ends(run.horizon)
        first = self._first(run.horizon)
        recorded = _Recorded()
        with run.forward():
            final = train_student(run.rollout, lambda step, state: recorded.visit(step, state, first))
        with run.meter.phase("dev"):
            dev = run.problem.final_dev_batches(final, run.horizon, run.rollout.seed)
            recorded.buffers.append(final.buffers)
            value = _objective(run.problem, final, final.buffers, dev)
        if not math.isfinite(value):
            raise Diverged("the dev objective is not finite at omega_T", run.horizon, (value,))
        mean = SampleMean(run.theta)
        with run.reverse():
            recorded.check(run)
            for member in range(self.population if self.estimator == "es" else self.population // 2):
                noise = self._noise(run, member, len(ends))
                ahead = _objectives(run, recorded, noise, self.sigma, ends, dev)
                mirrored = self.estimator != "es"
                behind = _objectives(run, recorded, noise, -self.sigma, ends, dev) if mirrored else [value] * len(ends)
                mean.add(_sample(noise, ahead, behind, self.sigma * (2 if mirrored else 1)))
        error = mean.relative_error()
        diagnostics = {"standard_error": error, "rollouts": float(self.population)}
        return Derivative(mean.mean, value, final, diagnostics=diagnostics, warnings=_warnings(error))

    def _first(self, horizon: int) -> int:
        """The step from which on theta is perturbed."""
        return 0 if self.estimator == "pes" or self.window is None else max(0, horizon - self.window)

    def _window_ends(self, horizon: int) -> list[int]:
        """The steps after which the noise changes, the last of them the horizon."""
        if self.estimator != "pes":
            return [horizon]
        return [*range(self.window or _PES_WINDOW, horizon, self.window or _PES_WINDOW), horizon]

    def _noise(self, run: Run, member: int, windows: int) -> Sequence[TensorDict]:
        return [standard_normal(run.theta, run.rollout.seed, member, window, 71) for window in range(windows)]


class _Recorded:
    """What perturbed students take from the unperturbed one: where they start, the steps, the buffers before each."""

    def __init__(self) -> None:
        self.start: StudentState | None = None
        self.steps: list[Step] = []
        self.buffers: list[TensorDict] = []

    def visit(self, step: Step, state: StudentState, first: int) -> None:
        if step.index < first:
            return
        self.start = self.start or state
        self.steps.append(step)
        self.buffers.append(state.buffers)

    def check(self, run: Run) -> None:
        """One student more, unperturbed: what a perturbed one reads again must be what the run was taken with."""
        assert self.start is not None  # a run has a step
        check_replay(run.rollout, self.start, self.steps)
        run.meter.count(recomputed_steps=len(self.steps))


def _objectives(
    run: Run, recorded: _Recorded, noise: Sequence[TensorDict], sigma: float, ends: Sequence[int], dev: Sequence[Batch]
) -> list[float]:
    """M~ of one perturbed student at the end of each window."""
    state = recorded.start
    assert state is not None  # a run has a step
    found: list[float] = []
    theta: TensorDict = {}
    perturbed = _perturbed(run.theta, noise, sigma)
    for at, step in enumerate(recorded.steps):
        theta = theta or next(perturbed)
        with torch.no_grad():
            phi = run.problem.phi(theta, step.features)
        state = student_step(run.problem, replace(state, buffers=recorded.buffers[at]), step, phi)[0]
        if step.index + 1 in ends:
            theta = {}
            with run.meter.phase("dev"):  # as long as the steps, where they are few: told apart, a prediction is right
                found.append(_objective(run.problem, state, recorded.buffers[at + 1], dev))
            if not math.isfinite(found[-1]):
                raise Diverged(
                    f"evolution: a student under perturbed theta diverged by step {step.index}: lower sigma, or the "
                    "student's lr",
                    step.index,
                    found,
                )
    run.meter.count(recomputed_steps=len(recorded.steps))
    return found


def _perturbed(theta: Tensors, noise: Sequence[TensorDict], sigma: float) -> Iterator[TensorDict]:
    at = {name: tensor.detach() for name, tensor in theta.items()}
    return (added(at, scaled(sigma, direction)) for direction in noise)


def _objective(problem: TeachingProblem, state: StudentState, buffers: Tensors, dev: Sequence[Batch]) -> float:
    total = sum(example_count(batch) for batch in dev)
    with torch.no_grad():
        return sum(
            problem.dev_objective(state.params, buffers, batch).item() * (example_count(batch) / total) for batch in dev
        )


def _warnings(error: float) -> tuple[str, ...]:
    if not math.isfinite(error):
        return ("M~ is the same for every perturbed student: a larger sigma, or an objective that tells them apart",)
    if error**2 > _NOISY:
        about = math.sqrt(max(0.0, 1 - error**2))  # |estimate|^2 is about |gradient|^2 + |standard error|^2
        return (
            f"the estimate is mostly noise (standard error {error:.2g} times its length, so a cosine to the gradient "
            f"of about {about:.1f}): a larger population",
        )
    return ()


def _sample(noise: Sequence[TensorDict], ahead: Sequence[float], behind: Sequence[float], divisor: float) -> TensorDict:
    """The sum over windows of all noise so far times what the window adds to the difference of M~, over ``divisor``."""
    so_far, found, before = zeros_like(noise[0]), zeros_like(noise[0]), 0.0
    for direction, right, left in zip(noise, ahead, behind, strict=True):
        so_far = added(so_far, direction)
        found = added(found, scaled((right - left - before) / divisor, so_far))
        before = right - left
    return found
