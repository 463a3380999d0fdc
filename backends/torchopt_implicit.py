"""TorchOpt's implicit differentiation at omega_T (Ren et al. 2023; Lorraine, Vicol and Duvenaud 2020)."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any, Literal, NamedTuple

import torch
import torchopt
from torch import Tensor
from torchopt.diff.implicit import custom_root

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.linear_solvers import conjugate_residuals, smallest_ritz_of
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker, TorchStepGraph
from l2t_bench.stationary import mistrust, power_of_two_above, trained_twice_at_the_end
from l2t_bench.tensors import from_vector, scaled, to_vector

_Product = Callable[[Sequence[Tensor]], tuple[Tensor, ...]]
_TOLERANCE = 1e-10  # of the residual, relative; TorchOpt's own 1e-5 stops far above what float64 can do


@dataclass(frozen=True)
class TorchOptImplicit(Backend):
    """-[d2L/dtheta domega]' (H + damping)^-1 w_bar, as if omega_T were a stationary point of the training loss L.

    Another quantity than the derivative of the run ("stationary approximation"): it forgets how the student got there,
    and holds as far as training has converged. Never ranked beside exact methods on speed alone.

    L is the mean loss of the last ``batches`` steps of the run, each with its own phi_t, plus the weight decay. Memory
    P + K*G, K = ``batches``: TorchOpt keeps the graph of the whole of L for as long as it solves.
    ``solver``: ``cg`` (H must be positive definite once damped) or ``normal-cg`` (any H, twice the products and the
    condition squared), at most ``iterations``. ``diagnostics``: ``residual``, of |(H + damping) u - w_bar| to
    |w_bar|; ``smallest_ritz``, the smallest Ritz value of H in the space that ``cg`` goes through (``normal-cg`` sees
    no curvature, and takes at most ``iterations`` products more for it). Curvature that is not positive there, and a
    system that is not solved, are warnings.
    """

    solver: Literal["cg", "normal-cg"] = "cg"
    damping: float = 0.01
    iterations: int = 20
    batches: int = 10

    name = "torchopt-implicit"
    capabilities = Capabilities(Exactness.STATIONARY, optimizers=("SGD",), memory_law="P + K*G", groups=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver not in ("cg", "normal-cg"):
            raise UserError(f"torchopt-implicit: there is no solver {self.solver!r}")
        if self.iterations < 1 or self.batches < 1 or not 0 <= self.damping < math.inf:
            raise UserError("torchopt-implicit: iterations and batches must be at least 1, damping not negative")

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        del problem
        return Scaling(steps_back=min(self.batches, horizon))

    @property
    def through_torch_func(self) -> bool:
        return True

    def second_order(self) -> Maker:
        return TorchStepGraph

    def differentiate(self, run: Run) -> Derivative:
        with run.forward():
            final = trained_twice_at_the_end(run, self.batches)
        value, w_bar = run.dev_gradient(final)
        tail = run.rollout.steps[-self.batches :]
        looks: list[_Look] = []
        with run.reverse():
            solution = tuple(final.params.values())
            theta = tuple(run.theta.values())
            stationary = custom_root(_stationarity(run, final, tail), argnums=1, solve=self._solver(run, looks))(
                lambda params, theta: params
            )
            with warnings.catch_warnings():  # TorchOpt calls torch.func.vjp by its old name
                warnings.simplefilter("ignore", FutureWarning)
                at_omega: Any = stationary(solution, theta)
                scale = power_of_two_above(w_bar)
                found = torch.autograd.grad(at_omega, theta, tuple(each / scale for each in w_bar.values()))
        d_theta = scaled(scale, dict(zip(run.theta, found, strict=True)))
        diagnostics = {"residual": looks[-1].residual, "smallest_ritz": looks[-1].smallest - self.damping}
        warned = mistrust(
            str(self),
            w_bar,
            run.horizon,
            residual=looks[-1].residual,
            smallest=looks[-1].smallest - self.damping,
            negative=looks[-1].smallest <= 0,
            damping=self.damping,
        )
        return Derivative(d_theta, value, final, diagnostics=diagnostics, warnings=warned)

    def _solver(self, run: Run, looks: "list[_Look]") -> Callable[..., Any]:
        def solve(matvec: Callable[..., Any], b: Sequence[Tensor]) -> Any:
            def damped(u: Sequence[Tensor]) -> tuple[Tensor, ...]:
                run.meter.count(vector_products=1)
                return tuple(h + self.damping * x for h, x in zip(matvec(u), u, strict=True))

            solver, settings = torchopt.linear_solve, {"maxiter": self.iterations, "rtol": _TOLERANCE}
            if self.solver == "cg":
                steps = _Steps(b)
                u = solver.solve_cg(**settings)(steps.seen(damped), b)
                smallest = steps.smallest_ritz()
            else:  # it multiplies inside a transform of torch.func, whose tensors mean nothing outside
                u = solver.solve_normal_cg(**settings)(damped, b)
                smallest = self._lanczos(damped, b)
            looks.append(_Look(_distance(damped(u), b) / max(_distance(b), 1e-300), smallest))
            return u

        return solve

    def _lanczos(self, damped: _Product, b: Sequence[Tensor]) -> float:
        """The smallest Ritz value of the space that conjugate gradients would have gone through."""
        names = [str(index) for index in range(len(b))]
        like = dict(zip(names, b, strict=True))

        def operator(v: Tensor) -> Tensor:
            return to_vector(dict(zip(names, damped(tuple(from_vector(v, like).values())), strict=True)))

        return conjugate_residuals(operator, to_vector(like), self.iterations, _TOLERANCE).smallest_ritz


class _Look(NamedTuple):
    """What was found of the damped system: the solution's relative residual, and the smallest Ritz value."""

    residual: float
    smallest: float


class _Steps:
    """The coefficients of TorchOpt's conjugate gradients from zero, read off the directions that it multiplies."""

    def __init__(self, b: Sequence[Tensor]) -> None:
        self._residual = b
        self._squares = [_inner(b, b)]
        self._steps: list[Tensor] = []
        self._started = False

    def seen(self, operator: _Product) -> _Product:
        def seeing(direction: Sequence[Tensor]) -> tuple[Tensor, ...]:
            image = operator(direction)
            if self._started:  # what comes first is the zero that it starts from
                step = self._squares[-1] / _inner(direction, image)
                moved = zip(self._residual, image, strict=True)
                self._residual = [part - step * along.detach() for part, along in moved]
                self._steps.append(step)
                self._squares.append(_inner(self._residual, self._residual))
            self._started = True
            return image

        return seeing

    def smallest_ritz(self) -> float:
        """Of the steps before the first that has no length: ``nan`` for none."""
        lengths = torch.stack([*self._steps, self._squares[0].new_zeros(())]).tolist()
        steps = list(takewhile(lambda length: length != 0 and math.isfinite(length), lengths))
        squares = torch.stack(self._squares[: len(steps) + 1]).tolist()
        return smallest_ritz_of(steps, [after / before for before, after in pairwise(squares)])


def _inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Shape ()."""
    return sum(((x * y).sum().detach() for x, y in zip(left, right, strict=True)), start=left[0].new_zeros(()))


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
