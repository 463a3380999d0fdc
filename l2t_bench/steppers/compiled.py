"""The steps of a run traced whole and compiled: no operator by itself, no graph, results written where they stay."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from l2t_bench.adjoint import Visit
from l2t_bench.gradient import Walked
from l2t_bench.measure import Meter
from l2t_bench.modules import trained_parameters
from l2t_bench.optimizers import Adjoint
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker, StepGraph
from l2t_bench.steppers.compiling import Functions, NotFinite, Wish, compiled_steps, settings_of_torch
from l2t_bench.steppers.eager import EagerStepper, Passed
from l2t_bench.steppers.holding import PlainLosses, same_step
from l2t_bench.steppers.operators import operators_at_first
from l2t_bench.steppers.rows import Places, adjoint_place, copy_into
from l2t_bench.steppers.sharing import Activations
from l2t_bench.steppers.tracing import Form, Given, given
from l2t_bench.tensors import TensorDict, added, zeros_like

Made = TypeVar("Made")
MOST_SHAPES = 4
"""Of a problem's steps that are compiled: each takes seconds to minutes, and the functions stay with the problem."""


class CompiledStepper(EagerStepper):
    """Steps shaped alike go through compiled functions, all others in plain torch.

    Those are compiled whose shape is the first to come a second time, so that no smaller batch is taken for the rule.
    The first step is another function than those after it (torch's first-step rule): it is taken in plain torch. So is
    what is shaped otherwise, and nothing is compiled again in silence: ``warnings`` says what went in plain torch
    beside the first step, and why, and where another shape was compiled than for an earlier run. The functions are made
    once for a problem and a shape, of which there are a few, and kept with it. ``slots``:
    whether the states gone back through have theirs. ``activations``: what a step keeps for its step back, where the
    states of all steps are kept (see ``sharing``). ``most_operators``: of a step that is compiled; one that has more is
    taken in plain torch, which is found out without tracing it.
    """

    engine = "compiled"

    def __init__(
        self,
        rollout: Rollout,
        meter: Meter,
        *,
        second_order: Maker = StepGraph,
        hyper: bool = False,
        slots: bool = False,
        activations: Activations = "some",
        most_operators: int | None = None,
    ) -> None:
        super().__init__(rollout, meter, second_order=second_order, hyper=hyper)
        self._most_operators = most_operators
        self._slots, self._activations = slots or hyper, activations
        # Compiled code knows its inputs by their places, and takes them to lie as those that it was traced with.
        names = trained_parameters(rollout.problem.teacher)
        self._theta = {name: rollout.theta[name].detach().contiguous() for name in names}
        self._made: Functions | str | None = None
        self._kept, self._slots_kept = range(0), True
        self._places: Places | None = None
        self._bars: Adjoint | None = None
        self._d_theta: TensorDict = {}
        self._between: dict[int, list[Tensor]] = {}  # what steps keep for the way back, by index
        self._whole: dict[int, TensorDict] = {}  # what compiled steps pass over of states that plain ones go back to
        self._odd: set[int] = set()
        self._seen: dict[Form, int] = {}  # the shapes that have come while nothing was compiled, and at which step
        self._anew = False
        self._written = 0  # the state that a compiled step was the last to write, by index
        self._plain_losses = PlainLosses(rollout, meter)

    @property
    def numbers_on(self) -> torch.device:
        """Where the functions have lr and index: on the host, where each call has its own."""
        return torch.device("cpu")

    @property
    def walked(self) -> Walked:
        if (why := self._plain) is not None:
            return Walked("eager", why, instead_of=self.engine)
        if self._made is None:  # the first step is no reason to compile
            return Walked("eager", "it is one step long")
        odd = f"{len(self._odd)} of {self.rollout.horizon} steps are shaped otherwise, and went in plain torch"
        return Walked("compiled", odd if self._odd else self.because)

    @property
    def _plain(self) -> str | None:
        """Why the whole run is taken in plain torch; ``None`` where it is not, or is one step long."""
        if isinstance(self._made, str):
            return self._made
        if self._made is None and self._odd:
            return self._too_many_operators() or "no two steps are shaped alike"
        return None

    @property
    def warnings(self) -> tuple[str, ...]:
        if (why := self._plain) is not None:
            return (f"engine={self.engine}: {why}; the run was taken in plain torch",)
        found = []
        if self._odd:
            found.append(
                f"engine={self.engine}: {len(self._odd)} of {self.rollout.horizon} steps, the first of them step "
                f"{min(self._odd)}, are shaped otherwise than the one that was compiled, and went in plain torch"
            )
        if self._anew:
            found.append(
                f"engine={self.engine}: compiled once more, for steps shaped otherwise than an earlier run's of this "
                "problem"
            )
        return tuple(found)

    def reserve(self, first: int, steps: int, *, slots: bool) -> None:
        # omega_T is the result's: it lies apart, so that it does not keep the others from being freed.
        self._kept, self._slots_kept = range(first, first + steps), slots

    def advance(self, step: Step, state: StudentState) -> StudentState:
        taken = self._taken(step, state)
        if taken is None:
            self._hold_whole(step, state)
            return super().advance(step, state)
        after, loss = taken
        self._observe(step, state, loss)
        return after

    def _observe(self, step: Step, state: StudentState, loss: Tensor) -> None:
        self.rollout.observe(loss)
        self._plain_losses.see(self._functions, step, state)

    def again(self, step: Step, state: StudentState) -> StudentState:
        taken = self._taken(step, state)
        return super().again(step, state) if taken is None else taken[0]

    def begin_back(self, w_bar: TensorDict) -> Adjoint:
        self._plain_losses.look()
        self._d_theta = zeros_like(self._theta)
        return super().begin_back(w_bar)

    def back(self, visit: Visit, adjoint: Adjoint) -> Passed:
        fitting = None if visit.second_order else self._fitting(visit.step, visit.state)
        if fitting is None:
            return super().back(self._whole_again(visit), adjoint)
        functions, leaves = fitting
        bars = self._place_of_bars(adjoint)
        if adjoint is not bars:
            copy_into(bars, adjoint.params, adjoint.slots)
        kept = self._between.pop(visit.step.index, ())
        loss, length, *hyper = functions.go_back(
            visit.step, visit.state, self._theta, leaves, bars, self._d_theta, kept
        )
        return Passed(bars, length, loss, dict(zip(functions.hyper, hyper, strict=True)))

    def _place_of_bars(self, like: Adjoint) -> Adjoint:
        self._bars = self._bars or adjoint_place(like.params, tuple(like.slots))
        return self._bars

    def d_theta(self) -> TensorDict:
        return added(super().d_theta(), self._d_theta)

    def _taken(self, step: Step, state: StudentState) -> tuple[StudentState, Tensor] | None:
        """The state after a step and its loss; ``None`` for a step that the compiled functions are not for."""
        fitting = self._fitting(step, state)
        if fitting is None:
            return None
        functions, leaves = fitting
        place = self._place_after(step, state)
        loss, *others = functions.take(step, state, self._theta, leaves, place)
        buffers = dict(zip(state.buffers, others, strict=False))
        if step.index in self._kept:
            self._between[step.index] = others[len(buffers) :]
        self._written = step.index + 1
        return StudentState(place.params, buffers, place.slots), loss

    def _place_after(self, step: Step, like: StudentState) -> Adjoint:
        self._places = self._places or Places(like, self._kept, slots_kept=self._slots_kept, passing=self.passing)
        return self._places.of(step.index + 1)

    @property
    def passing(self) -> frozenset[str]:
        """The parameters that are not kept with the states: no step back reads them."""
        return self._made.unread if isinstance(self._made, Functions) else frozenset()

    def _hold_whole(self, step: Step, state: StudentState) -> None:
        """Of a state from which plain torch goes on, and to which it will come back: there no parameter may pass."""
        if step.index in self._kept and step.index == self._written:
            self._whole[step.index] = {name: state.params[name].clone() for name in self.passing}

    def _whole_again(self, visit: Visit) -> Visit:
        held = self._whole.pop(visit.step.index, None)
        return replace(visit, state=replace(visit.state, params={**visit.state.params, **held})) if held else visit

    def _fitting(self, step: Step, state: StudentState) -> tuple[Functions, list[Tensor]] | None:
        """The compiled functions for this step, with its inputs; made when the first step that they are for comes."""
        if step.index == 0 and self._seen:
            return None
        ours = given(step.batch, step.features)
        if self._made is None and self._comes_again(step, ours):
            self._made = self._too_many_operators() or self._make(step, state, ours)
            self._odd -= {at for form, at in self._seen.items() if ours is not None and form == ours.form}
        if isinstance(self._made, str) or step.index == 0:
            return None
        if self._made is None or ours is None or ours.form != self._made.given.form:
            self._odd.add(step.index)
            return None
        return self._made, ours.leaves

    def _comes_again(self, step: Step, ours: Given | None) -> bool:
        """Whether a step shaped like this one has come before, or none at all: a run may be gone on with midway."""
        if ours is None:
            return step.index > 0
        before = bool(self._seen)
        return self._seen.setdefault(ours.form, step.index) != step.index or (step.index > 0 and not before)

    def _too_many_operators(self) -> str | None:
        most = self._most_operators
        if most is None or (count := operators_at_first(self.rollout.problem)) <= most:
            return None
        return (
            f"a step has {count:,} operators, which take minutes to compile: auto does it up to {most}, "
            "engine=compiled whatever it takes"
        )

    def _make(self, step: Step, state: StudentState, ours: Given | None) -> Functions | str:
        if ours is None:
            return "its batches hold more than tensors"
        activations = self._activations if self._kept else None
        problem = self.rollout.problem
        asked = self._second_order, self._slots, activations, self._hyper, self.numbers_on
        wish = Wish(problem, self._theta, state, step, ours, *asked)
        key = (*asked, settings_of_torch(problem.device))
        made = self.made_once(("compiled steps", ours.form, *key), lambda: self._another(wish, key))
        if isinstance(made, Functions) and not same_step(wish, made):
            return "a step is another one than when its steps were compiled: something that the loss reads has changed"
        return made

    def _another(self, wish: Wish, key: Hashable) -> Functions | str:
        """``compiled_steps``; of other shapes than an earlier run of the problem had a few, and that is said."""
        held, counted = self.rollout.problem.derived, ("shapes that were compiled", key)
        count: int = held.get(counted, 0)
        if count == MOST_SHAPES:
            return f"its runs have steps of more than {MOST_SHAPES} shapes, and no more are compiled"
        made = compiled_steps(wish)
        if not isinstance(made, NotFinite):
            held[counted], self._anew = count + 1, count > 0
        return made

    @property
    def _functions(self) -> Functions:
        assert isinstance(self._made, Functions), "steps fit nothing else"
        return self._made

    def made_once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is made once for a problem, and kept with it; of a run that diverges, whose next may be healthy, not."""
        held = self.rollout.problem.derived
        if key not in held:
            with self.meter.phase("compile"):
                made = make()
            if isinstance(made, NotFinite):
                return made
            held[key] = made
        found: Made = held[key]
        return found
