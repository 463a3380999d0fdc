"""The steppers by name."""

from typing import Literal

from l2t_bench.gradient import Walked
from l2t_bench.measure import Meter
from l2t_bench.problem import TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker
from l2t_bench.steppers.compiled import CompiledStepper
from l2t_bench.steppers.cuda_graphs import recorder_for
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.steppers.graphed import GraphedStepper
from l2t_bench.steppers.operators import operators_at_first
from l2t_bench.steppers.sharing import Activations
from l2t_bench.sums import WHOLE_BATCH, BatchSums

Engine = Literal["eager", "compiled", "graphed", "auto"]
ENGINES: tuple[Engine, ...] = ("eager", "compiled", "graphed", "auto")
CHOSEN_AMONG: tuple[Engine, ...] = ("eager", "compiled")
"""What a choice of a backend weighs; not ``graphed``, which has been timed on a GPU for one problem only."""

PAYS_FROM = 5_000
"""Steps of a problem after which ``auto`` compiles. Steps and not seconds are counted: the same calls in the same
order give the same bits. From an empty cache compiling has paid after 3,800 steps of an MNIST MLP, 1,900 to 4,500 of a
LeNet with batches of 20 (some 500 with 500), 6,700 to 17,000 of a digits MLP; with Inductor's cache on disk the second
process has it in seconds."""
MOST_OPERATORS = 60
"""Operators of a step up to which ``auto`` compiles: an MLP has 24, LeNet 35, whose compilation takes 10 to 80 s.
ResNet-8 has 71, and its compilation had not ended after ten minutes on a CPU; an LSTM or a Transformer that translates
has 400 to thousands, written out word by word, and other widths at most steps, each of which would be compiled anew."""
_COUNT = "steps under engine=auto"


def stepper_for(
    engine: Engine,
    rollout: Rollout,
    meter: Meter,
    *,
    second_order: Maker,
    hyper: bool,
    slots: bool,
    activations: Activations = "some",
    sums: BatchSums = WHOLE_BATCH,
) -> EagerStepper:
    """What takes the steps of a run. ``slots``: whether the states gone back through have theirs.

    ``activations``: what compiled steps keep for their steps back, where the states of all steps are kept. ``sums``:
    how sums over a batch are taken; compiled steps take them from whole batches only.
    """
    settled = engine_at(engine, rollout.problem, rollout.horizon)
    stepper: EagerStepper
    if settled == "eager":
        stepper = EagerStepper(rollout, meter, second_order=second_order, hyper=hyper, sums=sums)
    elif settled == "compiled":
        stepper = CompiledStepper(
            rollout,
            meter,
            second_order=second_order,
            hyper=hyper,
            slots=slots,
            activations=activations,
            most_operators=MOST_OPERATORS if engine == "auto" else None,
        )
    else:
        stepper = GraphedStepper(
            rollout,
            meter,
            recorder=recorder_for(rollout.problem.device),
            second_order=second_order,
            hyper=hyper,
            slots=slots,
            activations=activations,
        )
    if engine == "auto":
        _count(rollout)
        stepper.because = _weighed(rollout.problem.derived[_COUNT], "so far")
    return stepper


def engine_at(engine: Engine, problem: TeachingProblem, horizon: int) -> Literal["eager", "compiled", "graphed"]:
    """The engine of the problem's next run: ``auto`` compiles where that run brings it to ``PAYS_FROM`` steps.

    It does not choose ``graphed``, which has been timed on a GPU for one problem only.
    """
    if engine == "auto":
        return "compiled" if problem.derived.get(_COUNT, 0) + horizon >= PAYS_FROM else "eager"
    return engine


def settled_engine(engine: Engine, problem: TeachingProblem, steps: int) -> Walked:
    """The engine that so many steps of the problem are settled at beforehand: one that no run will change.

    ``auto`` compiles where they pay for it, unless a step has more than ``MOST_OPERATORS``; why it does, or does not,
    comes with it.
    """
    found = engine_at(engine, problem, steps)
    if engine != "auto":
        return Walked(found)
    if found == "compiled" and (count := operators_at_first(problem)) > MOST_OPERATORS:
        return Walked("eager", f"a step has {count:,} operators, and auto compiles those of up to {MOST_OPERATORS}")
    return Walked(found, _weighed(problem.derived.get(_COUNT, 0) + steps, "in all"))


def _weighed(steps: int, which: str) -> str:
    return f"{steps:,} steps {which}, compiled steps pay from {PAYS_FROM:,}"


def _count(rollout: Rollout) -> None:
    held = rollout.problem.derived
    held[_COUNT] = held.get(_COUNT, 0) + rollout.horizon
