"""A teaching problem: the mathematics to differentiate, pure and replayable.

A student omega is trained for T steps on L_phi_t with phi_t = teacher(s_t; theta); the teacher wants the dev objective
M~ of omega_T to be large (paper, Eq. 1 and 2). Nothing here knows how the gradient of M~ by theta is taken.
"""

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.modules import (
    call,
    call_decode,
    cast,
    fresh_parameters,
    frozen_parameters,
    mix_seeds,
    plain_recurrence,
    same_tensors,
    scalar,
    seeded,
    tensor_leaves,
    trained_parameters,
    twice_differentiable,
)
from l2t_bench.optimizers import Optimizer
from l2t_bench.parts import check_groups, check_student, in_train_mode, own_copy, writes_into_its_parameters
from l2t_bench.tensors import TensorDict, Tensors, norm, wide

Dev = Any
"""One (inputs, targets) tuple, a list of such batches, or a function without arguments that returns either."""


@dataclass(frozen=True)
class StudentState:
    """omega_t and all that training carries beside it.

    ``params`` are the trained parameters and ``buffers`` the buffers, by their names in the student; ``slots`` are what
    the optimiser carries, each with the keys of ``params``, and empty before the first step. Frozen parameters are the
    problem's: what no step changes need not be kept with every step.
    """

    params: TensorDict
    buffers: TensorDict
    slots: dict[str, TensorDict] = field(default_factory=dict)

    def without_slots(self) -> "StudentState":
        """The same without what the optimiser carries: all that the adjoint of the SGD family reads."""
        return replace(self, slots={})


@dataclass(frozen=True)
class Step:
    """All that is needed to replay training step t bit for bit."""

    index: int
    batch: Batch  # unpacks into (inputs, targets)
    features: Tensor  # s_t, recorded: a constant of the differentiation
    lr: float
    seed: int  # of the forward pass: dropout and augmentation


@dataclass(frozen=True, eq=False)
class StudentView:
    """What a ``features`` function sees of the student at step ``index`` of ``horizon``; ``prepare_dev`` at the end.

    ``predict(inputs)`` runs the student in eval mode without gradients; ``decode(inputs)`` likewise where the student
    has such a method. ``train(index)`` gives a training batch of this run, ``dev`` the dev batches, ``previous`` the
    features of the step before (``None`` at the first), so that features can be refreshed every so many steps.
    """

    index: int
    horizon: int
    predict: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    train: Callable[[int], Batch]
    dev: Sequence[Batch]
    previous: Tensor | None


def unseeing(view: StudentView) -> StudentView:
    """The view at a step of which ``held_until`` says that the student is not looked at: it may be at another state."""

    def refuse(inputs: Any) -> Any:
        del inputs
        raise UserError(
            f"features(view) looks at the student at step {view.index}, which its held_until(index) says it does not"
        )

    return replace(view, predict=refuse, decode=refuse)


def forward_seed(seed: int, index: int) -> int:
    """The seed of the forward pass of step ``index`` in the run of student ``seed``."""
    return mix_seeds(seed, index)


