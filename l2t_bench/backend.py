"""The base of every backend: it starts the run, measures and checks it, leaves the differentiation to the method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from l2t_bench.adam import Adam
from l2t_bench.adjoint import dev_gradient
from l2t_bench.cautions import cautions
from l2t_bench.distributed.problem import ShardedProblem
from l2t_bench.errors import Diverged, UserError
from l2t_bench.first_look import look_through_torch_func, once
from l2t_bench.gradient import (
    ANY,
    Capabilities,
    Cost,
    Exactness,
    Prediction,
    Refused,
    Supported,
    TeacherGradient,
    Walked,
)
from l2t_bench.gradient_look import look_at_gradient
from l2t_bench.health import REMEDY, AdjointWatch, first_not_finite, health_of, history
from l2t_bench.kept_run import RunKeeper
from l2t_bench.measure import Meter
from l2t_bench.metabatch.contract import one_by_one
from l2t_bench.names import check_counts
from l2t_bench.optimizers import SGD
from l2t_bench.precision import full_float32
from l2t_bench.prediction import Scaling, predict
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import Rollout, TryOut
from l2t_bench.second_difference import second_look
from l2t_bench.second_order import Maker, StepGraph, try_products
from l2t_bench.sums import WHOLE_BATCH
from l2t_bench.tensors import TensorDict, Tensors, detached, global_norm
from l2t_bench.training_step import student_gradient
from l2t_bench.undifferentiable import FORWARD, SECOND, Missing, missing_derivative


@dataclass(frozen=True)
class Derivative:
    """What a method found: the derivative by theta (and by omega_0), M~, and omega_T."""

    d_theta: TensorDict
    value: float
    final: StudentState
    d_omega0: TensorDict | None = None
    exactness: Exactness | None = None  # where it differs from the method's usual one
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    hyper: Mapping[str, Tensor] = field(default_factory=dict)  # by the optimiser's numbers
    warnings: tuple[str, ...] = ()  # what the user must know to trust the result
    engine: Walked | None = None  # what took the steps, of a method that has engines


class Run:
    """What a method is given: the rollout to walk along, and phases and counts to tell the core where it is.

    ``sums``: how sums over a batch are taken.
    """

    def __init__(
        self,
        rollout: Rollout,
        meter: Meter,
        watch: AdjointWatch | None = None,
        keeper: RunKeeper | None = None,
    ) -> None:
        self.keeper = keeper
        self.rollout = rollout
        self.meter = meter
        self.problem = rollout.problem
        self.theta = rollout.theta
        self.horizon = rollout.horizon
        self.watch = watch or AdjointWatch()
        self.sums = self.problem.sums if isinstance(self.problem, ShardedProblem) else WHOLE_BATCH

    @contextmanager
    def forward(self, steps: int | None = None) -> Iterator[None]:
        """The phase of the student's training: of the whole run, or of so many ``steps``."""
        with self.meter.phase("forward"):
            yield
        self.meter.count(gradients=self.horizon if steps is None else steps)

    @contextmanager
    def reverse(self) -> Iterator[None]:
        """The phase from w_bar back to theta."""
        self.watch.start()
        with self.meter.phase("reverse"):
            yield

    def dev_gradient(self, state: StudentState, index: int | None = None) -> tuple[float, TensorDict]:
        """M~ and w_bar at omega_T, or at omega_``index``, in a phase of their own; |w_bar_T| is watched.

        Raises ``Diverged`` where they are not finite.
        """
        at = self.horizon if index is None else index
        with self.meter.phase("dev"):
            value, w_bar = dev_gradient(self.rollout, state, at, self.sums.objective_gradient)
        check_objective(value, w_bar, at, self.horizon)
        if at == self.horizon:
            self.watch.see(at, w_bar)
        return value, w_bar


