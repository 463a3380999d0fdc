"""What a run's steps have to say of how they were taken, told in one place: with the result, and as a warning."""

from dataclasses import replace

from l2t_bench.backend import Derivative
from l2t_bench.fallbacks import warn_of_fallback
from l2t_bench.problem import TeachingProblem
from l2t_bench.steppers.eager import EagerStepper


def with_steps_told(derivative: Derivative, stepper: EagerStepper, problem: TeachingProblem) -> Derivative:
    """The derivative with what took its steps, and its stepper's warnings; these are given as Python warnings, too.

    ``problem``: the user's own, which keeps what was told; a stepper of students at once has a stacked one.
    """
    for warning in stepper.warnings:
        warn_of_fallback(problem, warning)
    warnings = (*derivative.warnings, *stepper.warnings)
    return replace(derivative, warnings=warnings, engine=stepper.walked)