@dataclass(frozen=True, eq=False)
class TeachingProblem:
    """A student, a teacher, and what each of them is after. Modules handed in are copied, never changed.

    Args:
        student: any module; called as ``student(inputs)``. Parameters with ``requires_grad=False`` are frozen: they
            keep the values they were handed in with, under every seed, and are constants of the training.
        teacher: any module; called in eval mode as ``teacher(s_t)`` with the 1-D tensor s_t; what it returns is phi_t,
            a tensor, or a tuple or dict of tensors. Its frozen parameters are constants, and no part of theta.
        loss: ``loss(output, target, phi)``, a scalar (a mean over the batch), minimised by the student.
        objective: ``objective(output, target)``, a scalar (a mean over the examples), maximised by the teacher on dev.
        optimizer: the student's, for instance ``SGD(lr=0.01, momentum=0.9)``.
        train: ``train(index, seed)`` gives batch ``index`` of the run of student ``seed``, always the same one.
        dev: one ``(inputs, targets)`` tuple, a **list** of such batches (the objective is their example-weighted mean,
            differentiated batch by batch), or a function without arguments that returns either, called when needed.
        features: ``features(view)`` gives s_t as a 1-D tensor; ``None`` means t/T, shape (1,). One that looks at the
            student every so many steps only may say so by a method ``held_until(index)``: the step after ``index`` at
            which it looks again. Until then it must not predict or decode, and steps can be taken in blocks.
        init: ``init(seed)`` gives omega_0 as a dict of the trained parameters' tensors; ``None`` means the layers'
            ``reset_parameters``.
        prepare_dev: ``prepare_dev(view, seed)`` makes the dev batches at omega_T; constants of the differentiation.
        test: like ``dev``; only for evaluation.
        name: how messages and reports call the problem.

    Raises ``UserError`` for parts that do not fit together.
    """

    _: KW_ONLY
    student: nn.Module
    teacher: nn.Module
    loss: Callable[[Any, Any, Any], Tensor]
    objective: Callable[[Any, Any], Tensor]
    optimizer: Optimizer
    train: Callable[[int, int], Batch]
    dev: Dev
    features: Callable[[StudentView], Tensor] | None = None
    init: Callable[[int], Tensors] | None = None
    prepare_dev: Callable[[StudentView, int], Dev] | None = None
    test: Dev | None = None
    name: str = "custom"
    _student_eval: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        student, teacher = own_copy(self.student, "student"), own_copy(self.teacher, "teacher").eval()
        check_student(in_train_mode(student))
        if not isinstance(self.optimizer, Optimizer):
            raise UserError(f"optimizer must be like l2t.SGD, not {type(self.optimizer).__name__}")
        check_groups(student, self.optimizer)
        object.__setattr__(self, "student", student)
        object.__setattr__(self, "_student_eval", copy.deepcopy(student).eval())
        object.__setattr__(self, "teacher", teacher)

    # -- where it lives ------------------------------------------------------------------------------------------

    @cached_property
    def device(self) -> torch.device:
        return next(iter(trained_parameters(self.student).values())).device

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of the student's trained parameters; s_t has it too."""
        return next(iter(trained_parameters(self.student).values())).dtype

    @property
    def frozen(self) -> TensorDict:
        """The student's parameters that are not trained, by name: not to be written into."""
        return {name: param.detach() for name, param in frozen_parameters(self.student).items()}

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "TeachingProblem":
        """The same problem on another device or in another precision; batches are moved and cast as they are drawn."""
        place, kind = torch.device(device or self.device), dtype or self.dtype
        train, init, prepare = self.train, self.init, self.prepare_dev
        return replace(
            self,
            student=copy.deepcopy(self.student).to(device=place, dtype=kind),
            teacher=copy.deepcopy(self.teacher).to(device=place, dtype=kind),
            train=lambda index, seed: cast(tuple(train(index, seed)), place, kind),
            dev=lambda: [cast(tuple(batch), place, kind) for batch in self.dev_batches],
            test=None if self.test is None else lambda: [cast(tuple(b), place, kind) for b in self.test_batches],
            init=None if init is None else lambda seed: cast(dict(init(seed)), place, kind),
            prepare_dev=prepare and (lambda v, s: [cast(tuple(b), place, kind) for b in _as_batches(prepare(v, s))]),
        )

    # -- beginnings ----------------------------------------------------------------------------------------------

    def init_teacher(self, seed: int) -> TensorDict:
        """theta: the teacher's trained parameters by name, re-initialised by ``reset_parameters`` under ``seed``.

        A parameter that no ``reset_parameters`` covers keeps the value it was given: a teacher may be born with one.
        """
        fresh, _ = fresh_parameters(self.teacher, mix_seeds(seed, 1))
        return {name: param.detach() for name, param in trained_parameters(fresh).items()}

    def init_student(self, seed: int) -> StudentState:
        """omega_0 of student ``seed``. Raises ``UserError`` for a parameter that nothing initialises."""
        fresh, uncovered = fresh_parameters(self.student, mix_seeds(seed, 2))
        params = {name: param.detach() for name, param in trained_parameters(fresh).items()}
        if self.init is not None:
            params = self._checked_init(self.init(seed), params)
        elif uncovered:
            raise UserError(
                f"no reset_parameters covers {', '.join(uncovered)}: give TeachingProblem an init=, "
                "a function from the seed to a dict of all parameters"
            )
        return StudentState(params, {name: buffer.detach() for name, buffer in fresh.named_buffers()})

    def _checked_init(self, given: Tensors, like: TensorDict) -> TensorDict:
        for name in set(given) & set(frozen := self.frozen):
            if not torch.equal(cast(given[name].detach(), self.device, frozen[name].dtype), frozen[name]):
                raise UserError(
                    f"init= gives {name}, which is frozen, another value than the student has: a frozen parameter "
                    "keeps the value that it was handed in with"
                )
        if set(given) - set(frozen) != set(like):
            odd = sorted((set(given) - set(frozen)) ^ set(like))
            raise UserError(f"init= must return the student's parameters; it differs in {', '.join(odd)}")
        for name, param in like.items():
            if given[name].shape != param.shape:
                raise UserError(
                    f"init= gives {name} shape {tuple(given[name].shape)}, the student {tuple(param.shape)}"
                )
        return {name: cast(given[name].detach(), self.device, self.dtype).clone() for name in like}

    def check_theta(self, theta: Tensors) -> None:
        """Raises ``UserError`` unless ``theta`` has the teacher's keys, shapes and dtypes."""
        if not isinstance(theta, Mapping) or not all(isinstance(part, Tensor) for part in theta.values()):
            raise UserError("theta must be a dict of the teacher's tensors by name, as init_teacher(seed) gives it")
        own = trained_parameters(self.teacher)
        if set(theta) != set(own):
            raise UserError(
                f"theta has the keys {', '.join(sorted(theta)) or '(none)'}; the teacher's are {', '.join(sorted(own))}"
            )
        for name, param in own.items():
            if theta[name].shape != param.shape:
                raise UserError(f"theta[{name!r}] has shape {tuple(theta[name].shape)}, not {tuple(param.shape)}")
            if theta[name].dtype != param.dtype:
                raise UserError(
                    f"theta[{name!r}] is {theta[name].dtype}, the teacher's is {param.dtype}: cast it first"
                )

    # -- the functions to differentiate --------------------------------------------------------------------------

    def phi(self, theta: Tensors, features: Tensor) -> Any:
        """phi_t = teacher(s_t; theta), the coefficients of the loss (paper, section 3.2)."""
        return call(self.teacher, {**dict(self.teacher.named_buffers()), **theta}, features)[0]

    def train_loss(self, params: Tensors, buffers: Tensors, phi: Any, step: Step) -> tuple[Tensor, TensorDict]:
        """L_phi(f_omega, batch) of ``step`` in train mode; the buffers after it, constants of the differentiation.

        Raises ``UserError`` for a student that writes into its parameters.
        """
        inputs, targets = step.batch
        own = {name: buffer.detach().clone() for name, buffer in buffers.items()}  # BatchNorm writes into them
        with self._training(params, step):
            output, held = call(self.student, {**own, **params}, inputs)
            loss = scalar(self.loss(output, targets, phi), "loss(output, target, phi)")
        return loss, {name: held[name].detach() for name in own}

    def module_loss(self, module: nn.Module, phi: Any, step: Step) -> Tensor:
        """The same on a module that holds its parameters itself, as ``higher`` and ``torchopt.MetaSGD`` want it."""
        inputs, targets = step.batch
        with self._training(dict(module.named_parameters()), step):
            return scalar(self.loss(module(inputs), targets, phi), "loss(output, target, phi)")

    @contextmanager
    def _training(self, params: Tensors, step: Step) -> Iterator[None]:
        """The forward pass of ``step``: replayable, twice differentiable, and a function of its parameters."""
        before = [param._version for param in params.values()]
        with seeded(step.seed, self.device), twice_differentiable(self.student, self.device):
            yield
        if [param._version for param in params.values()] != before:
            raise writes_into_its_parameters(step.index)

    def norm(self, params: Tensors) -> Tensor:
        """The Euclidean norm of the adjoint of a student's parameters: a 0-dimensional tensor."""
        return norm(params, wide(self.device))

    def dev_objective(self, params: Tensors, buffers: Tensors, batch: Batch) -> Tensor:
        """M~ on one dev batch, the student in eval mode."""
        inputs, targets = batch
        with plain_recurrence(self.student, self.device):
            output, _ = call(self._student_eval, {**buffers, **params}, inputs)
        return scalar(self.objective(output, targets), "objective(output, target)")

    def predict(self, state: StudentState, inputs: Any) -> Any:
        """The student's output in eval mode, without gradients."""
        with torch.no_grad():
            return call(self._student_eval, {**state.buffers, **state.params}, inputs)[0]

    def decode(self, state: StudentState, inputs: Any) -> Any:
        """The student's ``decode`` in eval mode, without gradients. Raises ``UserError`` where it has none."""
        if not callable(getattr(self._student_eval, "decode", None)):
            raise UserError(f"the student ({type(self.student).__name__}) has no decode method")
        with torch.no_grad():
            return call_decode(self._student_eval, {**state.buffers, **state.params}, inputs)

    @cached_property
    def derived(self) -> dict[Hashable, Any]:
        """What is made of this problem once and for all, such as its compiled steps: functions of it and of the key."""
        return {}

    # -- data ----------------------------------------------------------------------------------------------------

    @cached_property
    def dev_batches(self) -> tuple[Batch, ...]:
        return _as_batches(self.dev)

    @cached_property
    def test_batches(self) -> tuple[Batch, ...]:
        if self.test is None:
            raise UserError(f"problem {self.name} has no test set")
        return _as_batches(self.test)

    def check_objective(self) -> None:
        """Raises ``UserError`` for an objective that is no scalar or writes into dev, before a run is lost over it.

        Looked at once, on the first dev batch. Batches that ``prepare_dev`` makes need a trained student: those are
        looked at when they are there.
        """
        _ = self._untrained_objective

    @cached_property
    def _untrained_objective(self) -> Tensor | None:
        if self.prepare_dev is not None:
            return None
        held = {**dict(self._student_eval.named_parameters()), **dict(self._student_eval.named_buffers())}
        leaves = tensor_leaves(tuple(self.dev_batches[0]))
        before = [leaf._version for leaf in leaves]
        with torch.no_grad():
            value, again = (self.dev_objective(held, {}, self.dev_batches[0]) for _ in range(2))
        if [leaf._version for leaf in leaves] != before:
            raise UserError(
                "the student in eval mode, or the objective, writes into its dev batch: the next look at it would find "
                "another one; work on a copy (inputs.clone())"
            )
        if not torch.allclose(again, value, equal_nan=True):
            raise UserError(
                f"the dev objective is {value.item():.6g}, and {again.item():.6g} when it is taken again: the student "
                "in eval mode, or the objective, draws random numbers (functional.dropout wants training=self.training)"
            )
        return value

    def view(self, state: StudentState, index: int, horizon: int, seed: int, previous: Tensor | None) -> StudentView:
        """What ``features`` and ``prepare_dev`` see of this state."""
        return StudentView(
            index=index,
            horizon=horizon,
            predict=lambda inputs: self.predict(state, inputs),
            decode=lambda inputs: self.decode(state, inputs),
            train=lambda at: self.train(at, seed),
            dev=self.dev_batches,
            previous=previous,
        )

    def step_features(self, view: StudentView) -> Tensor:
        """s_t as the problem's ``features`` rule gives it, checked: 1-D, of the student's dtype and device."""
        if self.features is None:
            # Filled on the device: a number that is copied there from the host is waited for, at every step.
            return torch.full((1,), view.index / view.horizon, dtype=self.dtype, device=self.device)
        before = None if view.previous is None else view.previous._version
        with torch.no_grad():
            features = self.features(view)
        if view.previous is not None and view.previous._version != before:
            raise UserError(
                f"features(view) writes into view.previous at step {view.index}: those are the features that the step "
                "before was recorded with, and its phi was made of; write into a copy (view.previous.clone())"
            )
        if features is not None and features is view.previous:
            return view.previous  # the very tensor: phi_t is made once for all the steps that share it
        if not isinstance(features, Tensor) or features.ndim != 1:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise UserError(f"features(view) must return a 1-D tensor, not {shape}")
        return features.detach().to(device=self.device, dtype=self.dtype, copy=True)

    def final_dev_batches(self, state: StudentState, horizon: int, seed: int) -> tuple[Batch, ...]:
        """The dev batches at omega_T: the fixed ones, or those that ``prepare_dev`` makes.

        Made twice once for a problem: raises ``UserError`` where they are others, since each method would differentiate
        another objective.
        """
        prepare = self.prepare_dev
        if prepare is None:
            return self.dev_batches

        def prepared() -> tuple[Batch, ...]:
            with torch.no_grad():
                return _as_batches(prepare(self.view(state, horizon, horizon, seed, None), seed))

        made = prepared()
        if "prepare_dev" not in self.derived:
            if not same_tensors(made, prepared()):
                raise UserError(
                    "prepare_dev(view, seed) gives other batches when it is called again: it must be a function of the "
                    "student and the seed; draw from a torch.Generator with that seed"
                )
            self.derived["prepare_dev"] = True
        return made


def _as_batches(dev: Dev) -> tuple[Batch, ...]:
    """A tuple of two is one batch; any other iterable is a sequence of batches; a function is called first."""
    given = dev() if callable(dev) else dev
    batches: Iterable[Batch] = [given] if isinstance(given, tuple) and len(given) == 2 else given
    result = tuple(batches)
    if not result:
        raise UserError("dev holds no batch: give one (inputs, targets) tuple or a list of them")
    for batch in result:
        if isinstance(batch, Tensor | Mapping) or not hasattr(batch, "__len__") or len(batch) != 2:
            raise UserError("dev must be one (inputs, targets) tuple or a list of such tuples")
        if not example_count(batch):
            raise UserError("a dev batch holds no example")
    return result


def example_count(batch: Batch) -> int:
    """How many examples a batch holds: the first dimension of the first tensor of its targets, else of its inputs."""
    inputs, targets = batch
    leaves = tensor_leaves(targets) or tensor_leaves(inputs)
    if not leaves or leaves[0].ndim == 0:
        raise UserError("a batch must hold tensors whose first dimension counts the examples")
    return int(leaves[0].shape[0])