class Backend(ABC):
    """A frozen dataclass whose fields are the method's options, ``name``, ``capabilities`` and ``differentiate``.

    Everything else of the contract is here. A subclass that needs to refuse more overrides ``refusal``.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    def __post_init__(self) -> None:
        check_counts(self, self.name)

    @abstractmethod
    def differentiate(self, run: Run) -> Derivative:
        """Walk along ``run.rollout`` and return the derivative. Must leave nothing behind in ``self``."""

    def refusal(self, problem: TeachingProblem) -> Refused | None:
        """Why this method cannot do this problem, beyond what its capabilities say; ``None`` if it can."""
        del problem
        return None

    def keeping_refusal(self) -> Refused | None:
        """Why another process cannot go on with a run of this method that was left on its way; ``None`` if it can."""
        return Refused(f"{self} keeps nothing of a run on its way", "rmd[store=sqrt] and rmd[store=binomial] do")

    def second_order(self) -> Maker | None:
        """How the method takes the loss's second derivatives: tried out at the first step. ``None``: it takes none."""
        return None

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        """How memory and the time of the reverse pass grow with the horizon (see ``prediction``)."""
        del problem
        return Scaling(steps_back=horizon)

    def settled(self, problem: TeachingProblem, horizon: int) -> "Backend":
        """The method as a run of ``horizon`` steps will find it: what it leaves to the run's length is decided."""
        del problem, horizon
        return self

    def variants(self) -> tuple["Backend", ...]:
        """The method with each way of holding its run: they give the same gradient for different memory and time."""
        return (self,)

    def choices(self, horizon: int) -> tuple["Backend", ...]:
        """The method with all options that a choice for ``horizon`` steps is made among (see ``selection``)."""
        del horizon
        return self.variants()

    def supports(self, problem: TeachingProblem, horizon: int) -> Supported | Refused:
        """The contract's; none of the methods here depends on the horizon."""
        del horizon
        for asked in (self._refused_optimizer, self._refused_student, self.refusal):
            if (refusal := asked(problem)) is not None:  # a Refused is false
                return refusal
        return Supported()

    def _refused_optimizer(self, problem: TeachingProblem) -> Refused | None:
        optimizer, own = problem.optimizer, self.capabilities
        kind = _known_name(type(optimizer))
        if ANY not in own.optimizers and kind not in own.optimizers:
            others = "; rmd and functorch do Adam" if kind == "Adam" else ""
            instead = f"it can do {', '.join(own.optimizers)}{others}"
            return self._refused(f"does not differentiate {kind}", kind, instead)
        if not own.groups and getattr(optimizer, "groups", None):
            return self._refused("does not differentiate parameter groups", "groups", "rmd and functorch do")
        if not own.clipping and getattr(optimizer, "clip", None) is not None:
            return self._refused("does not differentiate gradient clipping", "clipping", "rmd and functorch do")
        return None

    def _refused_student(self, problem: TeachingProblem) -> Refused | None:
        own = self.capabilities
        layers = {type(layer) for layer in problem.student.modules()}
        if not own.frozen and problem.frozen:
            return self._refused("cannot train a student with frozen parameters", "frozen", "rmd and functorch can")
        if not own.batch_norm and any(issubclass(kind, torch.nn.modules.batchnorm._BatchNorm) for kind in layers):
            return self._refused("cannot replay train-mode BatchNorm", "batch_norm", "rmd and functorch can")
        if not own.dropout and any(issubclass(kind, torch.nn.modules.dropout._DropoutNd) for kind in layers):
            return self._refused(
                "draws dropout masks anew in its reverse pass", "dropout", "rmd and functorch replay them"
            )
        return None

    @property
    def through_torch_func(self) -> bool:
        """Whether the student is differentiated by ``torch.func``, whose transforms may draw other dropout masks."""
        return False

    def try_out(self, problem: TeachingProblem) -> TryOut:
        """What is asked at some places of a run, once for a problem: whether the student can be differentiated there.

        It may have no second derivatives, or wrong ones, and a run would be lost, or its result worse than none.
        """

        def look(place: str, step: Step, state: StudentState, phi: Any) -> None:
            if isinstance(problem, ShardedProblem):
                once(problem, ("parts", place), partial(problem.look, state, step, phi))
            if self.through_torch_func:
                once(problem, ("by torch.func", place), partial(look_through_torch_func, problem, state, step, phi))
            if (maker := self.second_order()) is not None:
                once(problem, ("products", maker, place), partial(self._try_products, maker, problem, state, step, phi))

        return look

    def _try_products(self, maker: Maker, problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> None:
        """Raises ``Refused`` for second derivatives that are not those of the gradient; for none, what torch raises.

        A gradient that is another one when it is taken again has no differences: for that it raises ``UserError``.
        """
        found = second_look(maker, problem, state, step, phi)
        if found is None:
            try_products(maker, problem, state, step, phi)
        elif found.wrong:
            look_at_gradient(problem, state, step, partial(student_gradient, problem, state, step, phi))
            raise Refused(
                f"{self}: second derivatives of this student at step {step.index}, as it takes them, are "
                f"{found.error:.1%} off from differences of its gradient: a layer's rule is wrong, or what goes back "
                "through it is changed, or something is computed without a gradient on the way (detach, no_grad, "
                "spectral_norm)",
                "write that in operations with derivatives; evolution and one-step take no second derivatives",
            )

    def _lacking(self, missing: Missing, rollout: Rollout) -> Refused:
        """What to take in place of a method that needs a derivative which the student does not have."""
        has_second = missing.what != SECOND and self._has_second_derivatives(rollout)
        plain = "rmd, with hvp=ror, needs none" if missing.what == FORWARD else "rmd, with hvp=ror, takes it as it is"
        return Refused(f"{self}: {missing}", plain if has_second else "evolution and one-step need none")

    def _has_second_derivatives(self, rollout: Rollout) -> bool:
        if not rollout.steps:
            return False
        try:
            step = rollout.steps[0]
            try_products(StepGraph, rollout.problem, rollout.initial(), step, rollout.phi(step))
        except (NotImplementedError, RuntimeError) as error:
            if missing_derivative(error) is None:
                raise
            return False
        return True

    def _refused(self, what: str, field: str, instead: str) -> Refused:
        why = self.capabilities.reasons.get(field)
        return Refused(f"{self} {what}: {why}" if why else f"{self} {what}", instead)

    def teacher_gradient(
        self,
        problem: TeachingProblem,
        theta: Tensors,
        *,
        horizon: int | None = None,
        steps: Sequence[Step] | None = None,
        seed: int = 0,
        keeper: RunKeeper | None = None,
    ) -> TeacherGradient:
        """The contract's; see ``TeacherGradientBackend``. ``keeper``: what keeps the run on its way, where that can be.

        Raises ``Refused`` before the run, ``UserError`` for a problem's mistakes, ``Diverged`` for numbers that are not
        finite.
        """
        if torch.is_inference_mode_enabled():
            raise UserError("a teacher gradient cannot be taken in torch.inference_mode: call it outside")
        meter = Meter(problem.device)
        rollout = Rollout(problem, theta, horizon=horizon, steps=steps, seed=seed, try_out=self.try_out(problem))
        if not rollout.theta:
            raise UserError("the teacher has no parameters that are trained: there is nothing to take a gradient by")
        verdict = self.supports(problem, rollout.horizon)
        if isinstance(verdict, Refused):
            raise verdict
        if keeper is not None and (refusal := self.keeping_refusal()) is not None:
            raise refusal
        run = Run(rollout, meter, keeper=keeper)
        try:
            with torch.enable_grad(), full_float32(problem.device):
                derivative = self.differentiate(run)
        except (NotImplementedError, RuntimeError) as error:
            if (missing := missing_derivative(error)) is None:
                raise
            raise self._lacking(missing, rollout) from error
        return self.result(rollout, derivative, run.watch.norms(), cost_of(meter))

    def result(
        self, rollout: Rollout, derivative: Derivative, norms: Mapping[int, float], cost: Cost
    ) -> TeacherGradient:
        """What was found of a run, with |w_bar_t| by step. Raises ``Diverged`` for a derivative that is not finite."""
        if not _finite(derivative.d_theta):
            raise Diverged(
                f"{self}: the student trained, but its adjoint is not finite: {REMEDY}",
                first_not_finite(norms),
                history(norms),
            )
        return TeacherGradient(
            d_theta=detached(derivative.d_theta),
            value=derivative.value,
            d_omega0=None if derivative.d_omega0 is None else detached(derivative.d_omega0),
            final=derivative.final,
            steps=rollout.steps,
            exactness=derivative.exactness or self.capabilities.exactness,
            cost=cost,
            diagnostics=derivative.diagnostics,
            hyper=detached(derivative.hyper),
            health=health_of(norms),
            warnings=(*derivative.warnings, *cautions(rollout.problem)),
            engine=derivative.engine,
        )

    def teacher_gradients(
        self, problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
    ) -> list[TeacherGradient | Diverged]:
        """Those of several students, in the order of ``seeds``; see ``l2t_bench.metabatch``. Here: one by one."""
        return one_by_one(self, problem, theta, horizon=horizon, seeds=seeds)

    @property
    def students_at_once(self) -> int:
        """How many students ``teacher_gradients`` takes at once, each at the memory of one."""
        return 1

    def for_students(self, count: int) -> "Backend":
        """The method with ``students_at_once`` as many as it takes of ``count``."""
        del count
        return self

    def predict(self, problem: TeachingProblem, horizon: int) -> Prediction:
        settled = self.settled(problem, horizon)
        return predict(settled, problem, horizon, partial(settled.scaling, problem))

    def __str__(self) -> str:
        """The name with the options that differ from their defaults: ``truncated[window=5]``."""
        changed = [
            f"{option.name}={getattr(self, option.name)}"
            for option in fields(self)  # type: ignore[arg-type]
            if getattr(self, option.name) != option.default
        ]
        return f"{self.name}[{','.join(changed)}]" if changed else self.name


def _known_name(optimizer: type) -> str:
    """Its class's name; one of the user's that is called as one of ours is not taken for it."""
    name = optimizer.__name__
    ours = {"SGD": SGD, "Adam": Adam}.get(name, optimizer)
    return name if optimizer is ours else f"{optimizer.__module__}.{name}"


def check_objective(value: float, w_bar: TensorDict, index: int, horizon: int) -> None:
    """Raises ``Diverged`` where M~ at omega_``index``, or its gradient there, is not finite."""
    if not _finite({"value": torch.tensor(value), **w_bar}):
        place = "omega_T" if index == horizon else f"omega_{index}"
        raise Diverged(
            f"the dev objective or its gradient is not finite at {place}", index, (value, global_norm(w_bar))
        )


def _finite(tensors: Mapping[str, Tensor]) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())


def cost_of(meter: Meter) -> Cost:
    """What the meter has seen, as a record."""
    host, device = meter.host(), meter.device()
    return Cost(
        seconds_forward=meter.seconds.get("forward", 0.0),
        seconds_reverse=meter.seconds.get("reverse", 0.0),
        seconds_dev=meter.seconds.get("dev", 0.0),
        host_start_bytes=host.start,
        host_peak_bytes=host.peak,
        device_start_bytes=device.start,
        device_peak_bytes=device.peak,
        gradients=meter.counts.get("gradients", 0),
        vector_products=meter.counts.get("vector_products", 0),
        recomputed_steps=meter.counts.get("recomputed_steps", 0),
        seconds_compile=meter.seconds.get("compile", 0.0),
        peaks=dict(meter.peaks),
    )
