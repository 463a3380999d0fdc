"""Reverse-mode differentiation by hand over a store: what the exact method and its truncated relatives share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, cast

from l2t_bench.backend import Backend, Derivative, Run
from l2t_bench.distributed.problem import ShardedProblem
from l2t_bench.errors import Diverged, Refused, UserError
from l2t_bench.first_look import once
from l2t_bench.gradient import Exactness, TeacherGradient, Walked
from l2t_bench.keeping import going_on, keep_back, keep_forward, there_of, way_back_of
from l2t_bench.kept_run import There, WayBack
from l2t_bench.metabatch.falling_back import even_parts, known_apart, together_or_apart
from l2t_bench.metabatch.problem import stacked_problem
from l2t_bench.microbatches import MicroBatches, into_microbatches
from l2t_bench.optimizers import Adjoint
from l2t_bench.part_looks import look_at_parts
from l2t_bench.precision import full_float32
from l2t_bench.prediction import Scaling
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.rollout import TryOut
from l2t_bench.second_order import MODES, Maker
from l2t_bench.steppers.catalogue import CHOSEN_AMONG, ENGINES, Engine, settled_engine, stepper_for
from l2t_bench.steppers.compiling import Kept, bytes_kept
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.steppers.sharing import ACTIVATIONS
from l2t_bench.steppers.telling import told_by
from l2t_bench.stores.catalogue import STORES
from l2t_bench.stores.contract import Law, Room, Store, Wanted, share_held, sizes_of
from l2t_bench.sweep import Swept, reverse_sweep
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.units import size


@dataclass(frozen=True)
class StoredRMD(Backend):
    """The options of every method that goes back along a store, and its way forward and back.

    ``store``: what is kept of the run (see ``l2t_bench.stores``). ``hvp``: how the second derivatives are taken,
    ``ror`` reverse-over-reverse or ``for`` forward-over-reverse. ``engine``: how steps are taken (see
    ``l2t_bench.steppers``), ``eager``, ``compiled``, ``graphed`` (compiled, and on a GPU replayed in blocks as CUDA
    graphs), or ``auto``: compiled where it pays. ``activations``: with ``store=all``, what a compiled step keeps of
    its forward pass for the way back: ``some``, at most a quarter of its inputs' size, or ``all`` that takes longer to
    compute again than to keep. ``hyper``: also the derivatives by the optimiser's numbers. What the store may take:
    ``budget``, of memory (``2GB``), or a number of ``snapshots``, and a ``directory`` for its files; each store says
    which of these it reads. ``students``: how many of an outer step's students are taken at once (see
    ``l2t_bench.metabatch``), each at the memory of one. ``microbatches``: in how many parts, one after another, a
    step's batch is taken (see ``l2t_bench.microbatches``), for a graph that is as much smaller.
    """

    store: Literal["all", "sqrt", "binomial", "disk", "host", "graph", "reversible"] = "all"
    hvp: Literal["ror", "for"] = "ror"
    engine: Literal["eager", "compiled", "graphed", "auto"] = "eager"
    activations: Literal["some", "all"] = "some"
    hyper: bool = False
    budget: str | None = None
    snapshots: int | None = None
    directory: str | None = None
    students: int = 1
    microbatches: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.students < 1:
            raise UserError(f"{self.name}: students must be at least 1, not {self.students}")
        if self.students > 1 and not STORES[self.store].stacks:
            raise UserError(f"{self.name}: store={self.store} goes with students=1 only")
        for option, given in (("store", STORES), ("hvp", MODES), ("engine", ENGINES), ("activations", ACTIVATIONS)):
            if (value := getattr(self, option)) not in given:
                raise UserError(f"{self.name}: {option} must be one of {', '.join(given)}, not {value!r}")
        if self.hvp not in STORES[self.store].modes:
            raise UserError(f"{self.name}: store={self.store} goes with hvp={'|'.join(STORES[self.store].modes)} only")
        if self.engine not in STORES[self.store].engines:
            raise UserError(
                f"{self.name}: store={self.store} goes with engine={'|'.join(STORES[self.store].engines)} only"
            )
        if self.activations != "some" and (self.engine == "eager" or not STORES[self.store].keeps_between):
            raise UserError(
                f"{self.name}: activations={self.activations} goes with engine=compiled|graphed|auto and "
                f"store={'|'.join(name for name, store in STORES.items() if store.keeps_between)} only"
            )
        self._check_room()
        if self.microbatches < 1:
            raise UserError(f"{self.name}: microbatches must be at least 1, not {self.microbatches}")
        if self.microbatches > 1 and (whole := self._takes_whole_batches()) is not None:
            reason, instead = whole
            raise UserError(f"{self.name}: microbatches={self.microbatches}: {reason}; take {instead}")
        # The store decides with the method what this very object can do; a frozen dataclass takes it in no other way.
        object.__setattr__(self, "capabilities", STORES[self.store].capabilities(type(self).capabilities))

    def _check_room(self) -> None:
        """Raises ``UserError`` for what makes no sense, and for what the store would not read."""
        if self.snapshots is not None and self.snapshots < 1:
            raise UserError(f"{self.name}: snapshots must be at least 1, not {self.snapshots}")
        if self.snapshots is not None and self.budget is not None:
            raise UserError(f"{self.name}: give budget= or snapshots=, not both")
        given = vars(self.room)
        for option, part in (("budget", "bytes"), ("snapshots", "snapshots"), ("directory", "directory")):
            if given[part] is not None and part not in STORES[self.store].reads:
                readers = ", ".join(f"store={name}" for name, store in STORES.items() if part in store.reads)
                raise UserError(f"{self.name}: store={self.store} reads no {option}; {readers} would")

    def refusal(self, problem: TeachingProblem) -> Refused | None:
        of_store = STORES[self.store].refusal(problem)  # a Refused is false
        return self._sharding_refusal(problem) if of_store is None else of_store

    def _sharding_refusal(self, problem: TeachingProblem) -> Refused | None:
        """Options that take batches whole, or divide them themselves."""
        if not isinstance(problem, ShardedProblem):
            return None
        if (whole := self._takes_whole_batches()) is not None:
            reason, instead = whole
            return Refused(f"{self} with shard=batch: {reason}", f"{instead}, or shard=students")
        if self.microbatches > 1:
            return Refused(f"{self} with shard=batch: each rank has a part of the batch by then", "more ranks")
        return None

    def _takes_whole_batches(self) -> tuple[str, str] | None:
        """Why the method cannot take a batch by its parts, and with what it could; ``None`` where it can."""
        if self.engine in ("compiled", "graphed"):
            return "a compiled step has nothing to add up between its gradient and its update", "engine=eager"
        if self.store == "graph":
            return "the graphs that store=graph keeps are of whole batches", "store=all"
        if self.students > 1:
            return "students at once are stacked, each with a batch of its own", "students=1"
        return None

    def try_out(self, problem: TeachingProblem) -> TryOut:
        own, division = super().try_out(problem), into_microbatches(self.microbatches)

        def look(place: str, step: Step, state: StudentState, phi: Any) -> None:
            if division.count > 1:
                once(problem, (division, place), partial(look_at_parts, problem, division, state, step, phi))
            own(place, step, state, phi)

        return look

    def keeping_refusal(self) -> Refused | None:
        instead = "[store=sqrt] and [store=binomial] can, with engine=eager, hyper=false and students=1"
        if reason := STORES[self.store].cannot_be_left:
            return Refused(
                f"{self}: a run along store={self.store} cannot be gone on with by another process: {reason}", instead
            )
        if self.engine != "eager" or self.hyper or self.students > 1:
            return Refused(f"{self}: with these options a run cannot be gone on with by another process", instead)
        return None

    def second_order(self) -> Maker:
        return MODES[self.hvp]

    @property
    def through_torch_func(self) -> bool:
        return self.hvp == "for"

    @property
    def of_whole_run(self) -> Exactness:
        """What going back through every step gives: the exact derivative, of this run or of a neighbour."""
        return Exactness.EXACT if STORES[self.store].exact_rollout else Exactness.QUANTISED

    @property
    def room(self) -> Room:
        """What the store may take."""
        return Room(None if self.budget is None else size(self.budget), self.snapshots, self.directory)

    def steps_back(self, horizon: int) -> int:
        """Through how many steps the method goes back."""
        return horizon

    def wanted(self, problem: TeachingProblem, horizon: int) -> Wanted:
        slots = self.hyper or problem.optimizer.reads_slots
        return Wanted(horizon, horizon - self.steps_back(horizon), slots)

    def law(self, problem: TeachingProblem, horizon: int) -> Law:
        optimizer = problem.optimizer
        one = sizes_of(problem.init_student(0), optimizer.slot_names, getattr(optimizer, "momentum", 0.0))
        return STORES[self.store].law(self.wanted(problem, horizon), one.times(self._stacked(problem)), self.room)

    def _stacked(self, problem: TeachingProblem) -> int:
        """Of how many students a state is."""
        return 1 if known_apart(self, problem, self.students) else self.students

    def variants(self) -> tuple[Backend, ...]:
        own = replace(self, budget=None, snapshots=None, directory=None)
        stores = (
            name
            for name, store in STORES.items()
            if self.hvp in store.modes
            and self.engine in store.engines
            and (self.activations == "some" or store.keeps_between)
            and (self.students == 1 or store.stacks)
            and (self.microbatches == 1 or name != "graph")
        )
        return tuple(replace(own, store=cast("Any", name)) for name in stores)

    def choices(self, horizon: int) -> tuple[Backend, ...]:
        del horizon
        engines = CHOSEN_AMONG if self.microbatches == 1 else ("eager",)
        own = (replace(self, store="all", engine=engine, activations="some") for engine in engines)
        return tuple(variant for by_engine in own for variant in by_engine.variants())

    def scaling(self, problem: TeachingProblem, horizon: int) -> Scaling:
        law, store = self.law(problem, horizon), STORES[self.store]
        # What compiled steps keep, of states and beside them, is known when they are compiled. What they take beside
        # that is measured, and of the blocks of a graph all is.
        between = self.engine == "graphed" or (self.engine != "eager" and store.keeps_between)
        if between or law.bytes is None:
            step_bytes = self.compiled_step_bytes(problem) if between and self.engine == "compiled" else None
            return Scaling(self.steps_back(horizon), None, law.recomputed, step_bytes=step_bytes)
        share = share_held(problem.init_student(0), self._stacked(problem)) if store.keeps_tensors else 1.0
        return Scaling(self.steps_back(horizon), round(share * law.bytes), law.recomputed)

    def compiled_step_bytes(self, problem: TeachingProblem) -> int | None:
        """What a compiled step keeps, of all students that are taken at once; ``None`` until one is compiled."""
        taken = stacked_problem(problem, stacked) if (stacked := self._stacked(problem)) > 1 else problem
        return bytes_kept(taken, Kept(self.activations, self.hyper or problem.optimizer.reads_slots, self.hyper))

    def settled(self, problem: TeachingProblem, horizon: int) -> Backend:
        engine = cast("Engine", self.settled_engine(problem, horizon).engine)
        return replace(self, engine=engine, activations="some" if engine == "eager" else self.activations)

    def settled_engine(self, problem: TeachingProblem, horizon: int) -> Walked:
        """The engine that ``settled`` takes, and why, where it is left to ``auto``."""
        found = settled_engine(self._engine(problem), problem, horizon)
        return replace(found, why=self._divided(problem)) if self._engine(problem) != self.engine else found

    def _engine(self, problem: TeachingProblem) -> Engine:
        """Where a batch is divided ``auto`` has no choice."""
        return "eager" if self.engine == "auto" and self._divided(problem) else self.engine

    def _divided(self, problem: TeachingProblem) -> str:
        divided = isinstance(problem, ShardedProblem) or self.microbatches > 1
        return "batches are taken by their parts, and compiled steps take them whole" if divided else ""

    @contextmanager
    def trained(self, run: Run) -> Iterator[tuple[Store, StudentState]]:
        """The student at omega_T, and the store of its run, open inside the block."""
        kind, wanted = STORES[self.store], self.wanted(run.problem, run.horizon)
        with kind(run.rollout, run.meter, wanted, self.room, self.stepper(run)) as store:
            with run.forward():
                state = store.begin(run.rollout.initial())
                index, state = going_on(run, store, state)
                while index < run.horizon:
                    ahead = run.rollout.known_ahead(index, store.stepper.at_once)
                    steps = [run.rollout.step(at, state) for at in range(index, index + ahead)]
                    state = store.advance_all(steps, state)
                    index += ahead
                    keep_forward(run, store, index, state)
            yield store, state

    def there_and_back(self, run: Run) -> Derivative:
        """The student's training, M~ and w_bar at omega_T, and the way back along the store."""
        with self.trained(run) as (store, final):
            begun = way_back_of(run)
            there = there_of(run, final) if begun is None else begun.there
            swept = self.swept(run, store, there.w_bar, begun=begun, after=partial(keep_back, run, store, there))
            told = told_by(store.stepper, run.problem)
        return told.with_result(self.derivative(run.horizon, there, swept))

    @abstractmethod
    def derivative(self, horizon: int, there: There, swept: Swept) -> Derivative:
        """What the sweep of one student's run is worth."""

    @property
    def students_at_once(self) -> int:
        return self.students

    def for_students(self, count: int) -> "StoredRMD":
        return replace(self, students=max(map(len, even_parts(range(count), self.students))))

    def teacher_gradients(
        self, problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
    ) -> list[TeacherGradient | Diverged]:
        with full_float32(problem.device):
            return [
                found
                for group in even_parts(seeds, self.students)
                for found in together_or_apart(self, problem, theta, horizon=horizon, seeds=group)
            ]

    def stepper(self, run: Run) -> EagerStepper:
        """What takes the run's steps and goes back through them."""
        engine = self._engine(run.problem)
        stepper = stepper_for(
            engine,
            run.rollout,
            run.meter,
            second_order=MODES[self.hvp],
            hyper=self.hyper,
            slots=self.wanted(run.problem, run.horizon).slots,
            activations=self.activations,
            sums=run.sums if self.microbatches == 1 else MicroBatches(into_microbatches(self.microbatches)),
        )
        if engine != self.engine:
            stepper.because = self._divided(run.problem)
        return stepper

    def swept(
        self,
        run: Run,
        store: Store,
        w_bar: TensorDict,
        begun: WayBack | None = None,
        after: Callable[[int, Adjoint], None] | None = None,
    ) -> Swept:
        """The way back along the store; see ``reverse_sweep``."""
        with run.reverse():
            return reverse_sweep(
                run.rollout,
                store.backwards(),
                w_bar,
                run.meter,
                watch=run.watch,
                stepper=store.stepper,
                begun=begun,
                after=after,
            )
