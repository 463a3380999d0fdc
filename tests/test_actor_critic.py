"""Actor and critic: their formulas, the policy gradient and the critic against enumeration, and that a run replays."""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.actor_critic import ActorCritic, ActorCriticTraining, Learners, critic_of, train_actor_critic
from l2t_bench.bleu import sentence_bleu
from l2t_bench.data.specials import BEGIN, END, PAD
from l2t_bench.lessons import with_lr, with_start
from l2t_bench.losses.actor_critic import (
    ActorLoss,
    critic_loss,
    critic_targets,
    expected_values,
    policy,
    rewards,
)
from l2t_bench.losses.sequence import WordCrossEntropy
from l2t_bench.modules import same_tensors
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.students.attention_lstm import AttentionLSTM
from l2t_bench.suites import translation_judging
from l2t_bench.suites.translation_settings import TranslationJudging

V, UNKNOWN, WORD = 5, 0, 4  # of what can be said there are three: an unknown word, the word, the END
SOURCE, REFERENCE = [WORD, END], [WORD, UNKNOWN, WORD, WORD, END]
MOST = 7  # words of a translation of that source


def tiny(batch: int = 2, **changes: object) -> TeachingProblem:
    """A student of five words in float64, and one sentence pair again and again."""
    targets = torch.tensor([REFERENCE]).expand(batch, -1)
    source = torch.tensor([SOURCE]).expand(batch, -1)
    before = torch.tensor([[BEGIN, *REFERENCE[:-1]]]).expand(batch, -1)
    given = ((source, before), targets)
    problem = TeachingProblem(
        student=AttentionLSTM(V, V, embedding=3, hidden=4).double(),
        teacher=torch.nn.Linear(1, 1).double(),
        loss=lambda output, target, phi: WordCrossEntropy()(output, target),
        objective=lambda output, target: -WordCrossEntropy()(output, target),
        optimizer=l2t.SGD(lr=0.5),
        train=lambda index, seed: given,
        dev=given,
    )
    return replace(problem, **changes)  # type: ignore[arg-type]


@cache
def translations() -> Tensor:
    """All that can be said of the source, (N, MOST): up to an END, or cut off."""
    found = []
    for length in range(MOST + 1):
        for said in product((UNKNOWN, WORD), repeat=length):
            ended = [*said, END] if length < MOST else [*said]
            found.append(ended + [PAD] * (MOST - len(ended)))
    return torch.tensor(found)


def logits_of(problem: TeachingProblem, params: dict[str, Tensor]) -> Tensor:
    """Of all translations: (N, MOST, V)."""
    words = translations()
    before = torch.cat([torch.full((len(words), 1), BEGIN), words[:, :-1]], dim=1)
    source = torch.tensor([SOURCE])
    found: Tensor = torch.func.functional_call(problem.student, params, ((source, before[None]),))[0]
    return found


def likelihoods(logits: Tensor) -> Tensor:
    """p of each translation, (N,)."""
    words = translations()
    chosen = policy(logits).gather(-1, words[..., None]).squeeze(-1).masked_fill(words == PAD, 1)
    return chosen.prod(-1)


def scores() -> Tensor:
    """BLEU of each translation, (N,)."""
    return rewards(translations()[None], torch.tensor([REFERENCE]), V)[0].sum(-1)


def true_values(likelihood: Tensor) -> Tensor:
    """Q by enumeration: what is gained on average after each prefix and next word, (N, MOST, V)."""
    words, bleu = translations(), scores()
    gained = rewards(words[None], torch.tensor([REFERENCE]), V)[0].cumsum(-1)
    found = torch.zeros(*words.shape, V, dtype=torch.float64)
    for row, place in (words != PAD).nonzero().tolist():
        same = (words[:, :place] == words[row, :place]).all(-1)
        so_far = gained[row, place - 1] if place else 0.0
        for word in (UNKNOWN, WORD, END):
            on = same & (words[:, place] == word)
            found[row, place, word] = (likelihood[on] * bleu[on]).sum() / likelihood[on].sum() - so_far
    return found


def expected_bleu(problem: TeachingProblem, state: StudentState) -> float:
    return float((likelihoods(logits_of(problem, state.params)) * scores()).sum())


# -- formulas ----------------------------------------------------------------------------------------------------------


def sample() -> tuple[Tensor, Tensor, Tensor]:
    """Logits (2, 3, 4, V), words (2, 3, 4) of a reference and two drawn, values (2, 2, 4, V)."""
    generator = torch.Generator().manual_seed(5)
    words = torch.tensor(
        [
            [[4, 0, END, PAD], [4, 4, END, PAD], [0, END, PAD, PAD]],
            [[4, END, PAD, PAD], [0, 0, 4, 4], [END, *[PAD] * 3]],
        ]
    )
    logits, values = (torch.randn(2, k, 4, V, generator=generator, dtype=torch.float64) for k in (3, 2))
    return logits, words, values


