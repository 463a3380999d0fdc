"""What a rung of the ladder is asked of, and what it answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from l2t_bench.gradient import TeacherGradient, TeacherGradientBackend
from l2t_bench.problem import Step, TeachingProblem
from l2t_bench.tensors import TensorDict
from l2t_bench.verification import numeric


class Outcome(StrEnum):
    PASSED = "pass"
    FAILED = "FAIL"
    REPORTED = "info"  # a figure that has no bound
    SKIPPED = "skip"


@dataclass(frozen=True)
class Check:
    """One rung of the ladder: what was asked, what was found, and the bound it is held to."""

    name: str
    figure: float
    bound: float
    outcome: Outcome
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """A backend's gradient of one recorded run, and all that is needed to take it again by other ways."""

    backend: TeacherGradientBackend
    problem: TeachingProblem
    theta: TensorDict
    seed: int
    result: TeacherGradient

    @property
    def steps(self) -> Sequence[Step]:
        return self.result.steps

    @cached_property
    def run(self) -> numeric.RecordedRun:
        return numeric.RecordedRun(self.problem, self.theta, self.steps, self.seed)

    def again(self) -> TeacherGradient:
        """The backend once more, on the recorded steps."""
        return self.backend.teacher_gradient(self.problem, self.theta, steps=self.steps, seed=self.seed)


def by(subject: Subject, backend: TeacherGradientBackend) -> Subject:
    """The very same run, differentiated by another backend."""
    result = backend.teacher_gradient(subject.problem, subject.theta, steps=subject.steps, seed=subject.seed)
    return replace(subject, backend=backend, result=result)


def held_to(name: str, figure: float, bound: float, note: str = "") -> Check:
    """A check that passes when ``figure`` is at most ``bound``; a figure that is not a number fails."""
    return Check(name, figure, bound, Outcome.PASSED if figure <= bound else Outcome.FAILED, note)


def skipped(name: str, why: str) -> Check:
    return Check(name, math.nan, math.nan, Outcome.SKIPPED, why)


STEPS, WARNING = "steps as asked", "warning"
SAID = (STEPS, WARNING)
"""Rungs that have no figure: what a run says of itself."""


def said_of(result: TeacherGradient) -> list[Check]:
    """What must be known to read figures of this result: that other steps were checked than those asked for, first.

    Compiled steps that fell back are skipped, whatever else passes: plain ones are no proof of them.
    """
    said = [Check(WARNING, math.nan, math.nan, Outcome.REPORTED, text) for text in result.warnings]
    walked = result.engine
    if walked is None or not walked.why:
        return said
    if walked.instead_of:
        taken = walked.name if said else walked  # a warning says why
        return [skipped(STEPS, f"engine={walked.instead_of} is not checked here, but {taken}"), *said]
    return [Check(STEPS, math.nan, math.nan, Outcome.REPORTED, str(walked)), *said]
