"""Teacher gradients that explode or vanish: seen over several outer steps, named, with what has helped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from l2t_bench.health import EXPLOSION
from l2t_bench.trainer.records import OuterStep

WINDOW, LEAST = 5, 2
"""Outer steps that are looked at together, and the fewest: one bad run is no trouble yet."""


class Symptom(StrEnum):
    """What is wrong with the gradients."""

    EXPLODING = "exploding"
    VANISHING = "vanishing"


REMEDIES: Mapping[Symptom, str] = MappingProxyType(
    {
        Symptom.EXPLODING: (
            "a student lr that decays to zero (schedule=linear, l2t.linear_decay), or a lower one; a lower lr of the "
            "teacher; each student's gradient clipped"
        ),
        Symptom.VANISHING: "less weight decay of the student",
    }
)
"""What helped on the built-in problems: docs/training.md has the figures."""


@dataclass(frozen=True)
class Trouble:
    """A symptom that at least half of the last outer steps show."""

    symptom: Symptom
    outer_step: int  # at which it was seen
    shown_by: int  # outer steps
    of: int

    def __str__(self) -> str:
        return (
            f"the teacher gradients are {self.symptom}, in {self.shown_by} of the last {self.of} outer steps up to "
            f"{self.outer_step}: a teacher does not learn from them; what has helped: {REMEDIES[self.symptom]}"
        )


def trouble_in(curve: Sequence[OuterStep], students: int) -> Trouble | None:
    """What is wrong by the last outer steps, of so many students each; ``None`` where there are too few to tell."""
    recent = curve[-WINDOW:]
    if len(recent) < LEAST:
        return None
    counts = {
        Symptom.EXPLODING: sum(_explodes(record, students) for record in recent),
        Symptom.VANISHING: sum(_vanishes(record, students) for record in recent),
    }
    for symptom, count in counts.items():
        if 2 * count >= len(recent):
            return Trouble(symptom, recent[-1].outer_step, count, len(recent))
    return None


def new_trouble(curve: Sequence[OuterStep], students: int) -> Trouble | None:
    """``trouble_in``, where it is the first of its symptom: of the curve alone, so that nothing is told twice."""
    found = trouble_in(curve, students)
    earlier = (trouble_in(curve[:count], students) for count in range(LEAST, len(curve)))
    return found if found and not any(before and before.symptom == found.symptom for before in earlier) else None


def _explodes(record: OuterStep, students: int) -> bool:
    """The adjoint of half of the students; or of one over its whole run, a thousandfold however slowly."""
    grown = record.adjoint_growth is not None and record.adjoint_growth > EXPLOSION
    return grown or 2 * (record.exploded + record.diverged) >= students


def _vanishes(record: OuterStep, students: int) -> bool:
    """The adjoint of half of the students, or the gradient itself."""
    left = students - record.diverged
    return left > 0 and (record.gradient_norm == 0 or 2 * record.died >= left)
