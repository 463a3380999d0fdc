"""A store that keeps the graphs of steps, so that they need not be made a second time."""

import dataclasses
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit, phi_leaves
from l2t_bench.errors import UserError
from l2t_bench.gradient_look import GradientLooks
from l2t_bench.measure import Meter
from l2t_bench.modules import same_tensors, tensor_leaves
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout, plain_step
from l2t_bench.sampling import standard_normal
from l2t_bench.second_order import StepGraph
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.stores.contract import Law, Room, Sizes, Store, Wanted, sizes_of
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import student_gradient

_OBJECTS = 2_500  # bytes of autograd's own objects beside each saved tensor, as measured


class KeepGraphs(Store):
    """``graph``: every omega_t, and the graphs of as many of the last steps as fit ``budget``. Memory T*P + n*G.

    A step whose graph is there is gone back through without being replayed: in time this is unrolling where all of them
    fit (no ``budget``: all). G is measured at the first step and taken to be every step's. A student whose gradient has
    other bits when its graph is kept (torch has other formulas for SiLU and GroupNorm then) is trained by the plain
    one, which is taken beside; that, too, is found at the first steps, once for a problem.

    What is not read again cannot be another one: unlike the other stores this one differentiates a run whose batches
    change from reading to reading, as unrolling does, and does not say that they do.
    """

    name = "graph"
    reads = ("bytes",)
    modes = ("ror",)
    engines = ("eager",)

    def __init__(
        self, rollout: Rollout, meter: Meter, wanted: Wanted, room: Room, stepper: EagerStepper | None = None
    ) -> None:
        super().__init__(rollout, meter, wanted, room, stepper)
        self._room_for_graphs: int | None = None
        self._from = wanted.first
        self._same_bits = True
        self._gradient_looks = GradientLooks()  # of graphs that the run was not trained by
        self._visits: list[Visit] = []

    @classmethod
    def law(cls, wanted: Wanted, sizes: Sizes, room: Room) -> Law:
        if room.bytes is None:
            return Law(None)
        for_graphs(wanted, sizes, room.bytes)
        return Law(room.bytes)

    def begin(self, state: StudentState) -> StudentState:
        if self.room.bytes is not None:
            sizes = sizes_of(state, self.rollout.problem.optimizer.slot_names)
            self._room_for_graphs = for_graphs(self.wanted, sizes, self.room.bytes)
        return state

    def advance(self, step: Step, state: StudentState) -> StudentState:
        if step.index < self.wanted.first:
            return self._plain(step, state)
        if step.index == self.wanted.first:
            return self._first(step, state)
        if step.index == self.wanted.first + 1:
            self._compare(step, state)
        if step.index < self._from:
            self._visits.append(Visit(step, self.visited(state)))
            return self._plain(step, state)
        graph = self._graph(step, state)
        self._visits.append(Visit(step, self.visited(state), graph))
        if not self._same_bits:
            self._look(step, state)
            return self._plain(step, state)
        self.rollout.observe(graph.loss)
        return self._after(graph, step, state)

    def backwards(self) -> Iterator[Visit]:
        while self._visits:
            yield self._visits.pop()

    def _first(self, step: Step, state: StudentState) -> StudentState:
        """The first wanted step, taken plainly: its graph says what a graph takes."""
        if self._room_for_graphs is None:
            graph = self._graph(step, state)
        else:
            with _Saved() as saved:
                graph = self._graph(step, state)
            held = [state.params, state.buffers, state.slots, step.batch, step.features]
            size = saved.bytes_beside(held, graph.gradients)
            self._from = self.wanted.horizon - min(self.wanted.steps, self._room_for_graphs // max(1, size))
        self._visits.append(Visit(step, self.visited(state), graph if step.index >= self._from else None))
        del graph
        self._compare(step, state)
        return self._plain(step, state)

    def _compare(self, step: Step, state: StudentState) -> None:
        """Whether graphs give the bits of plain gradients: looked at in the first two wanted steps of a problem.

        The first step alone would not do: phi may be zero there, for features that start at zero.
        """
        seen, key = self.rollout.problem.derived, ("bits of a kept graph", step.index - self.wanted.first)
        if key not in seen:
            seen[key] = self._has_plain_bits(step, state)
        self._same_bits = self._same_bits and seen[key]

    def _has_plain_bits(self, step: Step, state: StudentState) -> bool:
        """At the student and away from it: behind an output layer of zeros all gradients are zero, by any formula."""
        held = {name: param.clone() for name, param in state.params.items()}  # a student may write into them
        for params in (held, _moved(held, step.seed)):
            at = dataclasses.replace(state, params=params)
            graph, plain = self._graph(step, at), student_gradient(self.rollout.problem, at, step, self._phi(step))
            if not same_tensors((graph.gradients, graph.buffers), (plain.gradients, plain.buffers)):
                return False
        return True

    def _look(self, step: Step, state: StudentState) -> None:
        """A run that is not trained by its graphs is held to them: a gradient that changes would be another one."""
        problem, phi = self.rollout.problem, self._phi(step)
        self._gradient_looks.see(problem, state, step, lambda: student_gradient(problem, state, step, phi))

    def _phi(self, step: Step) -> Any:
        return self.rollout.phi(step)

    def _graph(self, step: Step, state: StudentState) -> StepGraph:
        return StepGraph(self.rollout.problem, state, step, phi_leaves(self._phi(step)))

    def _plain(self, step: Step, state: StudentState) -> StudentState:
        return plain_step(self.rollout, state, step, self._phi(step))

    def _after(self, graph: StepGraph, step: Step, state: StudentState) -> StudentState:
        """The state after a step whose graph is there, by the same update as in plain training."""
        with torch.no_grad():
            updated, slots = self.rollout.problem.optimizer.step(
                state.params, graph.gradients, state.slots, index=step.index, lr=step.lr
            )
        return StudentState(updated, graph.buffers, slots)


def for_graphs(wanted: Wanted, sizes: Sizes, budget: int) -> int:
    """What a budget leaves for graphs beside the states. Raises ``UserError`` for one that does not hold those."""
    states = wanted.steps * sizes.visited(wanted)
    if budget < states:
        raise UserError(
            f"store=graph: a budget of {budget:,} bytes is too small: the {wanted.steps} states of the run take "
            f"{states:,}; store=binomial does with less"
        )
    return budget - states


def _moved(params: Tensors, seed: int) -> TensorDict:
    """Away from ``params`` by half their size, and a tenth where they are zero: there no gradient is zero by chance."""
    away = standard_normal(params, seed, 73)
    sizes = {name: (0.5 * param.square().mean().sqrt()).clamp(min=0.1) for name, param in params.items()}
    return {name: param + sizes[name] * away[name] for name, param in params.items()}


class _Saved:
    """Sees what autograd saves inside the block."""

    def __init__(self) -> None:
        self._seen: list[weakref.ref[Tensor]] = []
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> "_Saved":
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def bytes_beside(self, held: object, kept: Tensors) -> int:
        """Bytes of what is still saved, and of ``kept``, each storage once, but for those of tensors in ``held``."""
        others = {tensor.untyped_storage().data_ptr() for tensor in tensor_leaves(held)}
        alive = [tensor for seen in self._seen if (tensor := seen()) is not None]
        storages = [tensor.untyped_storage() for tensor in (*alive, *kept.values())]
        sizes = {s.data_ptr(): s.nbytes() for s in storages if s.data_ptr() not in others}
        return sum(sizes.values()) + _OBJECTS * len(alive)

    def _pack(self, tensor: Tensor) -> Tensor:
        own = tensor.detach()  # the tensor itself would refer to the graph that it is saved in
        self._seen.append(weakref.ref(own))
        return own
