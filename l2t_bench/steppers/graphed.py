"""Compiled steps in blocks, each recorded once and replayed: on a GPU one launch for ten steps, not one a kernel."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.gradient import Walked
from l2t_bench.measure import Meter
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker, StepGraph
from l2t_bench.steppers.blocks import (
    Ahead,
    Block,
    End,
    Start,
    WentThere,
    ahead_of,
    back_block,
    flat,
    forward_block,
    recorded,
)
from l2t_bench.steppers.compiled import CompiledStepper
from l2t_bench.steppers.eager import Passed
from l2t_bench.steppers.recording import Recorder, StaticCall, copy_all, kept
from l2t_bench.steppers.rows import copy_into
from l2t_bench.steppers.sharing import Activations
from l2t_bench.steppers.tracing import given_rows, held

BLOCK = 10
"""Steps of a block. ``features.paper`` measures s_t every twenty steps: two blocks."""
_GROUP = 2  # blocks that are handed in together: the second one's inputs are staged while the first one is at work

_Part = tuple[slice, Ahead | None, Ahead | None]


class GraphedStepper(CompiledStepper):
    """Where ``block`` steps in a row are known before they are taken, they are one recorded call; so on the way back.

    All others are taken as by ``CompiledStepper``: the first step, what is left of a block, a step of another shape,
    steps that are taken once more. ``recorder`` records, ``None`` where nothing can; then, and where a recording fails,
    ``warnings`` says so. A recorded call works on tensors of its own, into which a block's inputs are copied and from
    which its results are: one more pass over the states than compiled steps take. It is kept with the problem.
    """

    engine = "graphed"

    def __init__(
        self,
        rollout: Rollout,
        meter: Meter,
        *,
        recorder: Recorder | None,
        block: int = BLOCK,
        second_order: Maker = StepGraph,
        hyper: bool = False,
        slots: bool = False,
        activations: Activations = "some",
    ) -> None:
        super().__init__(rollout, meter, second_order=second_order, hyper=hyper, slots=slots, activations=activations)
        self._recorder, self._block = recorder, block
        self._longest = 0  # row of steps that was known ahead
        self._why = ""  # no blocks are recorded
        if recorder is None:
            self._why = f"CUDA graphs need a CUDA device, and the problem is on {rollout.problem.device.type}"

    @property
    def numbers_on(self) -> torch.device:
        # What the host reads while a graph is captured is in it for ever.
        return self.rollout.problem.device

    @property
    def passing(self) -> frozenset[str]:
        return frozenset()  # the states of a block are looked at when all of them are there

    @property
    def at_once(self) -> int:
        return 1 if self._why else _GROUP * self._block

    @property
    def walked(self) -> Walked:
        found = super().walked
        if found.engine == "eager":
            return found
        if self._why:
            return Walked("compiled", self._why, instead_of=self.engine)
        if self.rollout.horizon <= self._block:
            return Walked("compiled", f"there are no {self._block} steps after the first", instead_of=self.engine)
        return Walked("graphed")

    @property
    def warnings(self) -> tuple[str, ...]:
        if self._plain is not None:
            return super().warnings
        if self._why:
            return (*super().warnings, f"engine=graphed: {self._why}; steps were taken one by one, compiled")
        if self._longest < self._block <= self.rollout.horizon // 2 - 1:
            return (
                *super().warnings,
                f"engine=graphed: no {self._block} steps in a row are known before they are taken: s_t is measured too "
                "often, or its rule has no held_until(index); forward they were taken one by one, compiled",
            )
        return super().warnings

    def advance_all(self, steps: Sequence[Step], state: StudentState) -> list[StudentState]:
        self._longest = max(self._longest, len(steps))
        states = [state]
        for part, ahead, then in self._parts(steps, [state] * len(steps)):
            taken = None if ahead is None else self._take_block(steps[part], ahead, then, states[-1])
            states += super().advance_all(steps[part], states[-1]) if taken is None else taken
        return states[1:]

    def back_all(self, visits: Sequence[Visit], adjoint: Adjoint) -> list[Passed]:
        passed: list[Passed] = []
        for part, ahead, then in self._parts([visit.step for visit in visits], [visit.state for visit in visits]):
            after = passed[-1].adjoint if passed else adjoint
            found = None if ahead is None else self._back_block(visits[part], ahead, then, after)
            passed += super().back_all(visits[part], after) if found is None else found
        return passed

    def _parts(self, steps: Sequence[Step], states: Sequence[StudentState]) -> Iterator[_Part]:
        """The steps of each block; what is known of them, ``None`` where they are none; and of the next block's."""
        parts = [slice(at, at + self._block) for at in range(0, len(steps), self._block)]
        known = [self._known(steps[part], states[part]) for part in parts]
        yield from zip(parts, known, [*known[1:], None], strict=True)

    def _known(self, steps: Sequence[Step], states: Sequence[StudentState]) -> Ahead | None:
        if self._why or len(steps) < self._block or any(step.index == 0 for step in steps):
            return None
        if self._fitting(steps[0], states[0]) is None:
            return None
        if self._functions.random:
            self._why = "its steps draw random numbers, under a seed that is set before each"
            return None
        form = self._functions.given.form
        if form.expanded:
            self._why = "its batches hold tensors made by expand, into which nothing can be copied: clone() them"
            return None
        rows = given_rows([step.batch for step in steps], [step.features for step in steps], form)
        return None if rows is None else ahead_of(steps, rows, self.rollout.problem.device)

    def _take_block(
        self, steps: Sequence[Step], ahead: Ahead, then: Ahead | None, state: StudentState
    ) -> list[StudentState] | None:
        """The states after each step; ``None`` where the block cannot be recorded."""
        start = Start(held(state), self._theta)
        call = self._recorded("forward", Block(forward_block(self._functions), ahead, start))
        return None if call is None else self._taken_out(steps, state, call(ahead, start, then))

    def _taken_out(self, steps: Sequence[Step], before: StudentState, found: WentThere) -> list[StudentState]:
        """Each state where it is to lie; what else the steps give, in tensors of its own."""
        places = [self._place_after(step, before) for step in steps]
        targets: list[Tensor] = []
        sources: list[Tensor] = []
        for at, (place, taken) in enumerate(zip(places, found.steps, strict=True)):
            params, slots = taken.after
            kept_slots = self._slots_kept or at == len(steps) - 1  # else places of slots are fewer than steps
            targets += flat((place.params, place.slots if kept_slots else {}))
            sources += flat((params, slots if kept_slots else {}))
        copy_all(targets, sources)
        losses, rest = kept(
            (
                found.losses,
                [
                    (taken.buffers, taken.kept if step.index in self._kept else [])
                    for step, taken in zip(steps, found.steps, strict=True)
                ],
            )
        )
        states: list[StudentState] = []
        for step, place, loss, (buffers, between) in zip(steps, places, losses.unbind(), rest, strict=True):
            self._observe(step, states[-1] if states else before, loss)
            if step.index in self._kept:
                self._between[step.index] = between
            states.append(StudentState(place.params, buffers, place.slots))
        without = states[:-1] if self._slots_kept else [state.without_slots() for state in states[:-1]]
        return [*without, states[-1]]

    def _back_block(
        self, visits: Sequence[Visit], ahead: Ahead, then: Ahead | None, adjoint: Adjoint
    ) -> list[Passed] | None:
        """What comes of each step back, all with the adjoint before the last; ``None`` where it cannot be recorded."""
        bars = self._place_of_bars(adjoint)
        if adjoint is not bars:
            copy_into(bars, adjoint.params, adjoint.slots)
        between = [self._between.get(visit.step.index, []) for visit in visits]
        states = [held(visit.state) for visit in visits]
        end = End(states, between, self._theta, (bars.params, bars.slots), self._d_theta)
        call = self._recorded("back", Block(back_block(self._functions), ahead, end))
        if call is None:
            return None
        found = call(ahead, end, then)
        copy_all(
            [*flat((bars.params, bars.slots)), *self._d_theta.values()],
            [*flat(found.bars), *found.d_theta.values()],
        )
        for visit in visits:
            self._between.pop(visit.step.index, None)
        return [
            Passed(bars, norm, loss, dict(zip(self._functions.hyper, hyper, strict=True)))
            for loss, norm, *hyper in zip(*(column.unbind() for column in kept(found.told)), strict=True)
        ]

    def _recorded(self, way: str, block: Block) -> StaticCall | None:
        recorder, device = self._recorder, self.rollout.problem.device
        assert recorder is not None, "else no steps are a block"
        key = ("block of steps", way, self._functions, self._block, recorder)
        made = self.made_once(key, lambda: recorded(block, recorder, device))
        if isinstance(made, str):
            self._why = made
            return None
        return made
