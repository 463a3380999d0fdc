"""Algorithm 1: train a teacher by teacher gradients, for as long as it takes.

Student seeds come from disjoint ranges, so that no student that judges has been trained on: see ``SeedRange``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from l2t_bench.asked import checked_count, checked_horizon
from l2t_bench.errors import Diverged, RankError, but_for_numbers
from l2t_bench.fitting import check_fits, settled, settled_engine
from l2t_bench.gradient import TeacherGradientBackend, Walked
from l2t_bench.metabatch.contract import for_students, students_at_once
from l2t_bench.modules import trained_parameters
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import load_backend
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.trainer.alike import check_alike
from l2t_bench.trainer.ascent import TeacherOptimizer, distance
from l2t_bench.trainer.callbacks import Callback, OnOuterStep, Progress, Together
from l2t_bench.trainer.checkpoints import Checkpoints, newest_said
from l2t_bench.trainer.course import Course, Plan
from l2t_bench.trainer.outer_step import clipped, standard_error
from l2t_bench.trainer.phases import NoPhases, Phases
from l2t_bench.trainer.records import Judged, OuterStep, SeedRange, Selection, TeacherTraining
from l2t_bench.trainer.saving import Saving, saving_of
from l2t_bench.trainer.sharing import Shard, sharing_of
from l2t_bench.trainer.trouble import Trouble, new_trouble

__all__ = [
    "Callback",
    "Checkpoints",
    "Judged",
    "OuterStep",
    "Phases",
    "Progress",
    "SeedRange",
    "Selection",
    "Shard",
    "TeacherOptimizer",
    "TeacherTrainer",
    "TeacherTraining",
    "Trouble",
    "clipped",
    "distance",
    "standard_error",
    "train_teacher",
]

Teacher = nn.Module | Tensors | None


class TeacherTrainer:
    """Algorithm 1: each outer step teaches ``students`` fresh students and climbs the mean of their teacher gradients.

    Each student's d_theta is clipped to norm ``optimizer.clip`` before averaging: on some rollouts it explodes. One
    that diverges is left out and counted; a step that loses all its students leaves theta where it is.

    Args:
        problem: what is taught.
        teacher: where theta begins: a module, which takes the place of the problem's teacher; a theta, such as a
            teacher file's; or ``None``, ``init_teacher(seed)``. It is not changed.
        backend: what takes the teacher gradients, or its name with options.
        outer_steps: teacher optimisation steps, at most (see ``Selection.patience``).
        horizon: training steps of each student.
        students: fresh students of an outer step.
        optimizer: how theta climbs.
        selection: who chooses the best teacher, on dev; ``None``: the last one is it.
        checkpoints: where and how often is written down where it stands; ``None``: nowhere.
        callbacks: told as it goes on.
        phases: told where the time goes.
        memory_limit: what the teacher gradients of an outer step may take above what is held when they begin, in bytes
            or as text such as ``"20GB"``; ``check_fits`` then looks before the first outer step, by some short runs of
            the student. Left out, nothing is looked at and no run is made.
        shard: what the processes that ``torchrun`` has started share out, the ``batch`` or the ``students``; see
            ``Shard``. The first of them alone writes, and tells the callbacks.

    Raises ``UserError`` for numbers that are not whole or not positive, and for a teacher that is not the problem's.
    """

    def __init__(
        self,
        problem: TeachingProblem,
        teacher: Teacher,
        backend: TeacherGradientBackend | str,
        *,
        outer_steps: int,
        horizon: int,
        students: int = 1,
        optimizer: TeacherOptimizer | None = None,
        selection: Selection | None = None,
        seed: int = 0,
        checkpoints: Checkpoints | Path | str | None = None,
        callbacks: Sequence[Callback] = (),
        phases: Phases | None = None,
        memory_limit: int | str | None = None,
        shard: Shard | Literal["batch", "students"] | None = None,
    ) -> None:
        outer_steps, students = checked_count(outer_steps, "outer_steps"), checked_count(students, "students")
        horizon = checked_horizon(horizon, None, seed)
        problem, theta = _started(problem, teacher, seed)
        self._sharing = sharing_of(Shard(shard) if isinstance(shard, str) else shard)
        method = load_backend(backend) if isinstance(backend, str) else backend
        runs = -(-students // students_at_once(method))  # of an outer step: those taken at once are one
        taught, steps = self._sharing.taught(problem), horizon * outer_steps * runs
        self._engine = settled_engine(method, taught, steps)
        self._plan = Plan(
            problem,
            settled(method, taught, steps),
            theta,
            outer_steps,
            horizon,
            students,
            optimizer or TeacherOptimizer(),
            selection,
            seed,
        )
        self._checkpoints = Checkpoints(Path(checkpoints)) if isinstance(checkpoints, Path | str) else checkpoints
        self._callback = Together(callbacks if self._sharing.ranks.is_first else ())
        self._phases, self._memory_limit = phases or NoPhases(), memory_limit
        self._stopping = False

    @property
    def problem(self) -> TeachingProblem:
        """The problem, with the teacher that was given."""
        return self._plan.problem

    @property
    def engine(self) -> Walked | None:
        """What the students' steps are to be taken by, and why where ``engine=auto`` left it to their number.

        It is settled for the whole training; ``None`` for a method without engines.
        """
        return self._engine

    def train(self, *, resume: bool = False) -> TeacherTraining:
        """Train, or with ``resume`` go on from the newest sound checkpoint; from the beginning where there is none.

        On the same machine with the same versions and number of threads, a training that was killed and goes on gives
        the teacher of one that was not, bit for bit.

        Raises ``Refused`` for gradients that will not fit below the memory limit, ``UserError`` for checkpoints of
        another training, or any where ``resume`` is false, for ranks that are not of one training, and for what they
        cannot share out; ``Diverged`` when every student of every step diverged, ``RankError`` when a rank is lost.
        """
        self._sharing.check(self._plan)
        try:
            with self._sharing.ranks.joined(self._plan.problem.device):
                return self._trained(resume=resume)
        except RankError as error:
            raise RankError(f"{error}; {newest_said(self._checkpoints)}") from error

    def stop(self) -> None:
        """End after the outer step at hand: ``train`` writes a checkpoint and raises ``KeyboardInterrupt``."""
        self._stopping = True

    def _trained(self, *, resume: bool) -> TeacherTraining:
        plan, sharing = self._plan, self._sharing
        sharing.ranks.all_of(self._check_fits, "whether the gradients fit into memory")
        saving = saving_of(self._checkpoints, plan, self._callback.on_note, sharing.ranks, sharing.parts)
        course = Course(plan, self._phases, sharing.take(saving.take), sharing.ranks)
        check_alike(course, sharing.ranks, sharing.parts)
        with saving.opened(course, resume=resume) as before:
            training = self._run(course, saving, before)
        self._callback.on_end(training)
        return training

    def _check_fits(self) -> None:
        if self._memory_limit is not None:
            plan = self._plan
            method = for_students(plan.backend, self._sharing.students(plan.students))
            check_fits(method, plan.problem, plan.horizon, self._memory_limit)

    def _run(self, course: Course, saving: Saving, before: float) -> TeacherTraining:
        """All that is left, ``before`` seconds having gone into it."""
        begun, first, told = time.perf_counter(), course.at, set[str]()
        self._callback.on_start(tuple(course.curve), tuple(course.selection))
        while True:
            if course.judgement_is_due:
                self._callback.on_judged(course.judge())
            if course.ended:
                break
            record = course.climb()
            spent = time.perf_counter() - begun
            self._callback.on_outer_step(record, _progress(course, first, spent, before))
            self._tell_warnings(record, told)
            if trouble := new_trouble(course.curve, self._plan.students):
                self._callback.on_trouble(trouble)
            # After the callbacks: what they draw from the generators is drawn once.
            stopping = self._sharing.agreed(course, self._stopping)
            saving.keep(course, before + spent, at_once=stopping)
            if stopping:
                self._stopping = False  # this was it: the same trainer can go on
                raise KeyboardInterrupt
        if all(record.diverged == self._plan.students for record in course.curve):
            raise Diverged(
                "every student of every outer step diverged: lower the student's lr, or let it decay to zero"
            )
        training = course.result(before + time.perf_counter() - begun)
        return training if self._engine is None else replace(training, engine=str(self._engine))

    def _tell_warnings(self, record: OuterStep, told: set[str]) -> None:
        """Those of an outer step's gradients that none before had in this process: a log of its own each."""
        for warning in record.warnings:
            if (kind := but_for_numbers(warning)) not in told:
                told.add(kind)
                self._callback.on_note(warning)


