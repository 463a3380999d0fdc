"""A meta-batch taken together where that can be done, else student by student, with a warning that says why."""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from l2t_bench.errors import Diverged, said_first
from l2t_bench.fallbacks import warn_of_fallback
from l2t_bench.gradient import TeacherGradient
from l2t_bench.metabatch.contract import one_by_one
from l2t_bench.metabatch.stacking import Apart
from l2t_bench.metabatch.together import taken_together
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import Tensors

if TYPE_CHECKING:
    from l2t_bench.stored import StoredRMD


def even_parts(seeds: Sequence[int], most: int) -> list[Sequence[int]]:
    """``seeds`` in as few parts of at most ``most`` as there can be, their lengths as equal as they can be.

    Parts of one length are compiled once, and take the least memory.
    """
    count = -(-len(seeds) // most)
    ends = [len(seeds) * part // max(1, count) for part in range(count + 1)]
    return [seeds[start:end] for start, end in pairwise(ends)]


def together_or_apart(
    method: "StoredRMD", problem: TeachingProblem, theta: Tensors, *, horizon: int, seeds: Sequence[int]
) -> list[TeacherGradient | Diverged]:
    """The teacher gradients of one part.

    Whatever goes wrong with students taken together is a reason to take them one by one, which says what is wrong where
    it is not the stacking: random numbers, code that looks at values, batches of unequal shapes, an operator without a
    batching rule, memory. Why is kept with the problem, so that it is not tried again.
    """
    if len(seeds) == 1:
        return one_by_one(method, problem, theta, horizon=horizon, seeds=seeds)
    reason = known_apart(method, problem, len(seeds))
    if reason is None:
        try:
            with warnings.catch_warnings():
                # torch takes such an operator student by student inside vmap: no quicker, and not what was asked for
                warnings.filterwarnings("error", ".*we have not yet implemented the batching rule")
                return taken_together(method, problem, theta, horizon=horizon, seeds=seeds)
        except Exception as error:  # vmap, and a user's code inside it, have their own ways to fail
            reason = str(error) if isinstance(error, Apart) else said_first(error)
    results = one_by_one(method, problem, theta, horizon=horizon, seeds=seeds)  # raises what is no matter of stacking
    problem.derived[_key(method, len(seeds))] = reason
    warning = f"students={method.students}: {reason}; they were taken one by one"
    warn_of_fallback(problem, warning)
    return [
        replace(found, warnings=(*found.warnings, warning)) if isinstance(found, TeacherGradient) else found
        for found in results
    ]


def known_apart(method: "StoredRMD", problem: TeachingProblem, count: int) -> str | None:
    """Why so many students of a problem were taken one by one when they were tried together; else ``None``."""
    reason: str | None = problem.derived.get(_key(method, count))
    return reason


def _key(method: "StoredRMD", count: int) -> Hashable:
    return "students apart", count, replace(method, students=1)
