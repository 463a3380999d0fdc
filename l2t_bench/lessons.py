"""Teaching a student under a teacher or a fixed loss, and judging it: no teacher gradient is taken."""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from l2t_bench.batches import Examples, IndexedBatches
from l2t_bench.errors import UserError
from l2t_bench.losses.contract import FixedLoss
from l2t_bench.objectives import accuracy
from l2t_bench.optimizers import SGD
from l2t_bench.problem import StudentState, TeachingProblem, example_count
from l2t_bench.rollout import Rollout, train_student
from l2t_bench.tensors import Tensors

K = TypeVar("K", bound=Hashable)


def teach(problem: TeachingProblem, theta: Tensors, *, horizon: int, seed: int) -> StudentState:
    """omega_T of a student under the teacher; no teacher gradient is taken. Raises ``Diverged``."""
    return train_student(Rollout(problem, theta, horizon=horizon, seed=seed))


def with_fixed_loss(problem: TeachingProblem, loss: Callable[[Any, Any, Any], Tensor]) -> TeachingProblem:
    """The problem under a loss that takes no notice of a teacher; no features are measured, phi is t/T, shape (1,).

    The student is the one that the loss asks for, where it is one of the catalogue's (``load_loss``): all but
    ``large-margin`` leave it as it is.
    """

    class NoTeacher(torch.nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return features

    student = loss.student(problem.student) if isinstance(loss, FixedLoss) else problem.student
    return replace(problem, student=student, loss=loss, features=None, teacher=NoTeacher())


def teach_fixed_loss(
    problem: TeachingProblem, loss: Callable[[Any, Any, Any], Tensor], *, horizon: int, seed: int
) -> StudentState:
    """omega_T of a student under ``loss(output, target, phi)``, phi being t/T. Raises ``Diverged``."""
    return teach(with_fixed_loss(problem, loss), {}, horizon=horizon, seed=seed)


def with_start(problem: TeachingProblem, params: Tensors) -> TeachingProblem:
    """The problem with every student at ``params`` before its first step, whatever its seed: a warm start."""
    return replace(problem, init=lambda seed: params)


def accuracy_on(problem: TeachingProblem, state: StudentState, part: Literal["dev", "test"] = "dev") -> float:
    """The 0-1 accuracy of a classifier on the problem's dev or test set."""
    batches = problem.dev_batches if part == "dev" else problem.test_batches
    right = sum(
        accuracy(problem.predict(state, inputs), targets) * example_count((inputs, targets))
        for inputs, targets in batches
    )
    return right / sum(example_count(batch) for batch in batches)


def with_lr(problem: TeachingProblem, lr: float | Callable[[int, int], float]) -> TeachingProblem:
    """The problem with another student lr or schedule. Raises ``UserError`` for an optimiser that is not SGD."""
    if not isinstance(problem.optimizer, SGD):
        raise UserError(f"with_lr changes the lr of SGD, not of {type(problem.optimizer).__name__}")
    return replace(problem, optimizer=replace(problem.optimizer, lr=lr))


def choose(candidates: Iterable[K], score: Callable[[K], float]) -> tuple[K, dict[K, float]]:
    """The candidate with the highest score (the first of equals), and every candidate's score."""
    table = {candidate: score(candidate) for candidate in candidates}
    return max(table, key=lambda candidate: table[candidate]), table


def with_dev_in_training(problem: TeachingProblem) -> TeachingProblem:
    """The problem with dev's examples in training too, in batches of the same size: what knows as much as a teacher.

    Dev stays what it is: a student trained so must not be chosen by it without saying so. Raises ``UserError`` for a
    problem whose training source is not ``IndexedBatches``.
    """
    source = problem.train
    if not isinstance(source, IndexedBatches):
        raise UserError(f"dev can join IndexedBatches, not {type(source).__name__}")

    def together() -> Examples:
        parts = [source.examples, *(Examples(*batch) for batch in problem.dev_batches)]
        return Examples(torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts]))

    return replace(problem, train=IndexedBatches(together, source.batch_size, source.augment))
