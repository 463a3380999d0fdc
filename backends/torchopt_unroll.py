"""The rollout unrolled through TorchOpt's differentiable optimisers (Ren et al. 2023)."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torchopt
from torch import Tensor

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.clipping import clip
from l2t_bench.errors import UserError
from l2t_bench.gradient import Capabilities, Exactness, Refused
from l2t_bench.groups import Rates, rates
from l2t_bench.modules import module_at
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.second_order import Maker, TorchStepGraph
from l2t_bench.tensors import TensorDict
from l2t_bench.training_step import loss_gradients


@dataclass(frozen=True)
class TorchOptUnroll(Backend):
    """The whole run is one graph; ``autograd.grad`` goes back through it.

    Exact. Memory T*(G + several P). ``api``: ``functional`` carries parameters and optimiser state by hand
    (``torchopt.sgd``); ``meta`` steps a module through ``torchopt.MetaSGD``.

    TorchOpt remembers the first call of an optimiser in a closure and not in its state, so one transform serves one
    rollout; and a parameter that once gets no gradient is frozen for good, so missing gradients are made zeros.
    """

    api: Literal["functional", "meta"] = "functional"

    name = "torchopt"
    capabilities = Capabilities(
        Exactness.EXACT,
        optimizers=("SGD",),
        memory_law="T*G",
        reasons={"Adam": "TorchOpt takes Adam's bias correction in float32 (4e-6 from torch's after 6 steps)"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api not in ("functional", "meta"):
            raise UserError(f"torchopt: there is no api {self.api!r}")

    def refusal(self, problem: TeachingProblem) -> Refused | None:
        return _refused_by_meta(str(self), problem) if self.api == "meta" else None

    def second_order(self) -> Maker:
        return TorchStepGraph

    def differentiate(self, run: Run) -> Derivative:
        unroll = _unroll_functional if self.api == "functional" else _unroll_meta
        with run.forward():
            first, last, final = unroll(run)
        value, w_bar = run.dev_gradient(final)
        with run.reverse():
            found = torch.autograd.grad(
                list(last.values()),
                [*run.theta.values(), *first.values()],  # a teacher and a student may have names in common
                [w_bar[name] for name in last],
                allow_unused=True,
                materialize_grads=True,
            )
        d_theta = dict(zip(run.theta, found, strict=False))
        return Derivative(d_theta, value, final, dict(zip(first, found[len(d_theta) :], strict=True)))


def _unroll_functional(run: Run) -> tuple[TensorDict, TensorDict, StudentState]:
    """The first and the last parameters, joined by the run's graph, and omega_T without it."""
    start = run.rollout.initial()
    first = {name: param.requires_grad_() for name, param in start.params.items()}
    params, buffers = first, start.buffers
    optimizer = _Grouped(run.problem.optimizer, params, _constant(run))
    for index in range(run.horizon):
        step = run.rollout.step(index, StudentState(_detached(params), buffers))
        run.watch.hook(index, params)
        loss, buffers = run.problem.train_loss(params, buffers, run.rollout.phi(step), step)
        run.rollout.observe(loss)
        params = optimizer.step(params, loss_gradients(loss, params, create_graph=True), step.lr)
    return first, params, StudentState(_detached(params), buffers)


def _unroll_meta(run: Run) -> tuple[TensorDict, TensorDict, StudentState]:
    """The same through a module whose parameters ``MetaSGD`` replaces at every step."""
    problem = run.problem
    start = run.rollout.initial()
    student = module_at(problem.student, {**start.params, **start.buffers})
    first = _tensors(student)
    lrs: list[float] = []
    optimizer = torchopt.MetaSGD(student, **_options(problem.optimizer, lrs, _constant(run)))
    for index in range(run.horizon):
        step = run.rollout.step(index, _module_state(student))
        lrs.append(step.lr)
        run.watch.hook(index, _tensors(student))
        loss = problem.module_loss(student, run.rollout.phi(step), step)
        run.rollout.observe(loss)
        # A gradient of zeros for parameters that this step's loss does not reach.
        reach_all = sum((tensor.sum() * 0 for tensor in _tensors(student).values()), start=loss.new_zeros(()))
        optimizer.step(loss + reach_all)
    return first, _tensors(student), _module_state(student)


