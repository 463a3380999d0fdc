"""Teacher gradients that explode or vanish: seen over several outer steps, named, with what has helped."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from l2t_bench.trainer.records import OuterStep

WINDOW = 5
"""Outer steps that are looked at together: one student's bad run is no trouble yet."""


class Symptom(StrEnum):
    """What is wrong with the gradients."""

    EXPLODING = "exploding"
    VANISHING = "vanishing"


REMEDIES = {
    Symptom.EXPLODING: (
        "let the student's lr decay to zero (schedule=linear, l2t.linear_decay) or lower it, and clip each student's "
        "gradient"
    ),
    Symptom.VANISHING: (
        "shorten the horizon or lower the student's weight decay, so that what the teacher does early reaches the "
        "end; where the objective is flat, lower its beta"
    ),
}
"""What helped on the built-in problems: docs/training.md has the figures."""


@dataclass(frozen=True)
class Trouble:
    """A symptom that at least half of the students of the last outer steps show."""

    symptom: Symptom
    outer_step: int  # at which it was seen
    students: int  # that show it
    of: int

    def __str__(self) -> str:
        return (
            f"the teacher gradients are {self.symptom}: {self.students} of the last {self.of} students' by outer step "
            f"{self.outer_step}; what has helped: {REMEDIES[self.symptom]}"
        )


def trouble_in(curve: Sequence[OuterStep], students: int) -> Trouble | None:
    """What is wrong by the last ``WINDOW`` outer steps of so many students each, or by all where there are fewer.

    A student that diverged counts as one whose adjoint exploded; one whose gradient is zero as one whose adjoint died.
    """
    recent = curve[-WINDOW:]
    of = students * len(recent)
    counts = {
        Symptom.EXPLODING: sum(record.exploded + record.diverged for record in recent),
        Symptom.VANISHING: sum(_vanished(record, students) for record in recent),
    }
    for symptom, count in counts.items():
        if of and 2 * count >= of:
            return Trouble(symptom, recent[-1].outer_step, count, of)
    return None


def new_trouble(curve: Sequence[OuterStep], students: int) -> Trouble | None:
    """``trouble_in``, where it is the first of its symptom: of the curve alone, so that nothing is told twice."""
    found = trouble_in(curve, students)
    earlier = (trouble_in(curve[:count], students) for count in range(1, len(curve)))
    return found if found and not any(before and before.symptom == found.symptom for before in earlier) else None


def _vanished(record: OuterStep, students: int) -> int:
    if record.diverged == students:
        return 0
    return students - record.diverged if record.gradient_norm == 0 else record.died
