"""One outer step of Algorithm 1: the gradients of its students, what they are together, and who judges."""

import math
import time
from collections.abc import Sequence
from statistics import fmean, pstdev

from l2t_bench.distributed.ranks import ALONE, Ranks
from l2t_bench.errors import Diverged
from l2t_bench.gradient import TeacherGradient, TeacherGradientBackend
from l2t_bench.health import said
from l2t_bench.lessons import teach
from l2t_bench.measures import Measure, Part, default_measure, measured_on
from l2t_bench.metabatch.contract import teacher_gradients
from l2t_bench.problem import TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, length_in_float64, mean_of
from l2t_bench.trainer.ascent import distance
from l2t_bench.trainer.contribution import Contribution, contribution_of
from l2t_bench.trainer.phases import Phases, add_cost
from l2t_bench.trainer.records import Judged, OuterStep, SeedRange, Selection


def contributions(
    problem: TeachingProblem,
    backend: TeacherGradientBackend,
    theta: TensorDict,
    horizon: int,
    seeds: Sequence[int],
    phases: Phases,
) -> list[Contribution]:
    """Those of the students that do not diverge."""
    begun = time.perf_counter()
    taken = teacher_gradients(backend, problem, theta, horizon=horizon, seeds=seeds)
    seconds = time.perf_counter() - begun
    results = [found for found in taken if isinstance(found, TeacherGradient)]
    for result in results:
        add_cost(phases, result.cost)
    if len(results) < len(taken):  # the others left no cost, and most are lost going forward
        told = sum(result.cost.seconds + result.cost.seconds_compile for result in results)
        phases.add_phase("rollout", max(0.0, seconds - told))
    return [contribution_of(result) for result in results]


def outer_step_of(index: int, given: Sequence[Contribution], students: int) -> OuterStep:
    """What an outer step is before theta has moved; zeros where all its students diverged."""
    seconds, raw = sum(each.seconds for each in given), [each.d_theta for each in given]
    if not raw:
        return OuterStep(index, 0.0, 0.0, None, 0.0, students, seconds)
    value, norm = fmean(each.value for each in given), length_in_float64(mean_of(raw).values())
    healths = [each.health for each in given if each.health is not None]
    return OuterStep(
        index,
        value,
        norm,
        standard_error(raw),
        0.0,
        students - len(raw),
        seconds,
        adjoint_growth=max((h.growth for h in healths if math.isfinite(h.growth)), default=None),
        exploded=sum(health.exploded_at is not None for health in healths),
        died=sum(health.died_at is not None for health in healths),
        adjoint_said=said(*healths),
        warnings=tuple(dict.fromkeys(warning for each in given for warning in each.warnings)),
    )


def standard_error(gradients: Sequence[Tensors]) -> float | None:
    """Of the mean of several gradients, entries taken together: sqrt(sum of variances / n); ``None`` for one alone."""
    if len(gradients) < 2:
        return None
    mean = mean_of(gradients)
    squares = sum(distance(gradient, mean) ** 2 for gradient in gradients)
    return float((squares / (len(gradients) - 1) / len(gradients)) ** 0.5)


def clipped(tensors: TensorDict, bound: float | None) -> TensorDict:
    """``tensors`` scaled to norm ``bound`` where they are longer."""
    norm = length_in_float64(tensors.values())
    if bound is None or norm <= bound:
        return tensors
    return {name: tensor * (bound / norm) for name, tensor in tensors.items()}


def judge(
    problem: TeachingProblem,
    theta: Tensors,
    outer_step: int,
    horizon: int,
    selection: Selection,
    ranks: Ranks = ALONE,
) -> Judged:
    """What held-out students reach on dev under ``theta``, and on test where asked; ``ranks`` share them out.

    One that diverges has an accuracy, or a BLEU, of 0; it is lost where the measure is the objective, which may be of
    any size.
    """
    measure = selection.measure or default_measure(problem)
    parts: tuple[Part, ...] = ("dev", "test") if selection.test else ("dev",)
    seeds = SeedRange.SELECTION.seeds(selection.students)

    def measured(own: Sequence[int]) -> list[list[float] | None]:
        return [_measured(problem, theta, horizon, seed, parts, measure) for seed in own]

    found = ranks.over(seeds, measured, f"the students that judge before outer step {outer_step}")
    kept = [values for values in found if values is not None] or [[0.0] * len(parts)]
    dev, *test = zip(*kept, strict=True)
    return Judged(outer_step, fmean(dev), pstdev(dev), fmean(test[0]) if test else None, lost=found.count(None))


def _measured(
    problem: TeachingProblem, theta: Tensors, horizon: int, seed: int, parts: Sequence[Part], measure: Measure
) -> list[float] | None:
    """Of each part; ``None`` for a student that is lost."""
    try:
        student = teach(problem, theta, horizon=horizon, seed=seed)
    except Diverged:
        return None if measure == "objective" else [0.0] * len(parts)
    return [measured_on(problem, student, part, measure, horizon=horizon, seed=seed) for part in parts]