def test_what_words_add_to_bleu_adds_up_to_a_translations_and_an_end_adds_nothing() -> None:
    words = torch.tensor([[[4, 4, 0, 4, END], [0, END, PAD, PAD, PAD]], [[4, 0, 4, 4, 4], [END, PAD, PAD, PAD, PAD]]])
    found = rewards(words, torch.tensor([REFERENCE, [4, END, PAD, PAD, PAD]]), V)
    assert float(found[0, 0].sum()) == pytest.approx(sentence_bleu("4 4 0 4", "4 0 4 4"))
    assert float(found[0, 0, 0]) == pytest.approx(sentence_bleu("4", "4 0 4 4"))
    assert float(found[1, 0].sum()) == pytest.approx(sentence_bleu("4 0 4 4 4", "4"))
    assert float(found[1, 0, 0]) == pytest.approx(1) and float(found[1, 0, 1]) < 0
    assert found[0, 0, 4] == 0 and not found[0, 1, 1:].any() and not found[1, 1].any()


def test_a_target_is_the_reward_and_what_is_expected_after_it_up_to_the_last_word() -> None:
    words = sample()[1]
    gained, expected = torch.rand(2, 2, 3, 4, dtype=torch.float64)
    found = critic_targets(gained, expected, words)
    for row, place, at in (words != PAD).nonzero().tolist():
        last = at == 3 or words[row, place, at + 1] == PAD
        onward = 0 if last else expected[row, place, at + 1]
        assert float(found[row, place, at]) == pytest.approx(float(gained[row, place, at] + onward))


def test_the_critics_loss_is_the_papers_with_its_penalty_on_spread() -> None:
    _, words, values = sample()
    targets = torch.rand(2, 2, 4, dtype=torch.float64)
    by_hand = 0.0
    for row, place, at in (words[:, 1:] != PAD).nonzero().tolist():
        q = values[row, place, at]
        by_hand += float((q[words[row, 1 + place, at]] - targets[row, place, at]) ** 2)
        by_hand += 0.3 * float(((q - q.mean()) ** 2).sum())
    assert float(critic_loss(values, targets, words[:, 1:], 0.3)) == pytest.approx(by_hand / 4, rel=1e-12)


def test_the_actors_gradient_is_its_formula_word_by_word() -> None:
    """By a logit -p_a (Q_a - sum_b p_b Q_b) / (B K) where drawn, lambda (p_a - [a = y]) / B in a reference."""
    logits, words, values = sample()
    at = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(ActorLoss(0.2)(at, words, values), at)
    p = policy(logits)
    q = torch.cat([torch.zeros(2, 1, 4, V, dtype=torch.float64), values], dim=1)
    by_hand = -p * (q - expected_values(p, q)[..., None]) / 4
    plain = torch.softmax(logits[:, 0], -1) - torch.nn.functional.one_hot(words[:, 0], V)
    by_hand[:, 0] = 0.2 * plain / 2
    torch.testing.assert_close(found, by_hand.masked_fill((words == PAD)[..., None], 0), rtol=1e-12, atol=1e-15)


# -- against enumeration -----------------------------------------------------------------------------------------------


def test_with_true_values_the_expected_step_is_the_gradient_of_expected_bleu() -> None:
    """The policy gradient theorem: over all translations, each as likely as it is drawn."""
    problem = tiny()
    params = {name: param.clone().requires_grad_() for name, param in problem.init_student(0).params.items()}
    logits = logits_of(problem, params)
    likelihood = likelihoods(logits)
    assert likelihood.sum().item() == pytest.approx(1, abs=1e-12)
    values, words = true_values(likelihood.detach()), translations()
    loss = sum(
        weight * ActorLoss(0)(torch.stack([at, at])[None], torch.stack([said, said])[None], value[None, None])
        for weight, at, said, value in zip(likelihood.detach(), logits, words, values, strict=True)
    )
    assert isinstance(loss, Tensor)
    tensors = list(params.values())
    found = torch.autograd.grad(loss, tensors, retain_graph=True, materialize_grads=True)
    true = torch.autograd.grad(-(likelihood * scores()).sum(), tensors, materialize_grads=True)
    assert float(torch.cat([each.flatten() for each in true]).norm()) > 1e-3
    torch.testing.assert_close(found, true, rtol=1e-9, atol=1e-13)


def test_a_critic_learns_what_is_gained_on_average_by_the_student_that_it_watches() -> None:
    problem = tiny(batch=8)
    settings = ActorCritic(critic_steps=150, critic_lr=0.03, spread=0.0, mixing=0.1)
    training = ActorCriticTraining(problem, settings)
    begun = training.begin(0)
    learnt = training.pretrained(begun, 0)
    assert same_tensors(learnt.student.params, begun.student.params)
    likelihood = likelihoods(logits_of(problem, begun.student.params))
    true = true_values(likelihood)[0, 0]
    episodes = training.draw(begun, 0, 0)
    said = [UNKNOWN, WORD, END]
    before, after = (training.values(each.critic, episodes)[0, 0, 0].detach() for each in (begun, learnt))
    assert float((after - true)[said].abs().max()) < 0.05 < float((before - true)[said].abs().max())


