"""The learned loss of a sequence, its teacher, BLEU and its expectation: values, padding, derivatives."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

import l2t_bench as l2t
from l2t_bench.bleu import corpus_bleu, sentence_bleu
from l2t_bench.data.specials import BEGIN, END, PAD, SPECIALS
from l2t_bench.data.spelling import Spelling
from l2t_bench.expected_bleu import CandidateDev, Candidates, ExpectedBLEU, joined, stands_first
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.losses.sequence import WordCrossEntropy, diagonal_sigmoid, word_log_p
from l2t_bench.problem import StudentView
from l2t_bench.students.search import Search
from l2t_bench.teachers import DiagonalTeacher
from l2t_bench.translation_features import TranslationFeatures

V = 7


def sample(*shape: int) -> tuple[Tensor, Tensor]:
    """Logits (*shape, V) and words (*shape,), the last of each row padding."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(2, V, shape, generator=generator)
    words[..., -1] = PAD
    return torch.randn(*shape, V, generator=generator, dtype=torch.float64), words


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_papers_sum_over_words_without_padding() -> None:
    (logits, words), phi = sample(3, 5), torch.rand(V, dtype=torch.float64) + 0.5
    p = torch.softmax(logits, dim=-1)
    expected = 0.0
    for row in range(3):
        for at in range(4):
            word = int(words[row, at])
            expected -= float(torch.sigmoid(phi[word] * p[row, at, word].log())) / 3
    assert float(diagonal_sigmoid(logits, words, phi)) == pytest.approx(expected, abs=1e-14)


def test_the_loss_of_single_words_is_the_classifiers_under_a_diagonal_phi() -> None:
    (logits, words), phi = sample(6, 2), torch.rand(V, dtype=torch.float64)
    ours = diagonal_sigmoid(logits[:, :1], words[:, :1], phi)
    assert float(ours) == pytest.approx(float(bilinear_sigmoid(logits[:, 0], words[:, 0], torch.diag(phi))), abs=1e-14)


@pytest.mark.parametrize("name", ["learned", "cross entropy"])
def test_what_is_predicted_where_there_is_padding_has_no_effect(name: str) -> None:
    phi = torch.full((V,), 0.7, dtype=torch.float64)
    loss = WordCrossEntropy() if name == "cross entropy" else diagonal_sigmoid
    logits, words = sample(3, 5)
    moved = logits.clone()
    moved[:, -1] = torch.randn(V, dtype=torch.float64) * 100
    assert torch.equal(loss(moved, words, phi), loss(logits, words, phi))
    gradient = grad(lambda at: loss(at, words, phi))(logits)
    assert bool((gradient[:, -1] == 0).all()) and bool((gradient[:, :-1] != 0).all())


def test_cross_entropy_is_torchs_and_a_loss_of_the_catalogue() -> None:
    logits, words = sample(3, 5)
    theirs = torch.nn.functional.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD, reduction="sum")
    loss = l2t.load_loss("word-cross-entropy")
    assert float(loss(logits, words)) == pytest.approx(float(theirs) / 3, rel=1e-14)
    with pytest.raises(l2t.UserError, match=r"logits \(3, 5, 7\) must be of the shape of the words \(3, 4\), and V"):
        word_log_p(logits, words[:, 1:])


def test_the_loss_has_the_derivatives_that_its_differences_show_by_logits_and_phi() -> None:
    (logits, words), phi = sample(2, 3), torch.rand(V, dtype=torch.float64, requires_grad=True)
    inputs = (logits.requires_grad_(), phi)
    assert torch.autograd.gradcheck(lambda a, b: diagonal_sigmoid(a, words, b), inputs)
    assert torch.autograd.gradgradcheck(lambda a, b: diagonal_sigmoid(a, words, b), inputs)


def test_the_loss_is_mapped_over_students() -> None:
    (logits, words), phi = sample(4, 3, 5), torch.rand(4, V, dtype=torch.float64)
    together = vmap(grad(diagonal_sigmoid), in_dims=(0, 0, 0))(logits, words, phi)
    for at in range(4):
        alone = grad(diagonal_sigmoid)(logits[at], words[at], phi[at])
        torch.testing.assert_close(together[at], alone, rtol=1e-13, atol=1e-15)


# -- the teacher -------------------------------------------------------------------------------------------------------


