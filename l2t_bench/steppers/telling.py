"""What a run's steps have to say of how they were taken, told in one place: with the result, and as a warning."""

from dataclasses import dataclass, replace

from l2t_bench.backend import Derivative
from l2t_bench.fallbacks import warn_of_fallback
from l2t_bench.gradient import Walked
from l2t_bench.problem import TeachingProblem
from l2t_bench.steppers.eager import EagerStepper

_COMPILING = "seconds of all compilation"


@dataclass(frozen=True)
class Told:
    """What took the steps of a run, and what must be known of that."""

    engine: Walked
    warnings: tuple[str, ...]

    def with_result(self, derivative: Derivative) -> Derivative:
        """What came of the run, with this."""
        return replace(derivative, engine=self.engine, warnings=(*derivative.warnings, *self.warnings))


def told_by(stepper: EagerStepper, problem: TeachingProblem) -> Told:
    """To be asked once a run, at its end: warnings are given as Python warnings, too, and compilation is added up.

    ``problem``: the user's own, which keeps what was told; a stepper of students at once has a stacked one.
    """
    for warning in stepper.warnings:
        warn_of_fallback(problem, warning)
    problem.derived[_COMPILING] = seconds_compiling(problem) + stepper.meter.seconds.get("compile", 0.0)
    return Told(stepper.walked, stepper.warnings)


def seconds_compiling(problem: TeachingProblem) -> float:
    """What compiling has taken in all runs of a problem so far, short ones of a prediction included."""
    seconds: float = problem.derived.get(_COMPILING, 0.0)
    return seconds
