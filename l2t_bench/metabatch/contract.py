"""The contract of a meta-batch: the teacher gradients of several students under one theta."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from l2t_bench.errors import Diverged
from l2t_bench.gradient import TeacherGradient, TeacherGradientBackend
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import Tensors


@runtime_checkable
class TakesMetaBatch(Protocol):
    """A backend that takes several students itself; every ``l2t_bench.backend.Backend`` does.

    One that takes them at once, each at the memory of one, says so to predictions by ``students_at_once`` (an int) and
    ``for_students(count)``, itself as it takes ``count`` students.
    """

    def teacher_gradients(
        self, problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
    ) -> list[TeacherGradient | Diverged]:
        """As the function of this module."""


def teacher_gradients(
    backend: TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
) -> list[TeacherGradient | Diverged]:
    """The teacher gradients of students ``seeds``, in their order, each as ``teacher_gradient(seed=...)`` gives it.

    A student that diverges stands in its place as the ``Diverged`` that it raises alone, its ``seed`` with it, and
    leaves the others as they are. A backend without a ``teacher_gradients`` of its own takes one seed after another.
    Raises what ``teacher_gradient`` raises, ``Diverged`` excepted.
    """
    if isinstance(backend, TakesMetaBatch):
        return backend.teacher_gradients(problem, theta, horizon=horizon, seeds=seeds)
    return one_by_one(backend, problem, theta, horizon=horizon, seeds=seeds)


def for_students(backend: TeacherGradientBackend, count: int) -> TeacherGradientBackend:
    """The backend as it takes ``count`` students, no more of them at once than there are: for predictions."""
    fitted: TeacherGradientBackend = backend.for_students(count) if hasattr(backend, "for_students") else backend
    return fitted


def students_at_once(backend: TeacherGradientBackend) -> int:
    """How many students it takes at once, and holds in memory."""
    return int(getattr(backend, "students_at_once", 1))


def one_by_one(
    backend: TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
) -> list[TeacherGradient | Diverged]:
    """The same, one student after another."""
    found: list[TeacherGradient | Diverged] = []
    for seed in seeds:
        try:
            found.append(backend.teacher_gradient(problem, theta, horizon=horizon, seed=seed))
        except Diverged as diverged:
            found.append(of_student(diverged, seed))
    return found


def of_student(diverged: Diverged, seed: int) -> Diverged:
    """The same with the student's seed, and without the traceback, which would hold the run's tensors."""
    diverged.seed = seed
    return diverged.with_traceback(None)