def _refused_by_meta(name: str, problem: TeachingProblem) -> Refused | None:
    """What ``MetaSGD`` does otherwise than torch, or not at all."""
    optimizer, student = problem.optimizer, problem.student
    instead = "torchopt[api=functional] and rmd do"
    if len(dict(student.named_parameters())) < len(list(student.named_parameters(remove_duplicate=False))):
        return Refused(f"{name} moves tied weights apart", "torchopt[api=functional] and rmd keep them tied")
    if problem.frozen:
        return Refused(
            f"{name} asks for the gradient of every parameter and fails on frozen ones",
            instead,
        )
    if getattr(optimizer, "groups", None):
        return Refused(f"{name} gives all parameters one lr and one weight decay: no parameter groups", instead)
    if getattr(optimizer, "clip", None) is not None:
        return Refused(f"{name}: TorchOpt's clipping takes the gradient's norm for a constant", instead)
    return None


class _Grouped:
    """A ``torchopt.sgd`` for each group of parameters that the student's optimiser tells apart, and its clipping."""

    def __init__(self, own: Optimizer, params: TensorDict, constant: float | None) -> None:
        assert isinstance(own, SGD)  # `supports` has seen to it
        self._clip = own.clip
        self._rates: list[float] = []
        members: dict[Rates, list[str]] = {}
        for name in params:
            members.setdefault(rates(name, own.groups, own.weight_decay), []).append(name)
        self._members = list(members.items())
        self._transforms = [torchopt.sgd(**_options(own, self._rates, constant, rate)) for rate in members]
        self._states = [
            transform.init({name: params[name] for name in names})
            for transform, names in zip(self._transforms, members.values(), strict=True)
        ]

    def step(self, params: TensorDict, gradients: TensorDict, lr: float) -> TensorDict:
        """The parameters after a step, joined to those before by the run's graph."""
        self._rates.append(lr)
        gradients = clip(gradients, self._clip)
        after: TensorDict = {}
        for position, (_, names) in enumerate(self._members):
            held, own = ({name: tensors[name] for name in names} for tensors in (params, gradients))
            updates, self._states[position] = self._transforms[position].update(
                own, self._states[position], params=held, inplace=False
            )
            after |= torchopt.apply_updates(held, updates, inplace=False)
        return {name: after[name] for name in params}


def _constant(run: Run) -> float | None:
    """The lr of all steps, where it is the same at each."""
    return run.rollout.lrs[0] if len(set(run.rollout.lrs)) == 1 else None


def _options(own: object, lrs: list[float], constant: float | None, rate: Rates | None = None) -> dict[str, Any]:
    """TorchOpt's arguments; ``lrs`` grows by the lr of each step as the run comes to it.

    It is read there; a ``constant`` one is given as a number, which spares TorchOpt a counter for every parameter.
    """
    assert isinstance(own, SGD)  # `supports` has seen to it

    factor = 1.0 if rate is None else rate.lr

    def lr_now(count: Any) -> float:
        del count
        return lrs[-1] * factor

    return {
        "lr": lr_now if constant is None else constant * factor,
        "momentum": own.momentum,
        "weight_decay": own.weight_decay if rate is None else rate.weight_decay,
        "nesterov": own.nesterov,
        "dampening": own.dampening,
        "moment_requires_grad": True,
    }


def _detached(tensors: TensorDict) -> TensorDict:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _tensors(student: torch.nn.Module) -> TensorDict:
    """What stands in the place of the module's parameters now: after a step these are not ``nn.Parameter`` any more."""
    return {
        f"{prefix}.{name}" if prefix else name: tensor
        for prefix, layer in student.named_modules()
        for name, tensor in layer._parameters.items()
        if isinstance(tensor, Tensor)
    }


def _module_state(student: torch.nn.Module) -> StudentState:
    buffers = {name: buffer.detach().clone() for name, buffer in student.named_buffers()}
    return StudentState(_detached(_tensors(student)), buffers)
