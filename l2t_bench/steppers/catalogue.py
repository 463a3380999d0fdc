"""The steppers by name."""

from typing import Literal

from l2t_bench.measure import Meter
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker
from l2t_bench.steppers.compiled import CompiledStepper
from l2t_bench.steppers.eager import EagerStepper

Engine = Literal["eager", "compiled", "auto"]
ENGINES: tuple[Engine, ...] = ("eager", "compiled", "auto")

PAYS_FROM = 5_000
"""Steps from which ``auto`` compiles: there what compiling costs is about what it saves (docs/performance.md)."""


def stepper_for(
    engine: Engine, rollout: Rollout, meter: Meter, *, second_order: Maker, hyper: bool, slots: bool
) -> EagerStepper:
    """What takes the steps of a run. ``slots``: whether the states gone back through have theirs."""
    if engine == "eager" or (engine == "auto" and rollout.horizon < PAYS_FROM):
        return EagerStepper(rollout, meter, second_order=second_order, hyper=hyper)
    return CompiledStepper(rollout, meter, second_order=second_order, hyper=hyper, slots=slots)
