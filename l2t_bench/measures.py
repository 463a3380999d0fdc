"""What a taught student is measured by: accuracy, BLEU, or the problem's own objective."""

from typing import Literal

import torch
from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.expected_bleu import CandidateDev
from l2t_bench.lessons import accuracy_on
from l2t_bench.problem import StudentState, TeachingProblem, example_count

Measure = Literal["accuracy", "bleu", "objective"]
Part = Literal["dev", "test"]


def default_measure(problem: TeachingProblem) -> Measure:
    """BLEU where students translate, accuracy where targets are class indices, else the objective."""
    if isinstance(problem.prepare_dev, CandidateDev):
        return "bleu"
    _, targets = problem.dev_batches[0]
    indices = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return "accuracy" if indices else "objective"


def has_test(problem: TeachingProblem, measure: Measure) -> bool:
    """Whether students can be measured so on test."""
    return problem.test is not None and not (measure == "objective" and problem.prepare_dev is not None)


def measured_on(
    problem: TeachingProblem, state: StudentState, part: Part, measure: Measure, *, horizon: int, seed: int
) -> float:
    """What student ``seed`` reaches after ``horizon`` steps: the more the better; accuracy and BLEU are in [0, 1].

    BLEU is that of greedy translations. Raises ``UserError`` for a measure that the problem does not have.
    """
    if measure == "objective":
        return objective_on(problem, state, part, horizon=horizon, seed=seed)
    if measure == "bleu":
        from l2t_bench.translating import translate

        return float(translate(problem, state, part).bleu().score) / 100
    if default_measure(problem) != "accuracy":
        instead = f"take measure={default_measure(problem)}"
        raise UserError(f"{problem.name} has no accuracy, its targets are not class indices: {instead}")
    return accuracy_on(problem, state, part)


def objective_on(problem: TeachingProblem, state: StudentState, part: Part, *, horizon: int, seed: int) -> float:
    """The smoothed objective M~, the example-weighted mean over the batches of dev or test.

    Raises ``UserError`` for test where the problem makes its dev batches of the student (``prepare_dev``): it has none.
    """
    if part == "test" and not has_test(problem, "objective"):
        raise UserError(f"{problem.name} makes its dev batches of each student: there is no objective on test")
    dev = part == "dev"
    batches = problem.final_dev_batches(state, horizon, seed) if dev else problem.test_batches
    with torch.no_grad():
        total = sum(_objective(problem, state, batch) * example_count(batch) for batch in batches)
    return total / sum(example_count(batch) for batch in batches)


def _objective(problem: TeachingProblem, state: StudentState, batch: Batch) -> float:
    return float(problem.dev_objective(state.params, state.buffers, batch))
