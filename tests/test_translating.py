"""Translations of a whole part: in its order, whatever goes together, and their BLEU with its signature."""

import dataclasses

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.students.search import Search
from l2t_bench.translating import Translated, detokenised, spelling_of, translate
from l2t_bench.verification.samples import random_problem

SPEC = "numbers/lstm1[embedding=12,hidden=12,train=80,dev=7,test=30,largest=9999,pieces=40,dev_chunk=8]"


@pytest.mark.parametrize("search", [None, Search(count=3)], ids=["greedy", "beam"])
def test_sentences_come_in_the_order_of_the_part_and_as_alone(search: Search | None) -> None:
    problem = l2t.build_problem(SPEC, dtype="float64")
    state = problem.init_student(1)
    ours, alone = (translate(problem, state, "test", search, batch) for batch in (11, 1))
    assert ours == alone and len(ours.found) == 30
    spelling = spelling_of(problem)
    truth = [sentence for _, targets in problem.test_batches for sentence in spelling.sentences(targets)]
    assert ours.references == truth and len(set(truth)) == 30
    first = problem.decode(state, (problem.test_batches[0][0][0][:1], search or Search()))[:, 0]
    assert spelling.sentences(first)[0] == ours.found[0]
    assert len(translate(problem, state, "dev").found) == 7


def test_bleu_tells_how_it_was_taken() -> None:
    perfect = Translated(["it &apos;s so , he says .", "well then"], ["it &apos;s so , he says .", "well then"])
    for score, tokens in ((perfect.bleu(), "tok:none"), (perfect.detokenised_bleu(), "tok:13a")):
        assert score.score == pytest.approx(100) and tokens in score.signature.split("|")
    assert perfect._replace(found=["it &apos;s so", "well then"]).bleu().score < 80


def test_tokens_become_text_again() -> None:
    assert detokenised(["it &apos;s so , he says : &quot; no &quot; ."], "en") == ['it\'s so, he says: "no".']


def test_a_problem_that_does_not_translate_is_an_error() -> None:
    problem = dataclasses.replace(random_problem(), test=[(torch.zeros(1, 6), torch.zeros(1))])
    with pytest.raises(l2t.UserError, match="random is no translation problem"):
        translate(problem, problem.init_student(0))
