"""The rollout unrolled through ``higher``'s differentiable optimisers (Grefenstette et al. 2019)."""

from collections.abc import Callable
from dataclasses import dataclass

import higher
import torch
from torch import Tensor

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.modules import module_at
from l2t_bench.optimizers import SGD
from l2t_bench.problem import StudentState


@dataclass(frozen=True)
class HigherUnroll(Backend):
    """The whole run is one graph; ``autograd.grad`` goes back through it.

    Exact. Memory T*(G + several P): every step's graph is kept. No step is replayed.

    ``higher`` leaves a parameter without gradient where it is; the callback below gives it zeros instead, so that it
    decays and moves by its momentum as everywhere else.
    """

    name = "higher"
    capabilities = Capabilities(
        Exactness.EXACT, optimizers=("SGD",), memory_law="T*(G + P)", groups=False, clipping=False
    )

    def differentiate(self, run: Run) -> Derivative:
        problem = run.problem
        start = run.rollout.initial()
        student = module_at(problem.student, {**start.params, **start.buffers})
        with run.forward(), higher.innerloop_ctx(student, _torch_sgd(problem.optimizer, student)) as (fmodel, diffopt):
            names = [name for name, _ in student.named_parameters()]
            for index in range(run.horizon):
                step = run.rollout.step(index, _state(names, fmodel))
                run.watch.hook(index, dict(zip(names, fmodel.parameters(), strict=True)))
                loss = problem.module_loss(fmodel, run.rollout.phi(step), step)
                run.rollout.observe(loss)
                diffopt.step(loss, override={"lr": [step.lr]}, grad_callback=_zeros_for_missing(fmodel))
        final = _state(names, fmodel)
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            run.watch.see(run.horizon, w_bar)
            wanted = {**run.theta, **dict(zip(names, fmodel.parameters(time=0), strict=True))}
            found = torch.autograd.grad(
                list(fmodel.parameters()),
                list(wanted.values()),
                [w_bar[name] for name in names],
                allow_unused=True,
                materialize_grads=True,
            )
        d_theta = dict(zip(run.theta, found, strict=False))
        return Derivative(d_theta, value, final, dict(zip(names, found[len(d_theta) :], strict=True)))


def _torch_sgd(optimizer: object, student: torch.nn.Module) -> torch.optim.SGD:
    assert isinstance(optimizer, SGD)  # `supports` has seen to it
    return torch.optim.SGD(
        student.parameters(),
        lr=1.0,  # overridden at every step
        momentum=optimizer.momentum,
        dampening=optimizer.dampening,
        weight_decay=optimizer.weight_decay,
        nesterov=optimizer.nesterov,
    )


def _state(names: list[str], fmodel: torch.nn.Module) -> StudentState:
    params = {name: param.detach() for name, param in zip(names, fmodel.parameters(), strict=True)}
    return StudentState(params, {name: buffer.detach().clone() for name, buffer in fmodel.named_buffers()})


def _zeros_for_missing(fmodel: torch.nn.Module) -> Callable[[list[Tensor | None]], list[Tensor]]:
    def fill(gradients: list[Tensor | None]) -> list[Tensor]:
        return [
            torch.zeros_like(param) if gradient is None else gradient
            for param, gradient in zip(fmodel.parameters(), gradients, strict=True)
        ]

    return fill
