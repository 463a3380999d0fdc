"""Problems on random words: replayable, of the sizes that were asked for, and provable without a data set."""

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.modules import same_tensors
from l2t_bench.verification.ladder import verify

SMALL = {
    "random/recurrent": "random/recurrent[kind={},hidden=5,vocabulary=11,length=4,classes=3,keys=2,batch=6,dev=9]",
    "random/transformer": "random/transformer[width=4,heads=2,feedforward=6,vocabulary=11,length=4,classes=3,keys=2,"
    "batch=6,dev=9]",
}
SPECS = [SMALL["random/recurrent"].format(kind) for kind in ("lstm", "gru")] + [SMALL["random/transformer"]]


@pytest.mark.parametrize("spec", SPECS)
def test_the_ladder_is_climbed_on_random_words(spec: str) -> None:
    problem = l2t.build_problem(spec, dtype="float64")
    (section,) = verify(l2t.load_backend("rmd"), problem)
    assert not section.failed
    assert "pass" in {check.outcome for check in section.checks}


@pytest.mark.parametrize("spec", ["random/recurrent", "random/transformer"])
def test_batches_and_first_parameters_are_functions_of_the_seed(spec: str) -> None:
    problem = l2t.build_problem(spec)
    assert same_tensors(problem.train(3, 1), problem.train(3, 1))
    assert not same_tensors(problem.train(3, 1), problem.train(3, 2))
    assert same_tensors(problem.init_student(1).params, problem.init_student(1).params)
    assert not same_tensors(problem.init_student(1).params, problem.init_student(2).params)


def test_options_give_the_sizes() -> None:
    problem = l2t.build_problem("random/transformer[width=8,heads=2,vocabulary=50,length=7,batch=3,dev=600]")
    inputs, targets = problem.train(0, 0)
    assert (inputs.shape, targets.shape) == ((3, 7), (3,)) and int(inputs.max()) < 50
    assert [len(words) for words, _ in problem.dev_batches] == [250, 250, 100]
    assert problem.init_student(0).params["embedding.weight"].shape == (50, 8)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("random/recurrent[length=0]", "length must be at least 1, not 0"),
        ("random/recurrent[kind=rnn]", "kind"),
        ("random/transformer[width=6,heads=4]", "width must be a multiple of heads, not 6 of 4"),
        ("random/transformer[heads=0]", "heads must be at least 1, not 0"),
        ("random/transformer[dropout=1.5]", r"dropout must be from 0 to below 1, not 1\.5"),
    ],
)
def test_sizes_that_make_no_student_are_errors(spec: str, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.build_problem(spec)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_student_has_the_precision_that_was_asked_for(dtype: str) -> None:
    state = l2t.build_problem("random/recurrent", dtype=dtype).init_student(0)
    assert {param.dtype for param in state.params.values()} == {getattr(torch, dtype)}