def train_teacher(
    problem: TeachingProblem,
    backend: TeacherGradientBackend,
    *,
    outer_steps: int,
    horizon: int,
    students: int = 1,
    optimizer: TeacherOptimizer | None = None,
    selection: Selection | None = None,
    theta: Tensors | None = None,
    seed: int = 0,
    on_outer_step: Callable[[OuterStep], None] | None = None,
    phases: Phases | None = None,
    memory_limit: int | str | None = None,
) -> TeacherTraining:
    """A ``TeacherTrainer``'s training from ``theta``, without checkpoints; raises what that does."""
    trainer = TeacherTrainer(
        problem,
        theta,
        backend,
        outer_steps=outer_steps,
        horizon=horizon,
        students=students,
        optimizer=optimizer,
        selection=selection,
        seed=seed,
        callbacks=(OnOuterStep(on_outer_step),) if on_outer_step else (),
        phases=phases,
        memory_limit=memory_limit,
    )
    return trainer.train()


def _started(problem: TeachingProblem, teacher: Teacher, seed: int) -> tuple[TeachingProblem, TensorDict]:
    """The problem with its teacher, and theta to begin at."""
    if isinstance(teacher, nn.Module):
        problem = replace(problem, teacher=teacher)
        theta = {name: param.detach().clone() for name, param in trained_parameters(problem.teacher).items()}
    elif teacher is None:
        theta = problem.init_teacher(seed)
    else:
        theta = {name: tensor.detach() for name, tensor in teacher.items()}
    problem.check_theta(theta)
    return problem, {name: tensor.to(problem.device) for name, tensor in theta.items()}


def _progress(course: Course, first: int, spent: float, before: float) -> Progress:
    left = course.plan.outer_steps - course.at
    return Progress(course.at, course.plan.outer_steps, before + spent, left * spent / (course.at - first))
