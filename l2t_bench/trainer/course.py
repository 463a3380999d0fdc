"""A training between its first outer step and its last: theta, its optimiser, and what has been seen of them so far."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from l2t_bench.distributed.ranks import ALONE, Ranks
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, mean_of
from l2t_bench.trainer.ascent import Ascent, TeacherOptimizer, distance
from l2t_bench.trainer.contribution import Contribution
from l2t_bench.trainer.generators import generator_states, restore_generators
from l2t_bench.trainer.outer_step import clipped, contributions, judge, outer_step_of
from l2t_bench.trainer.phases import Phases
from l2t_bench.trainer.records import (
    Judged,
    OuterStep,
    SeedRange,
    Selection,
    TeacherTraining,
    best_of,
    out_of_patience,
)

Take = Callable[[TeachingProblem, TeacherGradientBackend, TensorDict, int, Sequence[int], Phases], list[Contribution]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is trained, by what, for how long: settled before the first outer step."""

    problem: TeachingProblem
    backend: TeacherGradientBackend
    theta: TensorDict  # the start
    outer_steps: int
    horizon: int
    students: int
    optimizer: TeacherOptimizer
    selection: Selection | None
    seed: int

    def seeds_at(self, outer_step: int) -> range:
        """The students that an outer step learns from."""
        first = (self.seed * self.outer_steps + outer_step) * self.students
        return SeedRange.TRAINING.seeds(self.students, first=first)


class Course:
    """Algorithm 1 as it goes; ``at`` outer steps have been taken. ``take`` takes the gradients of an outer step.

    ``ranks`` share out the students that judge.
    """

    def __init__(self, plan: Plan, phases: Phases, take: Take = contributions, ranks: Ranks = ALONE) -> None:
        self.plan, self._phases, self._take, self._ranks = plan, phases, take, ranks
        self.ascent = Ascent(plan.theta, plan.optimizer)
        self.curve: list[OuterStep] = []
        self.selection: list[Judged] = []
        self._best: TensorDict | None = None

    @property
    def at(self) -> int:
        return len(self.curve)

    @property
    def ended(self) -> bool:
        """Whether no outer step is left, or patience."""
        selection = self.plan.selection
        return self.at >= self.plan.outer_steps or (
            selection is not None and out_of_patience(self.selection, selection.patience)
        )

    @property
    def is_judged(self) -> bool:
        """Whether held-out students have judged theta as it stands."""
        return bool(self.selection) and self.selection[-1].outer_step == self.at

    @property
    def judgement_is_due(self) -> bool:
        selection = self.plan.selection
        if selection is None or self.is_judged:
            return False
        return self.at % selection.every == 0 or self.at >= self.plan.outer_steps

    def judge(self) -> Judged:
        """Have held-out students judge theta as it stands; the best so far is kept."""
        assert self.plan.selection is not None, "a judgement is due only where there is a selection"
        theta = self.ascent.snapshot()
        with self._phases.phase("evaluation"):
            judged = judge(self.plan.problem, theta, self.at, self.plan.horizon, self.plan.selection, self._ranks)
        self.selection.append(judged)
        if best_of(self.selection) == len(self.selection) - 1:
            self._best = theta
        return judged

    def climb(self) -> OuterStep:
        """The next outer step."""
        plan, index = self.plan, self.at
        seeds = plan.seeds_at(index)
        given = self._take(plan.problem, plan.backend, self.ascent.snapshot(), plan.horizon, seeds, self._phases)
        with self._phases.phase("teacher update"):
            record = outer_step_of(index, given, len(seeds))
            if given:
                d_theta = mean_of([clipped(each.d_theta, plan.optimizer.clip) for each in given])
                record = replace(record, moved=self.ascent.step(d_theta, index, plan.outer_steps))
        self.curve.append(record)
        return record

    def result(self, seconds: float) -> TeacherTraining:
        """What has come of it, after so many seconds in all."""
        last = self.ascent.snapshot()
        best, selected = (last, self.at) if self._best is None else (self._best, self._selected)
        travelled = distance(last, self.plan.theta)
        return TeacherTraining(best, last, tuple(self.curve), tuple(self.selection), selected, travelled, seconds)

    @property
    def _selected(self) -> int:
        return self.selection[best_of(self.selection)].outer_step

    def state(self) -> dict[str, Any]:
        """All that the next outer step hangs on, as a tree of JSON and tensors, in memory of its own."""
        return {
            "theta": self.ascent.snapshot(),
            "optimizer": self.ascent.state(),
            "best": dict(self._best or {}),
            "curve": [asdict(record) for record in self.curve],
            "selection": [asdict(judged) for judged in self.selection],
            "generators": generator_states(self.plan.problem.device),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state`` that has been through a file. Raises ``LookupError`` or ``TypeError`` for none."""
        _check_theta(state["theta"], self.plan.theta)
        self.ascent.restore(state["theta"], state["optimizer"])
        self.curve = [_record(OuterStep, record) for record in state["curve"]]
        self.selection = [_record(Judged, judged) for judged in state["selection"]]
        device = self.plan.problem.device
        self._best = {name: tensor.to(device) for name, tensor in state["best"].items()} or None
        restore_generators(state["generators"], device)


def _record(kind: type, given: Mapping[str, Any]) -> Any:
    """A record that JSON has made a dict of, and of its tuples lists."""
    known = {field.name for field in fields(kind)}
    if set(given) != known:
        raise LookupError(f"a {kind.__name__} with {', '.join(sorted(set(given) ^ known))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _check_theta(theta: Tensors, like: Tensors) -> None:
    if {name: tensor.shape for name, tensor in theta.items()} != {name: t.shape for name, t in like.items()}:
        raise LookupError("a theta of other shapes")
