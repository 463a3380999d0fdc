"""What the ranks of a training share out: the students of an outer step, or the batches of each student's steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from l2t_bench.distributed.joined import JoinedRanks
from l2t_bench.distributed.parts import check_divides
from l2t_bench.distributed.problem import sharded
from l2t_bench.distributed.ranks import ALONE, Ranks, launched
from l2t_bench.errors import Refused, UserError
from l2t_bench.gradient import TeacherGradientBackend
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensor_file import digest_of
from l2t_bench.tensors import TensorDict
from l2t_bench.trainer.contribution import Contribution
from l2t_bench.trainer.course import Course, Plan, Take
from l2t_bench.trainer.phases import Phases
from l2t_bench.units import seconds


@dataclass(frozen=True)
class Shard:
    """How the processes that ``torchrun`` starts train one teacher together.

    ``by``: ``batch``, each has its part of every batch; ``students``, each has some of an outer step's students.
    ``timeout``: how long one waits for the others before it gives up; with ``students`` the slowest rank's are waited
    for. Raises ``UserError`` for another word, and a timeout that is no time.
    """

    by: Literal["batch", "students"]
    timeout: str = "10m"

    def __post_init__(self) -> None:
        if self.by not in ("batch", "students"):
            raise UserError(f"shard is batch or students, not {self.by!r}")
        seconds(self.timeout)


class Sharing:
    """Of a process that trains alone."""

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks

    @property
    def parts(self) -> int:
        """Into how many parts a batch is divided."""
        return 1

    def taught(self, problem: TeachingProblem) -> TeachingProblem:
        """The problem as the backend takes it."""
        return problem

    def students(self, count: int) -> int:
        """How many of an outer step's students a rank takes. Raises ``UserError`` where that is no whole number."""
        return count

    def check(self, plan: Plan) -> None:
        """Raises ``UserError`` or ``Refused`` for a training that cannot be shared out so."""

    def take(self, inner: Take) -> Take:
        """What takes the gradients of an outer step, ``inner`` those of one rank."""
        return inner

    def agreed(self, course: Course, stopping: bool) -> bool:
        """Whether any rank is to stop. Raises ``RankError`` where they do not hold the same theta."""
        del course
        return stopping


class _Several(Sharing):
    """Of ranks that hold one theta."""

    def agreed(self, course: Course, stopping: bool) -> bool:
        what = f"the end of outer step {course.at - 1}"
        self.ranks.check_same(digest_of(course.ascent.snapshot()), f"theta at {what}")
        return self.ranks.any(stopping, what)


class ByStudents(_Several):
    """Every backend, and to the bit what one process would find: what comes of the students is put in their order."""

    def students(self, count: int) -> int:
        if count % self.ranks.count:
            raise UserError(
                f"shard=students: {count} students of an outer step cannot be divided among {self.ranks.count} ranks "
                "evenly: take a multiple of it"
            )
        return count // self.ranks.count

    def check(self, plan: Plan) -> None:
        self.students(plan.students)

    def take(self, inner: Take) -> Take:
        def taken(
            problem: TeachingProblem,
            backend: TeacherGradientBackend,
            theta: TensorDict,
            horizon: int,
            seeds: Sequence[int],
            phases: Phases,
        ) -> list[Contribution]:
            def work(own: Sequence[int]) -> list[Contribution]:
                return [_moved(given, "cpu") for given in inner(problem, backend, theta, horizon, own, phases)]

            what = f"the teacher gradients of students {seeds[0]} to {seeds[-1]}"
            return [_moved(given, str(problem.device)) for given in self.ranks.over(seeds, work, what)]

        return taken


class ByBatch(_Several):
    """Backends whose capabilities say ``shards``: every rank walks along every student, its sums taken by all."""

    @property
    def parts(self) -> int:
        return self.ranks.count

    def taught(self, problem: TeachingProblem) -> TeachingProblem:
        return sharded(problem, self.ranks)

    def check(self, plan: Plan) -> None:
        if not plan.backend.capabilities.shards:
            raise Refused(
                f"{plan.backend.name} takes batches whole: ranks have nothing to add up on its way back",
                "shard=students goes with every backend; rmd and truncated take shard=batch",
            )
        verdict = plan.backend.supports(self.taught(plan.problem), plan.horizon)
        if isinstance(verdict, Refused):
            raise verdict
        check_divides(plan.problem.train(0, plan.seeds_at(0)[0]), self.ranks.count, 0)

    def take(self, inner: Take) -> Take:
        def taken(
            problem: TeachingProblem,
            backend: TeacherGradientBackend,
            theta: TensorDict,
            horizon: int,
            seeds: Sequence[int],
            phases: Phases,
        ) -> list[Contribution]:
            given = inner(self.taught(problem), backend, theta, horizon, seeds, phases)
            found = [(each.value, digest_of(each.d_theta)) for each in given]
            self.ranks.check_same(found, f"the teacher gradients of students {seeds[0]} to {seeds[-1]}")
            return given

        return taken


def sharing_of(shard: Shard | None) -> Sharing:
    """Raises ``UserError`` where ranks are to share something out, and no launcher has started any."""
    if shard is None:
        return Sharing()
    launch = launched()
    if launch is None:
        raise UserError(
            f"shard={shard.by} is for the processes of a launcher, and this one was started alone: torchrun "
            "--nproc-per-node 2 -m l2t_bench train ..."
        )
    ranks = JoinedRanks(launch.rank, launch.count, seconds(shard.timeout))
    return ByBatch(ranks) if shard.by == "batch" else ByStudents(ranks)


def _moved(given: Contribution, device: str) -> Contribution:
    return replace(given, d_theta={name: tensor.to(device) for name, tensor in given.d_theta.items()})
