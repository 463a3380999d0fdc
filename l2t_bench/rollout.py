"""A student's training run: begun, recorded step by step as it goes, or replayed from its record."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from l2t_bench.asked import check_recorded, check_replayable, checked_horizon, learning_rates
from l2t_bench.checksums import BatchChecksums
from l2t_bench.errors import Diverged, UserError, said_first
from l2t_bench.first_look import (
    look_at_beginning,
    look_at_step,
    look_at_student,
    look_at_teacher,
    not_replayed,
    once,
    other_student,
    same_numbers,
)
from l2t_bench.modules import tensor_leaves
from l2t_bench.precision import full_float32
from l2t_bench.problem import Step, StudentState, TeachingProblem, forward_seed, unseeing
from l2t_bench.resident import resident_bytes, trimmed_level
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import student_step
from l2t_bench.trial import trial

TryOut = Callable[[str, Step, StudentState, Any], None]
"""(place in the run, step, the state that it starts from, phi_t) -> nothing; raises what speaks against going on."""

LOOK_EVERY = 50
"""Steps between two looks at the losses, and at the process's size: the former waits for the device."""


class Rollout:
    """One run of student ``seed`` under ``theta``: fresh over ``horizon`` steps, or along recorded ``steps``.

    A backend asks for ``step(t, state)`` in order and for ``phi(step)``; whether the step is made now or comes from the
    record is no concern of its own. After the loop ``steps`` is the record of the run.

    ``try_out`` is asked at the first step, before any work is done, in the middle and at the last one, where a loss may
    have become another: a method raises ``Refused`` there for a student that it cannot differentiate.

    Raises ``UserError`` for a horizon that is not positive, for steps that are not a run of this student's, for a theta
    that is not the teacher's, for a learning rate that is none, for a batch source that gives another batch for the
    same arguments or writes into the one that it gave, and for what ``first_look`` finds of teacher and student.
    """

    def __init__(
        self,
        problem: TeachingProblem,
        theta: Tensors,
        *,
        horizon: int | None = None,
        steps: Sequence[Step] | None = None,
        seed: int = 0,
        try_out: TryOut | None = None,
    ) -> None:
        self.problem = problem
        self.seed = seed
        self.horizon = checked_horizon(horizon, steps, seed)
        if steps is not None:
            check_recorded(problem, steps)
        self._lrs = learning_rates(problem.optimizer, self.horizon) if steps is None else ()
        problem.check_theta(theta)
        self.theta: TensorDict = {
            name: tensor.detach().to(problem.device).requires_grad_() for name, tensor in theta.items()
        }
        self._recorded = steps
        self._try_out = try_out
        self._steps: list[Step] = []
        self._losses: list[Tensor] = []
        self._first_loss: Tensor | None = None
        self._resident = resident_bytes()
        self._checksums = BatchChecksums()  # of the batches that were drawn by this run
        self._phi_of: Tensor | None = None
        self._phi: Any = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps taken so far."""
        return tuple(self._steps)

    @property
    def lrs(self) -> Sequence[float]:
        """The learning rates eta_t of all steps, known from the beginning; recorded steps have their own."""
        return self._lrs if self._recorded is None else [step.lr for step in self._recorded]

    @property
    def losses(self) -> tuple[Tensor, ...]:
        """Those of the steps taken so far, 0-dimensional."""
        return tuple(self._losses)

    def restore(self, features: Sequence[Tensor], losses: Sequence[Tensor]) -> None:
        """Take the first steps as taken: they were, by another process, with these s_t and losses.

        Their batches are drawn again. A rollout of recorded steps has them, and is not restored.
        """
        for index, status in enumerate(features):
            batch = self.problem.train(index, self.seed)
            self._checksums.see(index, batch)
            self._steps.append(Step(index, batch, status, self._lrs[index], forward_seed(self.seed, index)))
        self._losses.extend(losses)

    def initial(self) -> StudentState:
        state = self.problem.init_student(self.seed)
        once(self.problem, "omega_0", partial(look_at_beginning, self.problem, state, self.seed))
        return state

    def step(self, index: int, state: StudentState) -> Step:
        """Step ``index``, the student being at ``state``."""
        step = self._recorded[index] if self._recorded is not None else self._fresh_step(index, state)
        self._steps.append(step)
        if index == 0:
            self._look(step, state)
        if place := self.place_of(index):
            self._look_again(place, step, state)
        return step

    def known_ahead(self, index: int, most: int) -> int:
        """How many steps from ``index`` on, at most ``most``, hang on no state but that which the first starts from.

        They may all be asked for at that state. The steps that are looked at, and the first one, are the first of
        theirs; so is one whose s_t is measured at the state.
        """
        looked_at = (at for at in (1, self.horizon // 2, self.horizon - 1, self.horizon) if at > index)
        return max(1, min(most, min(looked_at) - index, self._features_held(index) - index))

    def _features_held(self, index: int) -> int:
        """The step after ``index`` whose s_t hangs on its state, as far as is known."""
        features = self.problem.features
        if self._recorded is not None or features is None:
            return self.horizon
        held_until: Callable[[int], int] | None = getattr(features, "held_until", None)
        return index + 1 if held_until is None else held_until(index)

    def place_of(self, index: int) -> str | None:
        """What step ``index`` is called among those that are looked at; ``None`` for the others."""
        return {self.horizon - 1: "last", self.horizon // 2: "middle", 0: "first"}.get(index)

    def _look_again(self, place: str, step: Step, state: StudentState) -> None:
        """What a student may do at one step and not at another."""
        phi = self.phi(step)
        if place != "first":
            own = trial(self.problem, state, step, phi)
            once(self.problem, ("step", place), partial(look_at_step, own))
        if self._try_out is not None:
            self._try_out(place, step, state, phi)

    def phi(self, step: Step) -> Any:
        """phi_t with its graph to ``theta``; made once for all steps that share one s_t tensor."""
        if self._phi_of is not step.features:
            with torch.enable_grad():
                self._phi = self.problem.phi(self.theta, step.features)
            self._phi_of = step.features
        return self._phi

    def observe(self, loss: Tensor) -> None:
        """Take note of a step's loss.

        Raises ``Diverged`` with the first step whose loss is not finite, ``Refused`` where the first loss is not plain
        training's.
        """
        if not self._losses:
            self._check_same_student(loss.detach())
        self._losses.append(loss.detach())
        if len(self._losses) % LOOK_EVERY == 0 or len(self._losses) == self.horizon:
            self._check_losses()
            self._resident = trimmed_level(self._resident)
        if len(self._losses) == self.horizon:
            self._checksums.look(self.horizon)

    def check_replayed(self, losses: Mapping[int, Tensor]) -> None:
        """Hold the losses of replayed steps to those of the run that was recorded.

        Raises ``UserError`` with the first step whose replay is another one: a batch that changes when it is read
        again, or a student that draws random numbers of its own.
        """
        if not losses:
            return
        indices = sorted(losses)
        ours = torch.stack([losses[index] for index in indices])
        theirs = torch.stack([self._losses[index] for index in indices])
        tolerance = torch.finfo(ours.dtype).eps ** 0.5
        least = tolerance * float(
            self._losses[0].abs().nan_to_num(0.0, 0.0)
        )  # a loss near zero is the difference of larger numbers
        same = torch.isclose(ours, theirs, tolerance, least, equal_nan=True).tolist()
        if not all(same):
            at = same.index(False)
            raise not_replayed(indices[at], theirs[at], ours[at])

    def _check_losses(self) -> None:
        start = (len(self._losses) - 1) // LOOK_EVERY * LOOK_EVERY
        finite = torch.isfinite(torch.stack(self._losses[start:])).tolist()
        if not all(finite):
            index = start + finite.index(False)
            led_there = torch.stack(self._losses[max(0, index - LOOK_EVERY + 1) : index + 1]).tolist()
            raise Diverged(self._culprit(self._steps[index]), index, led_there)

    def _culprit(self, step: Step) -> str:
        with torch.no_grad():
            phi = tensor_leaves(self.problem.phi(self.theta, step.features))
        if not all(bool(torch.isfinite(leaf).all()) for leaf in phi):
            return f"the teacher's phi is not finite at step {step.index}: look at theta and at the features s_t"
        return (
            f"the student's loss is not finite at step {step.index}: lower the student's lr, let it decay "
            "(l2t.linear_decay), or look at the loss"
        )

    def _fresh_step(self, index: int, state: StudentState) -> Step:
        batch = self.problem.train(index, self.seed)
        self._check_batch(index, batch)
        previous = self._steps[-1].features if self._steps else None
        view = self.problem.view(state, index, self.horizon, self.seed, previous)
        if index and self._features_held(index - 1) > index and self.problem.features is not None:
            view = unseeing(view)
        return Step(
            index=index,
            batch=batch,
            features=self.problem.step_features(view),
            lr=self._lrs[index],
            seed=forward_seed(self.seed, index),
        )

    def _look(self, step: Step, state: StudentState) -> None:
        """Before any work is lost."""
        phi = self._first_phi(step)
        look_at_teacher(self.problem, self.theta, step.features, phi)
        self._first_loss = look_at_student(self.problem, state, step, phi)
        self.problem.check_objective()

    def _first_phi(self, step: Step) -> Any:
        try:
            return self.phi(step)
        except RuntimeError as error:
            given, own = step.features.dtype, {tensor.dtype for tensor in self.theta.values()}
            if own <= {given}:
                raise
            raise UserError(
                f"the teacher fails on s_t: its parameters are {', '.join(map(str, own))}, s_t has the student's "
                f"dtype, {given}; make both alike, problem.to(dtype=...) does ({said_first(error)})"
            ) from error

    def _check_same_student(self, loss: Tensor) -> None:
        """The library's forward pass against the plain one."""
        if self._first_loss is not None and not same_numbers(loss, self._first_loss):
            raise other_student(0, loss, self._first_loss)

    def _check_batch(self, index: int, batch: Any) -> None:
        if index == 0:
            check_replayable(self.problem.train, batch, self.seed)
        self._checksums.see(index, batch)
        if index == 1:
            self._checksums.look(index)


