"""The steppers by name."""

from typing import Literal

from l2t_bench.measure import Meter
from l2t_bench.problem import TeachingProblem
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker
from l2t_bench.steppers.compiled import CompiledStepper
from l2t_bench.steppers.cuda_graphs import recorder_for
from l2t_bench.steppers.eager import EagerStepper
from l2t_bench.steppers.graphed import GraphedStepper
from l2t_bench.sums import WHOLE_BATCH, BatchSums

Engine = Literal["eager", "compiled", "graphed", "auto"]
ENGINES: tuple[Engine, ...] = ("eager", "compiled", "graphed", "auto")
CHOSEN_AMONG: tuple[Engine, ...] = ("eager", "compiled")
"""What a choice of a backend weighs; not ``graphed``, which has been timed on a GPU for one problem only."""

PAYS_FROM = 5_000
"""Steps of a problem after which ``auto`` compiles: by then plain torch has cost about what compiling costs, so that
the two together are at most twice the better of them. Steps and not seconds are counted: the same calls in the same
order give the same bits."""
MOST_OPERATORS = 300
"""Operators of a step up to which ``auto`` compiles, which takes about a second for each: LeNet has 27, ResNet-32 219.
An LSTM or a Transformer that translates has 400 to thousands, written out word by word, and other widths at most steps,
each of which would be compiled anew."""
_COUNT = "steps under engine=auto"


def stepper_for(
    engine: Engine,
    rollout: Rollout,
    meter: Meter,
    *,
    second_order: Maker,
    hyper: bool,
    slots: bool,
    sums: BatchSums = WHOLE_BATCH,
) -> EagerStepper:
    """What takes the steps of a run. ``slots``: whether the states gone back through have theirs.

    ``sums``: how sums over a batch are taken; compiled steps take them from whole batches only.
    """
    settled = engine_at(engine, rollout.problem, rollout.horizon)
    if engine == "auto":
        _count(rollout)
    if settled == "eager":
        return EagerStepper(rollout, meter, second_order=second_order, hyper=hyper, sums=sums)
    if settled == "compiled":
        most = MOST_OPERATORS if engine == "auto" else None
        return CompiledStepper(rollout, meter, second_order=second_order, hyper=hyper, slots=slots, most_operators=most)
    recorder = recorder_for(rollout.problem.device)
    return GraphedStepper(rollout, meter, recorder=recorder, second_order=second_order, hyper=hyper, slots=slots)


def engine_at(engine: Engine, problem: TeachingProblem, horizon: int) -> Literal["eager", "compiled", "graphed"]:
    """The engine of the problem's next run: ``auto`` compiles where that run brings it to ``PAYS_FROM`` steps.

    It does not choose ``graphed``, which has been timed on a GPU for one problem only.
    """
    if engine == "auto":
        return "compiled" if problem.derived.get(_COUNT, 0) + horizon >= PAYS_FROM else "eager"
    return engine


def _count(rollout: Rollout) -> None:
    held = rollout.problem.derived
    held[_COUNT] = held.get(_COUNT, 0) + rollout.horizon
