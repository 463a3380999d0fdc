"""A meta-batch of students as one student: the same mathematics by ``torch.func.vmap``, one dimension more.

Where a problem says omega, M~ or L_phi, a stacked one means N of each: parameters, buffers, slots, theta, phi and s_t
with a first dimension of N, losses and norms of shape (N,). No student's entry depends on another's, so that the
derivative of the sum of the N losses by the stacked parameters is each student's own, and steps, products of second
derivatives and adjoints are taken by the very functions that take them for one student, in any stepper and store.
"""

from collections.abc import Callable, Hashable
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

from torch import Tensor
from torch.func import vmap

from l2t_bench.adam import Adam
from l2t_bench.batches import Batch
from l2t_bench.metabatch.layers import plain_layers
from l2t_bench.metabatch.stacking import norms
from l2t_bench.modules import twice_differentiable
from l2t_bench.optimizers import SGD, Adjoint, Optimizer, Slots, Taken
from l2t_bench.problem import Step, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, wide


@dataclass(frozen=True)
class StackedOptimizer:
    """A student's optimiser over the stacked tensors of N students: each student's norms are its own."""

    alone: Optimizer

    @property
    def slot_names(self) -> tuple[str, ...]:
        return self.alone.slot_names

    @property
    def reads_slots(self) -> bool:
        return self.alone.reads_slots

    @property
    def reads_gradients(self) -> bool:
        return self.alone.reads_gradients

    def lr_at(self, index: int, horizon: int) -> float:
        return self.alone.lr_at(index, horizon)

    @property
    def _entry_by_entry(self) -> bool:
        """Whether an entry's step depends on that entry alone: the stacked tensors are then taken as they are."""
        return type(self.alone) in (SGD, Adam) and self.alone.clip is None  # type: ignore[attr-defined]

    def step(
        self, params: Tensors, gradients: Tensors, slots: Slots, *, index: int | Tensor, lr: float | Tensor
    ) -> tuple[TensorDict, dict[str, TensorDict]]:
        if self._entry_by_entry:
            return self.alone.step(params, gradients, slots, index=index, lr=lr)

        def of_one(params: TensorDict, gradients: TensorDict, slots: dict[str, TensorDict]) -> Any:
            return self.alone.step(params, gradients, slots, index=index, lr=lr)

        updated, after = _mapped(of_one)(dict(params), dict(gradients), _plain(slots))
        return updated, after

    def pull_back(self, adjoint: Adjoint, taken: Taken) -> tuple[TensorDict, Adjoint]:
        if self._entry_by_entry:
            return self.alone.pull_back(adjoint, taken)

        def of_one(adjoint: Adjoint, taken: Taken) -> Any:
            g_bar, carried = self.alone.pull_back(adjoint, taken)
            return g_bar, carried.params, carried.slots

        g_bar, params, slots = _through(of_one, adjoint, taken)
        return g_bar, Adjoint(params, slots)

    def hyper_gradients(self, adjoint: Adjoint, taken: Taken) -> dict[str, Tensor]:
        found: dict[str, Tensor] = _through(self.alone.hyper_gradients, adjoint, taken)
        return found


def _through(function: Callable[[Adjoint, Taken], Any], adjoint: Adjoint, taken: Taken) -> Any:
    """``function`` of each student's adjoint and step; the records are no trees that ``vmap`` could look into."""

    def of_one(bars: TensorDict, bar_slots: Any, params: TensorDict, gradients: TensorDict, slots: Any) -> Any:
        return function(Adjoint(bars, bar_slots), replace(taken, params=params, gradients=gradients, slots=slots))

    held = dict(taken.params), dict(taken.gradients), _plain(taken.slots)
    return _mapped(of_one)(adjoint.params, adjoint.slots, *held)


def _plain(slots: Slots) -> dict[str, TensorDict]:
    return {name: dict(held) for name, held in slots.items()}


def _mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` over the first dimension. A student that draws random numbers raises: it could not be replayed."""
    return vmap(function, randomness="error")


@dataclass(frozen=True, eq=False)
class StackedProblem(TeachingProblem):
    """``count`` students of the problem ``alone``, as one. Made by ``stacked_problem``; modules are not copied."""

    _: KW_ONLY
    alone: TeachingProblem
    count: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_student_eval", self.alone._student_eval)

    def phi(self, theta: Tensors, features: Tensor) -> Any:
        return _mapped(self.alone.phi)(dict(theta), features)

    def train_loss(self, params: Tensors, buffers: Tensors, phi: Any, step: Step) -> tuple[Tensor, TensorDict]:
        def of_one(params: TensorDict, buffers: TensorDict, phi: Any, batch: Any) -> Any:
            return self.alone.train_loss(params, buffers, phi, replace(step, batch=batch))

        with plain_layers(self.student):
            loss, after = _mapped(of_one)(dict(params), dict(buffers), phi, tuple(step.batch))
        return loss, after

    def dev_objective(self, params: Tensors, buffers: Tensors, batch: Batch) -> Tensor:
        """M~ of every student on one dev batch, which is the same for all."""

        def of_one(params: TensorDict, buffers: TensorDict) -> Tensor:
            return self.alone.dev_objective(params, buffers, batch)

        # The attention kernel that is quicker where one derivative is enough has no batching rule.
        with plain_layers(self.student), twice_differentiable(self.student, self.device):
            found: Tensor = _mapped(of_one)(dict(params), dict(buffers))
        return found

    def norm(self, params: Tensors) -> Tensor:
        return norms(params, wide(self.device))


def stacked_problem(alone: TeachingProblem, count: int) -> StackedProblem:
    """``count`` students of a problem as one; the same object each time, so that compiled steps are found again."""
    key: Hashable = ("stacked problem", count)
    if key not in alone.derived:
        alone.derived[key] = StackedProblem(
            student=alone.student,
            teacher=alone.teacher,
            loss=alone.loss,
            objective=alone.objective,
            optimizer=StackedOptimizer(alone.optimizer),
            train=alone.train,
            dev=alone.dev,
            name=f"{count} students of {alone.name}",
            alone=alone,
            count=count,
        )
    made: StackedProblem = alone.derived[key]
    return made
