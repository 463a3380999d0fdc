"""A student trained by actor and critic after a warm start (Bahdanau et al. 2017, Algorithms 1 and 2).

The critic is trained beside the student, so its loss is no function of output, target and phi alone: it has a loop of
its own. In that loop a student's step is any other's, under a loss whose phi is what the critic says (``ActorLoss``).
"""

import copy
import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn import functional

from l2t_bench.adam import Adam
from l2t_bench.data.specials import BEGIN
from l2t_bench.errors import Diverged, UserError
from l2t_bench.expected_bleu import joined
from l2t_bench.losses.actor_critic import ActorLoss, critic_loss, critic_targets, expected_values, policy, rewards
from l2t_bench.modules import call, fresh_parameters, mix_seeds
from l2t_bench.problem import Step, StudentState, TeachingProblem, forward_seed
from l2t_bench.students.search import Search
from l2t_bench.students.translator import Translator
from l2t_bench.tensors import TensorDict, Tensors
from l2t_bench.training_step import loss_gradients, student_step

_CRITIC, _PRETRAINING, _DRAWING = 11, 12, 13  # seeds of the critic's beginning, of its own batches, of what is drawn


@dataclass(frozen=True)
class ActorCritic:
    """How actor and critic are trained. The paper's values, as its code has them, where it gives any.

    ``count`` translations a sentence are drawn. The critic has ``critic_steps`` steps of its own before the student
    moves (the paper: 15 epochs), by Adam at ``critic_lr``; ``spread`` and ``likelihood`` are lambda_C and lambda_LL;
    ``mixing`` (gamma) is how much of actor and critic goes into their delayed twins at a step.

    Raises ``UserError`` for values that train nothing.
    """

    count: int = 1
    critic_steps: int = 0
    critic_lr: float = 1e-3
    spread: float = 1e-3
    likelihood: float = 0.1
    mixing: float = 1e-3

    def __post_init__(self) -> None:
        if self.count < 1 or self.critic_steps < 0 or not 0 < self.critic_lr < math.inf:
            raise UserError("actor and critic need count of at least 1, a positive critic_lr, critic_steps from 0 on")
        if not (0 < self.mixing <= 1 and 0 <= self.spread < math.inf and 0 <= self.likelihood < math.inf):
            raise UserError("mixing must be in (0, 1]; spread and likelihood must not be negative")


@dataclass(frozen=True)
class Learners:
    """All that is trained: the student, the critic with its optimiser's slots, and the delayed twins of both."""

    student: StudentState
    critic: TensorDict
    critic_slots: dict[str, TensorDict]
    delayed_student: StudentState
    delayed_critic: TensorDict


@dataclass(frozen=True)
class Episodes:
    """A batch (source (B, S), references (B, R)) with translations that were drawn of it.

    ``words`` (B, 1 + K, L) are the reference and K translations, ``before`` what stands before each word, ``gained``
    (B, K, L) what each drawn word adds to its translation's BLEU.
    """

    source: Tensor
    references: Tensor
    words: Tensor
    before: Tensor
    gained: Tensor

    @property
    def drawn(self) -> Tensor:
        """The words of the drawn translations: (B, K, L)."""
        return self.words[:, 1:]


def critic_of(student: nn.Module) -> Translator:
    """The critic: the student's own architecture, reading a reference in the source's place; Q in the logits' place.

    Raises ``UserError`` for a student that does not translate.
    """
    if not isinstance(student, Translator):
        raise UserError(f"actor and critic translate: the student must too, not {type(student).__name__}")
    critic = copy.deepcopy(student).eval()
    critic.source = copy.deepcopy(critic.target)
    return critic


