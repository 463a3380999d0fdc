"""The runs of N students as one: recorded by N rollouts, each of which checks its own student as if it were alone."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from l2t_bench.errors import Diverged, Refused
from l2t_bench.health import AdjointWatch, check_finite, in_range, length_of
from l2t_bench.metabatch.checking import check_stacked
from l2t_bench.metabatch.contract import of_student
from l2t_bench.metabatch.problem import StackedProblem
from l2t_bench.metabatch.stacking import Apart, StackedBatch, norms, stacked_states, states_apart
from l2t_bench.problem import Step, StudentState
from l2t_bench.rollout import Rollout
from l2t_bench.second_order import Maker
from l2t_bench.tensors import Tensors


class AllDiverged(Exception):
    """No student is left; never seen outside."""


class Students:
    """Which of the students have diverged so far, each with what it raised."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = tuple(seeds)
        self.diverged: dict[int, Diverged] = {}

    @property
    def alive(self) -> list[int]:
        """The places of the others."""
        return [at for at in range(len(self.seeds)) if at not in self.diverged]

    def lose(self, at: int, diverged: Diverged) -> None:
        """Raises ``AllDiverged`` when it is the last one."""
        self.diverged[at] = of_student(diverged, self.seeds[at])
        if len(self.diverged) == len(self.seeds):
            raise AllDiverged


class StackedRollout(Rollout):
    """The rollouts of N students as that of a stacked problem: what steppers, stores and sweeps are given.

    A student that diverges is noted in ``students`` and goes on with the batch that it had, unheeded: its numbers touch
    nobody else's. The first step is held to each student's own, with products of second derivatives by ``maker``.
    Raises ``AllDiverged`` when none is left, and ``Apart`` where the students cannot be stacked.
    """

    def __init__(self, problem: StackedProblem, rollouts: Sequence[Rollout], maker: Maker) -> None:
        first = rollouts[0]
        self.problem: StackedProblem = problem
        self.rollouts = tuple(rollouts)
        self._maker = maker
        self.students = Students([rollout.seed for rollout in rollouts])
        self.seed, self.horizon = first.seed, first.horizon
        self.theta = {
            name: tensor.detach().expand(problem.count, *tensor.shape).clone().requires_grad_()
            for name, tensor in first.theta.items()
        }
        self._phi_of = self._phi = None
        self._now: list[Step] = []
        self._features: Tensor | None = None
        self._taken: list[Step] = []

    @property
    def steps(self) -> tuple[Step, ...]:
        """The stacked steps; each student's own are those of its rollout."""
        return tuple(self._taken)

    def initial(self) -> StudentState:
        return stacked_states([rollout.initial() for rollout in self.rollouts])

    def step(self, index: int, state: StudentState) -> Step:
        # Else nobody asks for a student's state.
        looks = self.place_of(index) is not None or self.problem.alone.features is not None
        states = states_apart(state, self.problem.count) if looks else [state] * self.problem.count
        before, dead = self._now, self.students.diverged
        self._now = [
            before[at] if at in dead else rollout.step(index, states[at]) for at, rollout in enumerate(self.rollouts)
        ]
        batch, lr = StackedBatch([step.batch for step in self._now]), self._now[self.students.alive[0]].lr
        step = Step(index, batch, self._stacked_features(before), lr, seed=0)  # one that draws numbers is not stacked
        self._taken.append(step)
        if index == 0:
            check_stacked(self.problem, self.theta, self._maker, state, step, self._now)
        return step

    def known_ahead(self, index: int, most: int) -> int:
        return min(rollout.known_ahead(index, most) for rollout in self.rollouts)

    def _stacked_features(self, before: Sequence[Step]) -> Tensor:
        """s_t of every student, (N, |s_t|); the very tensor of the step before where no student's has changed."""
        same = self._features is not None and all(
            now.features is then.features for now, then in zip(self._now, before, strict=True)
        )
        if not same:
            self._features = torch.stack([step.features for step in self._now])
        assert self._features is not None
        return self._features

    def observe(self, loss: Tensor) -> None:
        for at, own in enumerate(loss.detach().unbind(0)):
            if at in self.students.diverged:
                continue
            try:
                self.rollouts[at].observe(own)
            except Diverged as diverged:
                self.students.lose(at, diverged)
            except Refused as refusal:
                raise Apart(f"stacked, student {self.students.seeds[at]} is another one: {refusal.reason}") from refusal

    def check_replayed(self, losses: Mapping[int, Tensor]) -> None:
        parts = {index: loss.unbind(0) for index, loss in losses.items()}
        for at in self.students.alive:
            self.rollouts[at].check_replayed({index: part[at] for index, part in parts.items()})


class StackedWatch(AdjointWatch):
    """Collects |w_bar_t| of every student on the way back: an ``AdjointWatch`` of N."""

    def __init__(self, students: Students) -> None:
        super().__init__()
        self._students = students
        self._lengths: dict[int, Tensor] = {}
        self._found: dict[int, list[float]] = {}

    def see(self, index: int, w_bar: Tensors) -> None:
        if index not in self._lengths and index not in self._found:
            self.see_norm(index, length_of(w_bar, norms))

    def see_norm(self, index: int, length: Tensor, of: Tensors | None = None) -> None:
        self._lengths.setdefault(index, in_range(length, norms, of))

    def norms_of(self, at: int) -> Mapping[int, float]:
        """Step -> norm of one student, in the order of the steps; waits for the device."""
        self._lengths_taken_in()
        return {index: self._found[index][at] for index in sorted(self._found)}

    def check(self) -> None:
        """Note the students whose adjoint is not finite, of what has come since the last look.

        Raises ``AllDiverged``.
        """
        new = self._lengths_taken_in()
        for at in self._students.alive:
            if all(math.isfinite(lengths[at]) for lengths in new.values()):
                continue
            try:
                check_finite(self.norms_of(at))
            except Diverged as diverged:
                self._students.lose(at, diverged)

    def _lengths_taken_in(self) -> Mapping[int, list[float]]:
        """What has been seen since this was last called, as numbers of every student, which are kept."""
        if not self._lengths:
            return {}
        lengths = torch.stack([length.double() for length in self._lengths.values()])
        new = dict(zip(self._lengths, lengths.tolist(), strict=True))
        self._found |= new
        self._lengths = {}
        return new