def test_the_teacher_gives_the_diagonal_alone_and_starts_at_its_gain() -> None:
    teacher = DiagonalTeacher(V, 3, keys=5, gain=0.4)
    features = torch.tensor([0.1, 0.5, 0.2])
    assert {name: tuple(p.shape) for name, p in teacher.named_parameters()} == {"W": (V, 5), "V": (5, 3)}
    torch.testing.assert_close(teacher(features), torch.full((V,), 0.4))
    noisy = DiagonalTeacher(V, 3, noise=0.3)
    torch.testing.assert_close(noisy(features), noisy.W @ torch.softmax(noisy.V @ features, dim=0))
    with pytest.raises(l2t.UserError, match="vocabulary, features and keys must be at least 1, not 0, 3 and 5"):
        DiagonalTeacher(0, 3)


# -- BLEU --------------------------------------------------------------------------------------------------------------


def test_bleu_is_that_of_a_hand_computation() -> None:
    found, reference = "the cat sat on the mat", "the cat sat on a mat"
    by_hand = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4)
    score = corpus_bleu([found], [reference])
    assert score.score == pytest.approx(100 * by_hand, abs=1e-9)
    assert {"tok:none", "smooth:exp"} < set(score.signature.split("|"))
    assert sentence_bleu(found, reference) == pytest.approx(by_hand, abs=1e-11)


def test_a_sentences_bleu_is_of_the_orders_that_it_has() -> None:
    assert sentence_bleu("yes", "yes") == pytest.approx(1) and sentence_bleu("a b", "a b") == pytest.approx(1)
    assert sentence_bleu("", "yes") == 0 and sentence_bleu("no", "yes") == 0


def test_words_are_spelt_up_to_their_end_and_subwords_joined() -> None:
    words = Spelling((*SPECIALS, "a", "b"))
    rows = torch.tensor([[4, 5, END, PAD, PAD], [0, 4, 4, 4, 4], [END, PAD, PAD, PAD, PAD]])
    assert words.sentences(rows) == ["a b", "<unk> a a a a", ""]
    pieces = Spelling((*SPECIALS, "\u2581ge", "hen", "\u2581sie"))
    assert pieces.sentences(torch.tensor([[4, 5, 6, END], [5, 4, END, PAD]])) == ["gehen sie", "hen ge"]
    assert pieces.joins and not words.joins


# -- its expectation ---------------------------------------------------------------------------------------------------


def candidates() -> tuple[Tensor, Candidates]:
    logits, words = sample(3, 4, 5)
    words[0, 2] = words[0, 1]  # found twice
    return logits, Candidates(words, torch.rand(3, 4, dtype=torch.float64), stands_first(words))


@pytest.mark.parametrize("sharpness", [0.005, 1.0, 3.0])
def test_expected_bleu_is_the_mean_under_renormalised_probabilities(sharpness: float) -> None:
    logits, given = candidates()
    total = 0.0
    for sentence in range(3):
        weights, bleu = [], []
        for k in range(4):
            if (sentence, k) == (0, 2):
                continue
            log_p = torch.log_softmax(logits[sentence, k], dim=-1)
            said = sum(
                float(log_p[at, word]) for at, word in enumerate(given.words[sentence, k].tolist()) if word != PAD
            )
            weights.append(torch.exp(torch.tensor(sharpness * said, dtype=torch.float64)))
            bleu.append(given.bleu[sentence, k])
        total += float(sum(w * b for w, b in zip(weights, bleu, strict=True)) / sum(weights)) / 3
    assert float(ExpectedBLEU(sharpness)(logits, given)) == pytest.approx(total, rel=1e-12)


def test_expected_bleu_has_the_derivative_that_its_differences_show() -> None:
    logits, given = candidates()
    assert torch.autograd.gradcheck(lambda at: ExpectedBLEU()(at, given), (logits.requires_grad_(),))
    assert torch.autograd.gradgradcheck(lambda at: ExpectedBLEU()(at, given), (logits,))


def test_a_great_sharpness_leaves_all_weight_to_the_likeliest_candidate_and_the_objective_flat() -> None:
    logits, given = candidates()
    gradient = grad(lambda at: ExpectedBLEU(1e4)(at, given))(logits)
    assert bool((gradient == 0).all())
    assert bool((grad(lambda at: ExpectedBLEU()(at, given))(logits) != 0).any())


def test_a_candidate_that_was_found_twice_counts_once() -> None:
    logits, given = candidates()
    gradient = grad(lambda at: ExpectedBLEU()(at, given))(logits)
    assert bool((gradient[0, 2] == 0).all()) and bool((gradient[0, 1, :-1] != 0).any())
    assert given.first.tolist() == [[True, True, False, True], [True] * 4, [True] * 4]


