"""How a loss is judged by BLEU: at which lr, chosen on dev, and what fresh students reach on test."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any, Literal

from l2t_bench.actor_critic import ActorCritic, ActorCriticTraining, train_actor_critic
from l2t_bench.data.text_batches import TextBatches
from l2t_bench.engine.recorder import Recorder
from l2t_bench.errors import Diverged
from l2t_bench.lessons import choose, teach, with_fixed_loss, with_lr
from l2t_bench.optimizers import linear_decay
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.registry import load_loss
from l2t_bench.students.search import Search
from l2t_bench.suites.translation_losses import ACTOR_CRITIC, FIXED, kind_of
from l2t_bench.suites.translation_settings import TranslationJudging
from l2t_bench.tensors import TensorDict
from l2t_bench.training import SeedRange
from l2t_bench.translating import translate


@dataclass(frozen=True)
class Lesson:
    """How students are taught: a problem, for how many steps, how the lr goes, and what trains a student of it."""

    problem: TeachingProblem
    horizon: int
    schedule: Literal["constant", "linear"]
    train: Callable[[TeachingProblem, int, int], StudentState]  # of a horizon and a seed

    def student(self, seed: int, lr: float) -> StudentState:
        """omega_T of student ``seed``. Raises ``Diverged``."""
        decaying = self.schedule == "linear"
        return self.train(with_lr(self.problem, linear_decay(lr) if decaying else lr), self.horizon, seed)

    def dev_bleu(self, seed: int, lr: float) -> float:
        """Greedy BLEU on dev, from 0 to 100; 0 of a student that diverges."""
        try:
            return translate(self.problem, self.student(seed, lr), "dev").bleu().score
        except Diverged:
            return 0.0


def judged(
    method: str, problem: TeachingProblem, theta: TensorDict, settings: TranslationJudging, recorder: Recorder
) -> dict[str, Any]:
    """The measurements of one loss. Raises ``Diverged`` where a fresh student does: BLEU has no worst value to give."""
    lesson = lesson_of(method, problem, theta, settings)
    begun = time.perf_counter()
    with recorder.phase("evaluation"):
        lr, table = _chosen(lesson, grid_of(method, settings), settings.tuning_students)
        rows = [_row(lesson, seed, lr, settings.beam) for seed in SeedRange.FRESH.seeds(settings.fresh_students)]
    students, signatures = [row for row, _ in rows], rows[0][1]
    return {
        "loss": kind_of(method),
        "lr": lr,
        "lr_grid": [{"lr": tried, "dev_bleu": score} for tried, score in table.items()],
        "students": students,
        **signatures,
        "beam": settings.beam,
        "horizon": settings.horizon,
        **sizes_of(problem),
        "seconds_students": time.perf_counter() - begun,
    }


def lesson_of(method: str, problem: TeachingProblem, theta: TensorDict, settings: TranslationJudging) -> Lesson:
    """Under the loss of a method: ``theta``'s, or a fixed one, which has no teacher; or by actor and critic."""
    length = settings.horizon, settings.schedule
    if method == ACTOR_CRITIC:
        return Lesson(problem, *length, _by_actor_and_critic(problem, settings))
    if method in FIXED:
        problem, theta = with_fixed_loss(problem, load_loss(FIXED[method])), {}
    return Lesson(problem, *length, lambda own, horizon, seed: teach(own, theta, horizon=horizon, seed=seed))


def _by_actor_and_critic(
    problem: TeachingProblem, settings: TranslationJudging
) -> Callable[[TeachingProblem, int, int], StudentState]:
    """A student's critic is taught by itself once, for all the rates that the student is tried at."""
    options = ActorCritic(**settings.critic)  # type: ignore[arg-type]
    begun = lru_cache(maxsize=settings.tuning_students)(ActorCriticTraining(problem, options).beginning)
    return lambda own, horizon, seed: train_actor_critic(own, options, horizon=horizon, seed=seed, begun=begun(seed))


def grid_of(method: str, settings: TranslationJudging) -> Sequence[float]:
    """The learning rates that a method is tried at."""
    return settings.grids.get(kind_of(method), settings.grid)


def _chosen(lesson: Lesson, grid: Sequence[float], students: int) -> tuple[float, dict[float, float]]:
    """The lr that is best on dev with every score; one that has no rival costs no student."""
    if len(grid) == 1:
        return grid[0], {}
    seeds = SeedRange.TUNING.seeds(students)
    return choose(grid, lambda lr: fmean(lesson.dev_bleu(seed, lr) for seed in seeds))


def _row(lesson: Lesson, seed: int, lr: float, beam: int) -> tuple[dict[str, Any], dict[str, str]]:
    """A student's BLEU on dev and test, from 0 to 100, and sacrebleu's signatures of its two kinds."""
    state = lesson.student(seed, lr)
    searched = translate(lesson.problem, state, "test", Search(count=beam))
    tokens, text = searched.bleu(), searched.detokenised_bleu()
    row = {
        "seed": seed,
        "dev_bleu": translate(lesson.problem, state, "dev").bleu().score,
        "test_greedy_bleu": translate(lesson.problem, state, "test").bleu().score,
        "test_bleu": tokens.score,
        "test_detokenised_bleu": text.score,
    }
    return row, {"signature": tokens.signature, "detokenised_signature": text.signature}


def sizes_of(problem: TeachingProblem) -> dict[str, int]:
    """How many sentences each part has."""
    assert isinstance(problem.train, TextBatches)  # as in all named problems on translation
    parts = {"dev": problem.dev_batches, "test": problem.test_batches}
    sizes = {name: sum(len(targets) for _, targets in batches) for name, batches in parts.items()}
    return {"train": len(problem.train.dataset), **sizes}
