"""Losses of whole sequences: their formulas and derivatives, what they are drawn from, and that a step replays."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.nn import functional

import l2t_bench as l2t
from l2t_bench.bleu import sentence_bleu
from l2t_bench.data.specials import END, PAD
from l2t_bench.lessons import with_fixed_loss
from l2t_bench.losses.structured import MinimumRisk, Reinforce, SoftmaxMargin
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.rollout import record
from l2t_bench.students.drawing import Drawn, with_drawing
from l2t_bench.training_step import student_gradient

V = 9
NAMES = ("reinforce", "minimum-risk", "softmax-margin")
EACH = pytest.mark.parametrize("name", NAMES)
SMALL = (
    "numbers/lstm1[embedding=3,hidden=4,train=60,dev=5,test=6,largest=99,pieces=30,source_vocabulary=34,"
    "target_vocabulary=34,batch=3]"
)


def sample(drawn_twice: bool = False) -> tuple[Drawn, Tensor]:
    """Two sentences of up to five words, three translations of each; the last may be the second again."""
    generator = torch.Generator().manual_seed(3)
    target = torch.tensor([[4, 5, 6, 7, END], [4, 8, END, PAD, PAD]])
    words = torch.tensor(
        [
            [[4, 5, 6, END, PAD, PAD], [4, 5, 6, 8, END, PAD], [7, 5, 6, 7, 4, END]],
            [[4, END, PAD, PAD, PAD, PAD], [8, 4, 8, 8, 5, 6], [8, 4, END, PAD, PAD, PAD]],
        ]
    )
    if drawn_twice:
        words[:, 2] = words[:, 1]
    logits, drawn = (torch.randn(*shape, V, generator=generator, dtype=torch.float64) for shape in ((2, 5), (2, 3, 6)))
    return Drawn(logits, words, drawn), target


def rivals(output: Drawn, target: Tensor) -> list[list[tuple[float, float]]]:
    """Of each sentence log p and BLEU of the reference and of what was drawn, word by word."""
    found = []
    for row in range(2):
        pairs = [(output.logits[row], target[row])]
        pairs += list(zip(output.drawn[row], output.words[row], strict=True))
        said = [[str(int(word)) for word in words if int(word) not in (PAD, END)] for _, words in pairs]
        scores = [
            sum(float(torch.log_softmax(at, -1)[word]) for at, word in zip(logits, words, strict=True) if word != PAD)
            for logits, words in pairs
        ]
        bleu = [sentence_bleu(" ".join(each), " ".join(said[0])) for each in said]
        found.append(list(zip(scores, bleu, strict=True)))
    return found


def test_reinforce_is_the_papers_sum_with_the_mean_as_its_baseline() -> None:
    output, target = sample()
    expected = 0.0
    for _, *drawn in rivals(output, target):
        baseline = sum(bleu for _, bleu in drawn) / 3
        expected -= sum(log_p * (bleu - baseline) for log_p, bleu in drawn) / 3 / 2
    assert float(Reinforce(3)(output, target)) == pytest.approx(expected, abs=1e-13)


def test_minimum_risk_is_the_expected_risk_over_the_renormalised_candidates() -> None:
    output, target = sample()
    expected = 0.0
    for sentence in rivals(output, target):
        weights = torch.softmax(torch.tensor([0.3 * log_p for log_p, _ in sentence], dtype=torch.float64), 0)
        expected += sum(float(q) * (1 - bleu) for q, (_, bleu) in zip(weights, sentence, strict=True)) / 2
    assert float(MinimumRisk(3, 0.3)(output, target)) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("reference", [False, True])
def test_softmax_margin_is_the_score_of_the_best_candidate_by_bleu_among_costly_rivals(reference: bool) -> None:
    """Scores are log p per word; the reference is a candidate where it is asked for, and then the best."""
    output, target = sample()
    expected = 0.0
    for row, sentence in enumerate(rivals(output, target)):
        words = [target[row], *output.words[row]]
        pairs = [
            (log_p / int((said != PAD).sum()), 1 - bleu) for (log_p, bleu), said in zip(sentence, words, strict=True)
        ]
        candidates = pairs if reference else pairs[1:]
        costly = torch.tensor([score + cost for score, cost in candidates], dtype=torch.float64)
        best = min(candidates, key=lambda pair: pair[1])
        assert (best is pairs[0]) == reference
        expected += (float(costly.logsumexp(0)) - best[0]) / 2
    assert float(SoftmaxMargin(3, reference)(output, target)) == pytest.approx(expected, abs=1e-13)


@EACH
@pytest.mark.parametrize("twice", [False, True])
def test_derivatives_by_the_logits_are_differences(name: str, twice: bool) -> None:
    output, target = sample(twice)
    loss = l2t.load_loss(f"{name}[count=3]")
    at = [each.requires_grad_() for each in (output.logits, output.drawn)]
    assert gradcheck(lambda logits, drawn: loss(Drawn(logits, output.words, drawn), target), at)


@pytest.mark.parametrize("loss", [MinimumRisk(3), SoftmaxMargin(3), SoftmaxMargin(3, True)])
def test_a_translation_that_is_drawn_twice_counts_once(loss: MinimumRisk | SoftmaxMargin) -> None:
    (logits, words, drawn), target = sample(drawn_twice=True)
    once = Drawn(logits, words[:, :2], drawn[:, :2])
    assert float(loss(Drawn(logits, words, drawn), target)) == pytest.approx(float(loss(once, target)), abs=1e-14)


@EACH
def test_what_is_predicted_where_there_is_padding_has_no_effect(name: str) -> None:
    (logits, words, drawn), target = sample()
    moved = drawn + 100 * functional.one_hot(words % V, V) * (words == PAD)[..., None]
    loss = l2t.load_loss(f"{name}[count=3]")
    assert torch.equal(loss(Drawn(logits, words, drawn), target), loss(Drawn(logits, words, moved), target))


# -- in training


def drawing(name: str, dtype: str = "float64") -> TeachingProblem:
    return with_fixed_loss(l2t.build_problem(SMALL, dtype=dtype), l2t.load_loss(name))


def test_a_student_that_draws_has_the_same_parameters_and_says_nothing_new_in_eval_mode() -> None:
    plain = l2t.build_problem(SMALL)
    drawn = drawing("minimum-risk", "float32")
    state = plain.init_student(0)
    assert state.params.keys() == drawn.init_student(0).params.keys()
    inputs, _ = plain.train(0, 0)  # type: ignore[attr-defined]
    assert torch.equal(plain.predict(state, inputs), drawn.predict(state, inputs))


@EACH
def test_a_step_draws_the_same_again_and_another_step_draws_others(name: str) -> None:
    problem = drawing(name)
    first = record(problem, {}, horizon=1)[0]
    state = problem.init_student(0)
    losses = [
        float(student_gradient(problem, state, step, torch.zeros(1)).loss)
        for step in (first, first, replace(first, seed=first.seed + 1))
    ]
    assert losses[0] == losses[1] != losses[2]


@EACH
def test_a_steps_gradient_is_the_difference_of_its_loss(name: str) -> None:
    """Along the gradient; what is drawn does not change for so small a move."""
    problem = drawing(name)
    step, state, phi = record(problem, {}, horizon=1)[0], problem.init_student(0), torch.zeros(1)
    gradients = student_gradient(problem, state, step, phi).gradients
    square = sum(float(each.square().sum()) for each in gradients.values())

    def loss_at(distance: float) -> float:
        moved = {key: value + distance * gradients[key] for key, value in state.params.items()}
        return float(problem.train_loss(StudentState(moved, {}).params, state.buffers, phi, step)[0])

    assert square > 0
    assert (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5 == pytest.approx(square, rel=1e-6)


# -- what cannot be


@EACH
def test_plain_logits_are_refused(name: str) -> None:
    output, target = sample()
    with pytest.raises(l2t.UserError, match="needs a student that draws them in training, not Tensor"):
        l2t.load_loss(name)(output.logits, target)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("reinforce[count=1]", "count must be at least 2"),
        ("softmax-margin[count=0]", "count must be a positive integer, not 0"),
        ("minimum-risk[sharpness=0]", "sharpness must be positive"),
    ],
)
def test_options_that_make_no_loss_are_errors(spec: str, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.load_loss(spec)


def test_a_classifier_draws_no_translations() -> None:
    with pytest.raises(l2t.UserError, match="a student that translates, not Linear"):
        with_drawing(torch.nn.Linear(2, 2), 3)
