"""The rollout unrolled through ``higher``'s differentiable optimisers (Grefenstette et al. 2019)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import higher
import torch
from torch import Tensor

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.clipping import clip
from l2t_bench.first_look import look_through_patched, once
from l2t_bench.gradient import Capabilities, Exactness
from l2t_bench.groups import Rates, rates
from l2t_bench.modules import module_at
from l2t_bench.optimizers import SGD
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import TryOut
from l2t_bench.second_order import Maker, TorchStepGraph


@dataclass(frozen=True)
class HigherUnroll(Backend):
    """The whole run is one graph; ``autograd.grad`` goes back through it.

    Exact. Memory T*(G + several P): every step's graph is kept. No step is replayed.

    ``higher`` leaves a parameter without gradient where it is; the callback below gives it zeros instead, so that it
    decays and moves by its momentum as everywhere else. It clips there too, where ``higher`` takes gradients to do it.

    ``higher`` makes other modules of the student's. What the student keeps of its own beside torch's register (layers
    in a plain list, one of its methods as an attribute) is not among them, and stays at omega_0: refused.
    """

    name = "higher"
    capabilities = Capabilities(
        Exactness.EXACT,
        optimizers=("SGD",),
        memory_law="T*(G + P)",
        reasons={"Adam": "higher's Adam adds eps elsewhere than torch's (7e-6 apart after 6 steps) and has no AdamW"},
    )

    def second_order(self) -> Maker:
        return TorchStepGraph

    def try_out(self, problem: TeachingProblem) -> TryOut:
        looked = super().try_out(problem)

        def look(place: str, step: Step, state: StudentState, phi: Any) -> None:
            once(problem, ("by higher", place), partial(look_through_patched, _patched, problem, state, step, phi))
            looked(place, step, state, phi)

        return look

    def differentiate(self, run: Run) -> Derivative:
        problem = run.problem
        start = run.rollout.initial()
        student = module_at(problem.student, {**start.params, **start.buffers})
        optimizer, factors = _torch_sgd(problem.optimizer, start.params, student)
        with run.forward(), higher.innerloop_ctx(student, optimizer) as (fmodel, diffopt):
            names = [name for name, _ in student.named_parameters()]
            for index in range(run.horizon):
                step = run.rollout.step(index, _state(start, names, fmodel))
                run.watch.hook(index, dict(zip(names, fmodel.parameters(), strict=True)))
                loss = problem.module_loss(fmodel, run.rollout.phi(step), step)
                run.rollout.observe(loss)
                diffopt.step(
                    loss,
                    override={"lr": [step.lr * factor for factor in factors]},
                    grad_callback=_completed(fmodel, getattr(problem.optimizer, "clip", None)),
                )
        final = _state(start, names, fmodel)
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            first, last = (
                {name: param for name, param in zip(names, params, strict=True) if name in w_bar}
                for params in (fmodel.parameters(time=0), fmodel.parameters())
            )
            found = torch.autograd.grad(
                [last[name] for name in w_bar],
                [*run.theta.values(), *first.values()],
                list(w_bar.values()),
                allow_unused=True,
                materialize_grads=True,
            )
        d_theta = dict(zip(run.theta, found, strict=False))
        return Derivative(d_theta, value, final, dict(zip(first, found[len(d_theta) :], strict=True)))


def _patched(student: torch.nn.Module) -> torch.nn.Module:
    patched: torch.nn.Module = higher.monkeypatch(student)
    return patched


def _torch_sgd(own: object, trained: Iterable[str], student: torch.nn.Module) -> tuple[torch.optim.SGD, list[float]]:
    """The optimiser with a parameter group for each that ``own`` tells apart, and each group's factor on eta_t."""
    assert isinstance(own, SGD)  # `supports` has seen to it
    params = dict(student.named_parameters())
    members: dict[Rates, list[Tensor]] = {}
    for name in trained:
        members.setdefault(rates(name, own.groups, own.weight_decay), []).append(params[name])
    optimizer = torch.optim.SGD(
        [{"params": held, "weight_decay": rate.weight_decay} for rate, held in members.items()],
        lr=1.0,  # overridden at every step
        momentum=own.momentum,
        dampening=own.dampening,
        nesterov=own.nesterov,
    )
    return optimizer, [rate.lr for rate in members]


def _state(like: StudentState, names: list[str], fmodel: torch.nn.Module) -> StudentState:
    """What is trained, without the run's graph, and the buffers."""
    params = {name: p.detach() for name, p in zip(names, fmodel.parameters(), strict=True) if name in like.params}
    return StudentState(params, {name: buffer.detach().clone() for name, buffer in fmodel.named_buffers()})


def _completed(fmodel: torch.nn.Module, bound: float | None) -> Callable[[list[Tensor | None]], list[Tensor]]:
    """The gradients with zeros for those that are missing, clipped; a frozen parameter's are zeros and go nowhere."""

    def complete(gradients: list[Tensor | None]) -> list[Tensor]:
        whole = {
            str(position): torch.zeros_like(param) if gradient is None else gradient
            for position, (param, gradient) in enumerate(zip(fmodel.parameters(), gradients, strict=True))
        }
        return list(clip(whole, bound).values())

    return complete
