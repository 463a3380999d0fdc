"""Implicit differentiation at omega_T by our own linear solvers (Lorraine, Vicol and Duvenaud 2020)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from l2t_bench import linear_solvers
from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.double_backward import OwnDoubleBackward
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness, Refused
from l2t_bench.groups import rates
from l2t_bench.linear_solvers import Operator, Solution
from l2t_bench.modules import mix_seeds
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.second_order import Maker, StepGraph
from l2t_bench.stationary import mistrust, power_of_two_above, trained_twice_at_the_end
from l2t_bench.tensors import TensorDict, from_vector, scaled, to_vector, zeros_like
from l2t_bench.training_step import loss_gradients

_LANCZOS = 10  # steps of the short run that looks at the spectrum where the solver does not
_RANK = 20
_ITERATIONS = 20


@dataclass(frozen=True)
class Implicit(Backend):
    """-[d2L/dtheta domega]' (H + damping)^-1 w_bar, as if omega_T were a stationary point of the training loss L.

    Another quantity than the derivative of the run ("stationary approximation"): it forgets how the student got there,
    and holds as far as training has converged. L is the mean loss of the last ``batches`` steps, each with its own
    phi_t, plus the weight decay; H its Hessian. Memory P + K*G, K = ``batches``: their graphs are kept.

    ``solver``: ``cg`` (H + damping positive definite), ``conjugate-residual`` (any symmetric H), ``neumann`` (a series;
    ``alpha``, by default one over the largest Ritz value), ``nystrom`` (a sketch of H of ``rank``, by default 20). At
    most ``iterations`` products for the first three, by default 20. ``diagnostics``: ``residual``, of
    |(H + damping) u - w_bar| to |w_bar|; ``smallest_ritz``, of H. Curvature that is not positive is a warning.
    """

    solver: Literal["cg", "neumann", "nystrom", "conjugate-residual"] = "cg"
    damping: float = 0.01
    iterations: int | None = None
    batches: int = 10
    rank: int | None = None
    alpha: float | None = None

    name = "implicit"
    capabilities = Capabilities(Exactness.STATIONARY, optimizers=("SGD", "Adam"), memory_law="P + K*G")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.solver not in ("cg", "neumann", "nystrom", "conjugate-residual"):
            raise UserError(f"implicit: there is no solver {self.solver!r}")
        if self.batches < 1 or not 0 <= self.damping < math.inf:
            raise UserError("implicit: batches must be at least 1, damping not negative")
        if self.iterations is not None and (self.solver == "nystrom" or self.iterations < 1):
            raise UserError(
                f"implicit: iterations are of all solvers but nystrom, which has rank, and at least 1, not "
                f"{self.iterations}"
            )
        for option, value, solver in (("rank", self.rank, "nystrom"), ("alpha", self.alpha, "neumann")):
            if value is not None and (self.solver != solver or not value > 0):
                raise UserError(f"implicit: {option} is of solver={solver}, and must be above 0, not {value}")

    def refusal(self, problem: TeachingProblem) -> Refused | None:
        optimizer = problem.optimizer
        if getattr(optimizer, "decoupled", False) and any(_decays(problem, dict(problem.student.named_parameters()))):
            return Refused(
                f"{self}: AdamW comes to rest where its decay balances its step, at no stationary point of a loss",
                "rmd differentiates it; or set weight_decay=0",
            )
        if any(group.lr == 0 for group in getattr(optimizer, "groups", ())):
            return Refused(f"{self}: parameters of a group with lr=0 never come to rest", "rmd differentiates them")
        return None

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        del problem
        return Scaling(steps_back=min(self.batches, horizon))

    def second_order(self) -> Maker:
        return StepGraph

    def differentiate(self, run: Run) -> Derivative:
        with run.forward():
            final = trained_twice_at_the_end(run, self.batches)
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            stationarity = _Stationarity(run, final, run.rollout.steps[-self.batches :])
            scale = power_of_two_above(w_bar)
            b = to_vector(w_bar) / scale
            solution = self._solve(run, stationarity.hessian_product, b)
            away = stationarity.hessian_product(solution.u) + self.damping * solution.u - b
            # In Python's numbers: 1e-300 is nothing in float32.
            residual = float(torch.linalg.vector_norm(away)) / max(float(torch.linalg.vector_norm(b)), 1e-300)
            warnings = mistrust(
                str(self),
                w_bar,
                run.horizon,
                residual=residual,
                smallest=solution.smallest_ritz,
                negative=solution.negative_curvature,
                damping=self.damping,
            )
            d_theta = scaled(scale, stationarity.mixed_product(-solution.u))
        diagnostics = {"residual": residual, "smallest_ritz": solution.smallest_ritz}
        return Derivative(d_theta, value, final, diagnostics=diagnostics, warnings=warnings)

    def _solve(self, run: Run, hessian: Operator, b: Tensor) -> Solution:
        """u, and the smallest Ritz value of H without the damping."""

        def damped(v: Tensor) -> Tensor:
            return hessian(v) + self.damping * v

        if self.solver in ("cg", "conjugate-residual"):
            krylov = self.solver == "cg"
            iterate = linear_solvers.conjugate_gradients if krylov else linear_solvers.conjugate_residuals
            found = iterate(damped, b, self.iterations or _ITERATIONS, torch.finfo(b.dtype).eps ** 0.75)
            return Solution(found.u, found.smallest_ritz - self.damping, found.negative_curvature)
        generator = torch.Generator().manual_seed(mix_seeds(run.rollout.seed, 61))
        start = torch.randn(len(b), generator=generator, dtype=torch.float64).to(b)
        ritz = linear_solvers.ritz_values(hessian, start, _LANCZOS)
        if self.solver == "neumann":
            largest = float(ritz.abs().max()) + self.damping
            alpha = self.alpha if self.alpha is not None else 1 / largest if largest else 1.0
            found = linear_solvers.neumann(damped, b, self.iterations or _ITERATIONS, alpha)
        else:
            found = linear_solvers.nystrom(hessian, b, self.rank or _RANK, self.damping, generator)
        return Solution(found.u, float(ritz[0]))


class _Stationarity:
    """The gradient of L at omega_T with its graph: what would be zero where training had come to rest."""

    def __init__(self, run: Run, final: StudentState, tail: Sequence[Step]) -> None:
        self._meter, self._theta = run.meter, run.theta
        self._params = {name: param.detach().requires_grad_() for name, param in final.params.items()}
        self._decays = _decays(run.problem, self._params)
        with OwnDoubleBackward():
            total = sum(
                (_loss(run, self._params, final, step) / len(tail) for step in tail),
                start=next(iter(self._params.values())).new_zeros(()),
            )
        gradients = loss_gradients(total, self._params, create_graph=True)
        self._outputs = {name: gradient for name, gradient in gradients.items() if gradient.requires_grad}

    def hessian_product(self, v: Tensor) -> Tensor:
        """H v, the weight decay in it."""
        vectors = from_vector(v, self._params)
        product = self._pulled_back(vectors, self._params)
        self._meter.count(vector_products=1)
        decays = zip(product.items(), self._decays, strict=True)
        return to_vector({name: part + decay * vectors[name] for (name, part), decay in decays})

    def mixed_product(self, v: Tensor) -> TensorDict:
        """[d2L/dtheta domega]' v; the weight decay has no part in it."""
        self._meter.count(vector_products=1)
        return self._pulled_back(from_vector(v, self._params), self._theta)

    def _pulled_back(self, vectors: TensorDict, inputs: TensorDict) -> TensorDict:
        if not self._outputs:  # a loss that is linear has no second derivative
            return zeros_like(inputs)
        found = torch.autograd.grad(
            list(self._outputs.values()),
            list(inputs.values()),
            [vectors[name] for name in self._outputs],
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return dict(zip(inputs, found, strict=True))


def _loss(run: Run, params: TensorDict, final: StudentState, step: Step) -> Tensor:
    phi = run.problem.phi(run.theta, step.features)
    return run.problem.train_loss(params, final.buffers, phi, step)[0]


def _decays(problem: TeachingProblem, params: TensorDict) -> list[float]:
    """The weight decay of each parameter."""
    own = problem.optimizer
    groups, decay = getattr(own, "groups", ()), getattr(own, "weight_decay", 0.0)
    return [rates(name, groups, decay).weight_decay for name in params]