def test_the_objective_is_in_the_students_precision() -> None:
    logits, given = candidates()
    assert ExpectedBLEU()(logits.float(), given).dtype == torch.float32


def test_another_target_and_a_sharpness_that_is_none_are_errors() -> None:
    with pytest.raises(l2t.UserError, match="needs the candidates that CandidateDev makes"):
        ExpectedBLEU()(torch.zeros(1, 2, V), torch.zeros(1, 2))  # type: ignore[arg-type]
    with pytest.raises(l2t.UserError, match="sharpness must be positive, not 0"):
        ExpectedBLEU(0)


# -- candidates and features -------------------------------------------------------------------------------------------

WORDS = Spelling((*SPECIALS, "a", "b", "c"))
REFERENCES = torch.tensor([[4, 5, END, PAD], [6, END, PAD, PAD]])


def view_of(found: Tensor, index: int = 0, previous: Tensor | None = None) -> StudentView:
    """A view of a student that always says ``found``; two training batches a step, and one dev batch."""
    batch = ((torch.zeros(2, 3, dtype=torch.int64), REFERENCES), REFERENCES)

    def decode(inputs: tuple[Tensor, object]) -> Tensor:
        return found if isinstance(inputs[1], Search) else found[:, 0]

    return StudentView(
        index=index,
        horizon=10,
        predict=lambda inputs: inputs,
        decode=decode,
        train=lambda at: batch,
        dev=[batch],
        previous=previous,
    )


def test_candidates_are_what_the_search_finds_and_the_reference_before_them() -> None:
    found = torch.tensor([[[4, END], [4, 5]], [[5, END], [END, PAD]]])
    (((source, before), made),) = CandidateDev(Search(count=2), lambda: WORDS)(view_of(found), seed=0)
    assert source.shape == (2, 3) and made.words.shape == before.shape == (2, 3, 4)
    assert torch.equal(made.words[:, 0], REFERENCES)
    assert torch.equal(before[:, :, 0], torch.full((2, 3), BEGIN)) and torch.equal(
        before[..., 1:], made.words[..., :-1]
    )
    assert made.bleu[:, 0].tolist() == pytest.approx([1, 1])
    assert made.bleu[0, 1] == pytest.approx(sentence_bleu("a", "a b")) and made.bleu[1].tolist()[1:] == [0, 0]
    assert made.first.all()
    (((_, _), bare),) = CandidateDev(Search(count=2), lambda: WORDS, reference=False)(view_of(found), seed=0)
    assert torch.equal(bare.words, found)


def test_sampled_candidates_hang_on_the_students_seed_and_the_batch() -> None:
    asked: list[Search] = []
    plain = view_of(torch.tensor([[[4, END]], [[5, END]]]))

    def decode(inputs: tuple[Tensor, Search]) -> Tensor:
        asked.append(inputs[1])
        return plain.decode(inputs)

    view = replace(plain, decode=decode, dev=[*plain.dev, *plain.dev])
    for seed in (0, 0, 1):
        CandidateDev(Search("sample", 1), lambda: WORDS)(view, seed)
    seeds = [search.seed for search in asked]
    assert seeds[:2] == seeds[2:4] and len(set(seeds)) == 4


def test_candidates_are_padded_together() -> None:
    assert joined(torch.tensor([[[4, END]]]), torch.tensor([[[5, 6, END]]])).tolist() == [[[4, END, PAD], [5, 6, END]]]


def test_features_are_the_iteration_and_the_bleu_of_greedy_translations() -> None:
    right, wrong = REFERENCES[:, None], torch.tensor([[[6, END]], [[5, END]]])
    features = TranslationFeatures(lambda: WORDS, every=5)
    perfect = corpus_bleu(["a b", "c"], ["a b", "c"]).score / 100
    torch.testing.assert_close(features(view_of(right, 5)), torch.tensor([0.5, perfect, perfect], dtype=torch.float64))
    assert features(view_of(wrong)).tolist() == [0, 0, 0]


def test_features_are_held_until_the_step_at_which_they_say_they_look() -> None:
    features, before = TranslationFeatures(lambda: WORDS, every=5), torch.ones(3)
    held = [features(view_of(REFERENCES[:, None], index, before)) is before for index in range(11)]
    assert held == [index % 5 != 0 for index in range(11)]
    assert [features.held_until(index) for index in (0, 4, 5, 9)] == [5, 5, 10, 10]
    with pytest.raises(l2t.UserError, match="every and train_batches must be at least 1"):
        TranslationFeatures(lambda: WORDS, every=0)
