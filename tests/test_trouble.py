"""Gradients that explode or vanish are named with what has helped, once, and only where they do."""

from dataclasses import replace

import pytest

import l2t_bench as l2t
from l2t_bench.health import EXPLOSION
from l2t_bench.problem import TeachingProblem
from l2t_bench.trainer.records import OuterStep
from l2t_bench.trainer.trouble import LEAST, Symptom, Trouble, new_trouble, trouble_in
from l2t_bench.training import TeacherTrainer

SOUND = OuterStep(0, 0.5, 1.0, None, 0.1, 0, 1.0, adjoint_growth=2.0)


def curve(*records: OuterStep) -> tuple[OuterStep, ...]:
    return tuple(replace(record, outer_step=at) for at, record in enumerate(records))


@pytest.mark.parametrize(
    ("bad", "symptom"),
    [
        (replace(SOUND, exploded=1), Symptom.EXPLODING),
        (replace(SOUND, diverged=1), Symptom.EXPLODING),
        (replace(SOUND, adjoint_growth=2 * EXPLOSION), Symptom.EXPLODING),
        (replace(SOUND, died=1), Symptom.VANISHING),
        (replace(SOUND, gradient_norm=0.0), Symptom.VANISHING),
    ],
)
def test_half_of_the_last_outer_steps_make_a_trouble_and_fewer_do_not(bad: OuterStep, symptom: Symptom) -> None:
    assert trouble_in(curve(bad), 1) is None, "one outer step is none"
    assert trouble_in(curve(bad, bad), 1) == Trouble(symptom, 1, 2, 2)
    assert trouble_in(curve(SOUND, bad, SOUND, bad, bad), 1) == Trouble(symptom, 4, 3, 5)
    assert trouble_in(curve(SOUND, bad, SOUND, SOUND, bad), 1) is None
    assert trouble_in(curve(bad, bad, *[SOUND] * 5), 1) is None, "what is over is over"


def test_some_students_of_many_are_no_trouble() -> None:
    few, half = replace(SOUND, exploded=1), replace(SOUND, exploded=2)
    assert trouble_in(curve(few, few), 4) is None and trouble_in(curve(half, half), 4) is not None


def test_a_trouble_is_told_when_it_is_first_seen_and_another_after_it() -> None:
    exploding, dying = replace(SOUND, exploded=1), replace(SOUND, died=1)
    records = curve(SOUND, SOUND, exploding, exploding, exploding, exploding, *[SOUND] * 5, dying, dying, dying)
    told = [new_trouble(records[:count], 1) for count in range(1, len(records) + 1)]
    assert [(found.symptom, found.outer_step) for found in told if found] == [
        (Symptom.EXPLODING, 3),
        (Symptom.VANISHING, 13),
    ]


class Troubles(l2t.Callback):
    def __init__(self) -> None:
        self.told: list[Trouble] = []

    def on_trouble(self, trouble: Trouble) -> None:
        self.told.append(trouble)


def troubles_of(problem: TeachingProblem, horizon: int) -> list[Trouble]:
    callback = Troubles()
    TeacherTrainer(problem, None, "rmd", outer_steps=LEAST, horizon=horizon, callbacks=[callback]).train()
    return callback.told


DIGITS = "train=300,dev=100,split=3,refresh=50"


@pytest.mark.parametrize(
    ("sick", "healed", "horizon", "symptom"),
    [
        ("beta=4,gain=0.3,lr=3.0", "beta=4,gain=0.3,lr=0.6", 150, Symptom.EXPLODING),
        ("beta=4,gain=0.3,lr=3.0", "beta=4,gain=0.3,lr=3.0,schedule=linear", 150, Symptom.EXPLODING),
        ("lr=0.3,weight_decay=0.1", "lr=0.3,weight_decay=0.01", 300, Symptom.VANISHING),
    ],
    ids=["a lower lr", "a decaying lr", "less weight decay"],
)
def test_on_the_digits_what_is_named_is_healed_by_what_is_said_to_help(
    sick: str, healed: str, horizon: int, symptom: Symptom
) -> None:
    (told,) = troubles_of(l2t.build_problem(f"digits/mlp[{DIGITS},{sick}]"), horizon)
    assert told.symptom == symptom and told.outer_step == LEAST - 1
    assert troubles_of(l2t.build_problem(f"digits/mlp[{DIGITS},{healed}]"), horizon) == []
