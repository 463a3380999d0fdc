"""Reverse-mode differentiation by hand over a store: what the exact method and its truncated relatives share."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from l2t_bench.adjoint import Swept, reverse_sweep
from l2t_bench.backend import Backend, Run
from l2t_bench.errors import UserError
from l2t_bench.prediction import Scaling
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.second_order import MODES
from l2t_bench.stores.catalogue import STORES
from l2t_bench.stores.contract import Law, Room, Store, Wanted, sizes_of
from l2t_bench.tensors import TensorDict


@dataclass(frozen=True)
class StoredRMD(Backend):
    """The options of every method that goes back along a store, and its way forward and back.

    ``store``: what is kept of the run (see ``l2t_bench.stores``). ``hvp``: how the second derivatives are taken,
    ``ror`` reverse-over-reverse or ``for`` forward-over-reverse. ``hyper``: also the derivatives by the optimiser's
    numbers.
    """

    store: Literal["all", "sqrt"] = "all"
    hvp: Literal["ror", "for"] = "ror"
    hyper: bool = False

    def __post_init__(self) -> None:
        for option, given in (("store", STORES), ("hvp", MODES)):
            if (value := getattr(self, option)) not in given:
                raise UserError(f"{self.name}: {option} must be one of {', '.join(given)}, not {value!r}")

    @property
    def room(self) -> Room:
        """What the store may take."""
        return Room()

    def steps_back(self, horizon: int) -> int:
        """Through how many steps the method goes back."""
        return horizon

    def wanted(self, problem: TeachingProblem, horizon: int) -> Wanted:
        slots = self.hyper or problem.optimizer.reads_slots
        return Wanted(horizon, horizon - self.steps_back(horizon), slots)

    def law(self, problem: TeachingProblem, horizon: int) -> Law:
        sizes = sizes_of(problem.init_student(0), problem.optimizer.slot_names)
        return STORES[self.store].law(self.wanted(problem, horizon), sizes, self.room)

    def variants(self) -> tuple[Backend, ...]:
        return tuple(replace(self, store=cast("Any", store)) for store in STORES)

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        law = self.law(problem, horizon)
        return Scaling(self.steps_back(horizon), law.bytes, law.recomputed)

    @contextmanager
    def trained(self, run: Run) -> Iterator[tuple[Store, StudentState]]:
        """The student at omega_T, and the store of its run, open inside the block."""
        kind = STORES[self.store]
        with kind(run.rollout, run.meter, self.wanted(run.problem, run.horizon), self.room) as store:
            with run.forward():
                state = store.begin(run.rollout.initial())
                for index in range(run.horizon):
                    state = store.advance(run.rollout.step(index, state), state)
            yield store, state

    def swept(self, run: Run, store: Store, w_bar: TensorDict) -> Swept:
        """The way back along the store."""
        with run.reverse():
            return reverse_sweep(
                run.rollout,
                store.backwards(),
                w_bar,
                run.meter,
                watch=run.watch,
                second_order=MODES[self.hvp],
                hyper=self.hyper,
            )
