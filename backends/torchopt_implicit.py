"""TorchOpt's implicit differentiation at omega_T (Ren et al. 2023; Lorraine, Vicol and Duvenaud 2020)."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchopt
from torch import Tensor
from torchopt.diff.implicit import custom_root

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import train_student

_TOLERANCE = 1e-10  # of the residual, relative; TorchOpt's own 1e-5 stops far above what float64 can do


@dataclass(frozen=True)
class TorchOptImplicit(Backend):
    """-[d2L/dtheta domega]' (H + damping)^-1 w_bar, as if omega_T were a stationary point of the training loss L.

    Another quantity than the derivative of the run ("stationary approximation"): it forgets how the student got there,
    and holds as far as training has converged. Never ranked beside exact methods on speed alone. Memory P + G.

    L is the mean loss of the last ``batches`` steps of the run, each with its own phi_t, plus the weight decay.
    ``solver``: ``cg`` (H must be positive definite once damped) or ``normal-cg`` (any H, twice the products and the
    condition squared), at most ``iterations``. ``diagnostics['residual']``: |(H + damping) u - w_bar| / |w_bar|.
    """

    solver: Literal["cg", "normal-cg"] = "cg"
    damping: float = 0.01
    iterations: int = 20
    batches: int = 10

    name = "torchopt-implicit"
    capabilities = Capabilities(Exactness.STATIONARY, optimizers=("SGD",), memory_law="P + G", groups=False)

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batches < 1 or self.damping < 0:
            raise UserError("torchopt-implicit: iterations and batches must be at least 1, damping not negative")

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        del problem
        return Scaling(steps_back=min(self.batches, horizon))

    def differentiate(self, run: Run) -> Derivative:
        def check(step: Step, state: StudentState) -> None:
            if step.index == 0:
                run.rollout.check_torch_func(step, state)

        with run.forward():
            final = train_student(run.rollout, check)
        value, w_bar = run.dev_gradient(final)
        tail = run.rollout.steps[-self.batches :]
        residuals: list[float] = []
        with run.reverse():
            solution = tuple(final.params.values())
            theta = tuple(run.theta.values())
            stationary = custom_root(_stationarity(run, final, tail), argnums=1, solve=self._solver(run, residuals))(
                lambda params, theta: params
            )
            with warnings.catch_warnings():  # TorchOpt calls torch.func.vjp by its old name
                warnings.simplefilter("ignore", FutureWarning)
                at_omega: Any = stationary(solution, theta)
                found = torch.autograd.grad(at_omega, theta, tuple(w_bar.values()))
        d_theta = dict(zip(run.theta, found, strict=True))
        return Derivative(d_theta, value, final, diagnostics={"residual": residuals[-1]})

    def _solver(self, run: Run, residuals: list[float]) -> Callable[..., Any]:
        def solve(matvec: Callable[..., Any], b: Sequence[Tensor]) -> Any:
            def damped(u: Sequence[Tensor]) -> tuple[Tensor, ...]:
                run.meter.count(vector_products=1)
                return tuple(h + self.damping * x for h, x in zip(matvec(u), u, strict=True))

            iterate = torchopt.linear_solve.solve_cg if self.solver == "cg" else torchopt.linear_solve.solve_normal_cg
            u = iterate(maxiter=self.iterations, rtol=_TOLERANCE)(damped, b)
            residuals.append(_distance(damped(u), b) / max(_distance(b), 1e-300))
            return u

        return solve


def _stationarity(run: Run, final: StudentState, tail: Sequence[Step]) -> Callable[..., tuple[Tensor, ...]]:
    """The gradient of the mean training loss of ``tail`` at given parameters: zero where training has converged."""
    names, theta_names = tuple(final.params), tuple(run.theta)
    decay = getattr(run.problem.optimizer, "weight_decay", 0.0)

    def mean_loss(params: tuple[Tensor, ...], theta: tuple[Tensor, ...]) -> Tensor:
        total = params[0].new_zeros(())
        for step in tail:
            phi = run.problem.phi(dict(zip(theta_names, theta, strict=True)), step.features)
            loss, _ = run.problem.train_loss(dict(zip(names, params, strict=True)), final.buffers, phi, step)
            total = total + loss / len(tail)
        return total + 0.5 * decay * sum((param.square().sum() for param in params), start=params[0].new_zeros(()))

    def gradient(params: tuple[Tensor, ...], theta: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return torch.func.grad(mean_loss)(params, theta)  # type: ignore[no-any-return]

    return gradient


def _distance(left: Sequence[Tensor], right: Sequence[Tensor] | None = None) -> float:
    away = left if right is None else [a - b for a, b in zip(left, right, strict=True)]
    return float(torch.sqrt(sum((part.square().sum() for part in away), start=left[0].new_zeros(()))))