def test_a_student_whose_critic_has_learned_says_what_has_more_bleu() -> None:
    problem = tiny(batch=16)
    settings = ActorCritic(critic_steps=60, critic_lr=0.02, likelihood=0.0, mixing=0.1)
    after = train_actor_critic(problem, settings, horizon=60, seed=0)
    assert expected_bleu(problem, after) > 1.5 * expected_bleu(problem, problem.init_student(0))


# -- a run -------------------------------------------------------------------------------------------------------------


def test_a_step_is_the_students_own_optimiser_along_the_actors_gradient_at_the_critics_values() -> None:
    problem, settings = tiny(), ActorCritic(count=2, critic_steps=1)
    training = ActorCriticTraining(problem, settings)
    learners = training.pretrained(training.begin(3), 3)
    episodes = training.draw(learners, 0, 3)
    assert episodes.words.shape[1] == 3 and torch.equal(episodes.words[:, 0, : len(REFERENCE)], episodes.references)
    values = training.values(learners.critic, episodes)
    params = {name: param.clone().requires_grad_() for name, param in learners.student.params.items()}
    logits = torch.func.functional_call(problem.student, params, ((episodes.source, episodes.before),))
    loss = ActorLoss(0.1)(logits, episodes.words, values.detach())
    gradients = torch.autograd.grad(loss, list(params.values()), materialize_grads=True)
    found = train_actor_critic(problem, settings, horizon=1, seed=3).params
    for (name, param), gradient in zip(params.items(), gradients, strict=True):
        torch.testing.assert_close(found[name], param.detach() - 0.5 * gradient, rtol=1e-12, atol=1e-14)


def test_a_run_is_a_function_of_its_seed() -> None:
    problem, settings = with_start(tiny(), tiny().init_student(0).params), ActorCritic(critic_steps=2)
    first, again, other = (train_actor_critic(problem, settings, horizon=3, seed=seed).params for seed in (1, 1, 2))
    assert same_tensors(first, again) and not same_tensors(first, other)


def test_a_critic_that_was_taught_once_serves_every_lr_of_its_student() -> None:
    settings = ActorCritic(critic_steps=3)
    begun = ActorCriticTraining(tiny(), settings).beginning(1)
    for lr in (0.1, 0.4):
        own = with_lr(tiny(), lr)
        spared, whole = (train_actor_critic(own, settings, horizon=3, seed=1, begun=each) for each in (begun, None))
        assert same_tensors(spared.params, whole.params)


def test_a_lesson_teaches_each_critic_once(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[int] = []
    beginning = ActorCriticTraining.beginning

    def counted(training: ActorCriticTraining, seed: int) -> Learners:
        taught.append(seed)
        return beginning(training, seed)

    monkeypatch.setattr(ActorCriticTraining, "beginning", counted)
    settings = TranslationJudging("numbers/lstm1", 2, (0.1, 0.2), tuning_students=2, critic={"critic_steps": 1})
    lesson = translation_judging.lesson_of("actor-critic", tiny(), {}, settings)
    for lr in (0.1, 0.2):
        for seed in (4, 5):
            lesson.student(seed, lr)
    assert taught == [4, 5]


def test_the_twins_follow_by_their_share() -> None:
    training = ActorCriticTraining(tiny(), ActorCritic(mixing=0.25))
    begun = training.begin(0)
    episodes = training.draw(begun, 0, 0)
    after, values = training.teach_critic(begun, episodes, 0)
    after = training.teach_student(after, episodes, values, 0, 1, 0)
    pairs = (
        (begun.critic, after.critic, after.delayed_critic),
        (begun.student.params, after.student.params, after.delayed_student.params),
    )
    for was, now, twin in pairs:
        assert not same_tensors(was, now)
        for name, tensor in twin.items():
            torch.testing.assert_close(tensor, 0.75 * was[name] + 0.25 * now[name])


def test_the_critic_reads_references_by_its_own_words() -> None:
    student = AttentionLSTM(9, V, embedding=3, hidden=4)
    critic = critic_of(student)
    assert critic.source.num_embeddings == critic.target.num_embeddings == V and student.source.num_embeddings == 9
    assert {name: tuple(p.shape) for name, p in critic.named_parameters()} == {
        name: (V, 3) if name == "source.weight" else tuple(p.shape) for name, p in student.named_parameters()
    }


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({"count": 0}, "count of at least 1"),
        ({"critic_lr": 0.0}, "a positive critic_lr"),
        ({"critic_steps": -1}, "critic_steps from 0 on"),
        ({"mixing": 0.0}, r"mixing must be in \(0, 1\]"),
        ({"spread": -1.0}, "must not be negative"),
    ],
)
def test_settings_that_train_nothing_are_errors(values: dict[str, float], answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        ActorCritic(**values)  # type: ignore[arg-type]


def test_a_classifier_has_no_critic() -> None:
    with pytest.raises(l2t.UserError, match="the student must too, not Linear"):
        critic_of(torch.nn.Linear(2, 2))