@dataclass(frozen=True)
class ActorCriticTraining:
    """The steps of Algorithm 1 as functions of ``Learners``; ``problem``'s loss and teacher have no part in it."""

    problem: TeachingProblem
    settings: ActorCritic

    @cached_property
    def _actor(self) -> TeachingProblem:
        return replace(self.problem, loss=ActorLoss(self.settings.likelihood), features=None)

    @cached_property
    def _critic(self) -> Translator:
        return critic_of(self.problem.student)

    @cached_property
    def _critic_optimizer(self) -> Adam:
        return Adam(lr=self.settings.critic_lr)

    def begin(self, seed: int) -> Learners:
        """The student where the problem begins it, a fresh critic, and their twins."""
        student = self.problem.init_student(seed)
        fresh, _ = fresh_parameters(self._critic, mix_seeds(seed, _CRITIC))
        critic = {name: param.detach() for name, param in fresh.named_parameters()}
        return Learners(student, critic, {}, student, critic)

    def beginning(self, seed: int) -> Learners:
        """Student ``seed`` and its critic before the student's first step: the same at every lr of the student's."""
        return self.pretrained(self.begin(seed), seed)

    def pretrained(self, learners: Learners, seed: int) -> Learners:
        """After the critic's own steps: the student stays where it is, and other batches are drawn than it will see."""
        for index in range(self.settings.critic_steps):
            episodes = self.draw(learners, index, mix_seeds(seed, _PRETRAINING))
            learners, _ = self.teach_critic(learners, episodes, index)
        return learners

    def draw(self, learners: Learners, index: int, seed: int) -> Episodes:
        """Batch ``index`` of ``seed`` with translations that the delayed student draws."""
        (source, _), references = self.problem.train(index, seed)
        search = Search("sample", self.settings.count, mix_seeds(seed, index, _DRAWING))
        found = self.problem.decode(learners.delayed_student, (source, search))
        words = joined(references[:, None], found)
        before = functional.pad(words[:, :, :-1], (1, 0), value=BEGIN)
        gained = rewards(words[:, 1:], references, self._critic.target.num_embeddings)
        return Episodes(source, references, words, before, gained.to(self.problem.dtype))

    def values(self, critic: Tensors, episodes: Episodes) -> Tensor:
        """Q of every next word: (B, K, L, V)."""
        found: Tensor = call(self._critic, critic, (episodes.references, episodes.before[:, 1:]))[0]
        return found

    def targets(self, learners: Learners, episodes: Episodes) -> Tensor:
        """q by the delayed twins, constants: (B, K, L)."""
        inputs = episodes.source, episodes.before[:, 1:]
        with torch.no_grad():
            probabilities = policy(self.problem.predict(learners.delayed_student, inputs))
            expected = expected_values(probabilities, self.values(learners.delayed_critic, episodes))
        return critic_targets(episodes.gained, expected, episodes.drawn)

    def teach_critic(self, learners: Learners, episodes: Episodes, index: int) -> tuple[Learners, Tensor]:
        """Step ``index`` of the critic, and the values that it had before it: constants, (B, K, L, V)."""
        params = {name: param.detach().requires_grad_() for name, param in learners.critic.items()}
        values = self.values(params, episodes)
        loss = critic_loss(values, self.targets(learners, episodes), episodes.drawn, self.settings.spread)
        gradients = loss_gradients(loss, params)
        with torch.no_grad():
            critic, slots = self._critic_optimizer.step(
                learners.critic, gradients, learners.critic_slots, index=index, lr=self.settings.critic_lr
            )
            delayed = _mixed(learners.delayed_critic, critic, self.settings.mixing)
        return replace(learners, critic=critic, critic_slots=slots, delayed_critic=delayed), values.detach()

    def teach_student(
        self, learners: Learners, episodes: Episodes, values: Tensor, index: int, horizon: int, seed: int
    ) -> Learners:
        """Step ``index`` of the student by its own optimiser. Raises ``Diverged`` where its loss is not finite."""
        lr = self.problem.optimizer.lr_at(index, horizon)
        step = Step(
            index,
            ((episodes.source, episodes.before), episodes.words),
            values.new_zeros(1),
            lr,
            forward_seed(seed, index),
        )
        student, loss = student_step(self._actor, learners.student, step, values)
        if not bool(torch.isfinite(loss)):
            raise Diverged(f"the loss of actor and critic is not finite at step {index}: lower the student's lr", index)
        delayed = _mixed(learners.delayed_student.params, student.params, self.settings.mixing)
        return replace(learners, student=student, delayed_student=replace(student, params=delayed, slots={}))


def train_actor_critic(
    problem: TeachingProblem, settings: ActorCritic, *, horizon: int, seed: int, begun: Learners | None = None
) -> StudentState:
    """omega_T of student ``seed`` after ``horizon`` steps; a function of its arguments. Raises ``Diverged``.

    At a step what the delayed student draws teaches the critic, whose values before that teach the student. ``begun``
    spares the critic's own steps: what ``beginning`` gives for this seed and these settings.
    """
    training = ActorCriticTraining(problem, settings)
    learners = training.beginning(seed) if begun is None else begun
    for index in range(horizon):
        episodes = training.draw(learners, index, seed)
        learners, values = training.teach_critic(learners, episodes, settings.critic_steps + index)
        learners = training.teach_student(learners, episodes, values, index, horizon, seed)
    return learners.student


def _mixed(delayed: Tensors, ahead: Tensors, share: float) -> TensorDict:
    """(1 - share) delayed + share ahead."""
    return {name: torch.lerp(tensor, ahead[name].to(tensor), share) for name, tensor in delayed.items()}