class ReplayCheck:
    """Holds the losses of steps that are taken again to those of the run, at the first one and every so many.

    The first is looked at at once: a source that cannot be replayed wastes no more than that. ``see`` says whether it
    has looked.
    """

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._losses: dict[int, Tensor] = {}
        self._seen = 0

    def see(self, index: int, loss: Tensor) -> bool:
        self._losses[index] = loss.detach()
        self._seen += 1
        due = self._seen == 1 or self._seen % LOOK_EVERY == 0
        if due:
            self.look()
        return due

    def look(self) -> None:
        """Raises ``UserError`` for a step that was not the one replayed; to be called at the end too."""
        losses, self._losses = self._losses, {}
        self._rollout.check_replayed(losses)


def check_replay(rollout: Rollout, state: StudentState, steps: Sequence[Step]) -> None:
    """Take ``steps`` of the run once more, from the ``state`` that they start from, and look whether they are the same.

    For a method that reads steps again at other states than the run's, where a loss says nothing. Raises ``UserError``.
    """
    check = ReplayCheck(rollout)
    for step in steps:
        state, loss = student_step(rollout.problem, state, step, rollout.phi(step))
        check.see(step.index, loss)
    check.look()


def plain_step(rollout: Rollout, state: StudentState, step: Step, phi: Any) -> StudentState:
    """One student step without a graph (paper, Eq. 1): omega_{t+1} and the buffers after it."""
    after, loss = student_step(rollout.problem, state, step, phi)
    rollout.observe(loss)
    return after


def train_student(
    rollout: Rollout, visit: Callable[[Step, StudentState], None] = lambda step, state: None
) -> StudentState:
    """Run the student to omega_T without a graph; ``visit`` sees each step with the state it starts from."""
    with full_float32(rollout.problem.device):
        state = rollout.initial()
        for index in range(rollout.horizon):
            step = rollout.step(index, state)
            visit(step, state)
            state = plain_step(rollout, state, step, rollout.phi(step))
    return state


def record(problem: TeachingProblem, theta: Tensors, *, horizon: int, seed: int = 0) -> tuple[Step, ...]:
    """The steps of a run of student ``seed`` under ``theta``, for any number of backends to differentiate."""
    rollout = Rollout(problem, theta, horizon=horizon, seed=seed)
    train_student(rollout)
    return rollout.steps
