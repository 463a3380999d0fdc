"""Forward mode: the student and its tangents along directions of theta, trained in one pass (Baydin et al. 2022)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import UserError
from l2t_bench.gradient import ANY, Capabilities, Exactness
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import ReplayCheck
from l2t_bench.sampling import SampleMean, standard_normal
from l2t_bench.second_order import ForwardOverReverse, Maker
from l2t_bench.tangent import Carried, TangentWatch, no_tangent, tangent_step
from l2t_bench.tensors import TensorDict, added, inner, scaled, zeros_like


@dataclass(frozen=True)
class ForwardMode(Backend):
    """The mean of <d_theta, v> v over n = ``directions`` standard normal v: unbiased, and nothing is gone back through.

    Memory n*P + G whatever T is; a forward-over-reverse product per direction and step. The directions follow the
    student's seed. With as many directions as theta has entries they are the unit vectors, the gradient is exact, and
    the result says so. A single direction keeps about 1/sqrt(N) of the gradient's direction, N the entries of theta.
    Buffers are constants, as everywhere. A layer without forward mode is refused at the first step. Each direction
    takes the step anew, and must find its loss: a step that cannot be taken twice is an error.
    """

    directions: int = 1

    name = "forward"
    capabilities = Capabilities(Exactness.STOCHASTIC, optimizers=(ANY,), memory_law="n*P + G")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.directions < 1:
            raise UserError(f"forward: directions must be at least 1, not {self.directions}")

    def second_order(self) -> Maker:
        return ForwardOverReverse

    @property
    def through_torch_func(self) -> bool:
        return True

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        del problem, horizon
        return Scaling(steps_back=0, bytes=0)

    def differentiate(self, run: Run) -> Derivative:
        whole = self.directions >= sum(tensor.numel() for tensor in run.theta.values())
        directions = list(_unit_vectors(run.theta) if whole else self._drawn(run))
        with run.forward():
            final, tangents, warned = self._train(run, directions)
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            slopes = [inner(w_bar, tangent.params) for tangent in tangents]
            parts = [scaled(slope, direction) for slope, direction in zip(slopes, directions, strict=True)]
        diagnostics = {"directions": float(len(directions))}
        if whole:
            d_theta = zeros_like(run.theta)
            for part in parts:
                d_theta = added(d_theta, part)
            return Derivative(d_theta, value, final, None, Exactness.EXACT, diagnostics, warnings=warned)
        mean = SampleMean(run.theta)
        for part in parts:
            mean.add(part)
        if mean.count > 1:
            diagnostics["standard_error"] = mean.relative_error()
        return Derivative(mean.mean, value, final, diagnostics=diagnostics, warnings=warned)

    def _train(self, run: Run, directions: list[TensorDict]) -> tuple[StudentState, list[Carried], tuple[str, ...]]:
        """omega_T, its tangents, and what must be known of how they grew."""
        state = run.rollout.initial()
        tangents = [no_tangent(state.params) for _ in directions]
        check, watch = ReplayCheck(run.rollout), TangentWatch()
        for index in range(run.horizon):
            step = run.rollout.step(index, state)
            state, tangents = self._step(run, check, step, state, list(zip(directions, tangents, strict=True)))
            watch.see(moved.params for moved in tangents)
        check.look()
        watch.look()
        return state, tangents, watch.warnings

    def _step(
        self,
        run: Run,
        check: ReplayCheck,
        step: Step,
        state: StudentState,
        along: list[tuple[TensorDict, Carried]],
    ) -> tuple[StudentState, list[Carried]]:
        """The step is taken once for each direction, and must be the same each time: each reads its batch again."""
        primal = Carried(state.params, state.slots)
        moved, losses = [], []
        for direction, tangent in along:
            found = tangent_step(run.problem, step, (run.theta, direction), primal, tangent, state.buffers)
            moved.append(found.tangent)
            losses.append(found.loss)
        run.rollout.observe(losses[0])
        check.see(step.index, _farthest(losses))
        run.meter.count(vector_products=len(along))
        return StudentState(found.primal.params, found.buffers, found.primal.slots), moved

    def _drawn(self, run: Run) -> Iterator[TensorDict]:
        return (standard_normal(run.theta, run.rollout.seed, index, 67) for index in range(self.directions))


def _farthest(losses: list[Tensor]) -> Tensor:
    """That of a step's losses which is farthest from the first: found without a wait for the device."""
    every = torch.stack(losses)
    return every[(every - every[0]).abs().argmax()]


def _unit_vectors(theta: TensorDict) -> Iterator[TensorDict]:
    for name, tensor in theta.items():
        for position in range(tensor.numel()):
            unit = {key: torch.zeros_like(other) for key, other in theta.items()}
            unit[name].view(-1)[position] = 1
            yield unit
