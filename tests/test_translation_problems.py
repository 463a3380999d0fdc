"""The named translation problems: proved by the ladder, learned by their students, refused where they cannot be."""

import os
from pathlib import Path

import pytest
import torch

import l2t_bench as l2t
from l2t_bench.data.checksums import data_record
from l2t_bench.data.root import VARIABLE
from l2t_bench.data.specials import BEGIN
from l2t_bench.expected_bleu import CandidateDev, Candidates
from l2t_bench.lessons import teach, with_fixed_loss
from l2t_bench.modules import same_tensors
from l2t_bench.registry import problem_class
from l2t_bench.students.search import Search
from l2t_bench.translating import translate
from l2t_bench.verification.ladder import section

TEXT = (
    "train=60,dev=5,test=6,largest=99,pieces=30,source_vocabulary=34,target_vocabulary=34,batch=3,lr=0.3,noise=0.3,"
    "keys=2,count=3,dev_sentences=5,refresh=3,train_batches=1,dev_chunk=3"
)
SMALL = {
    "lstm1": f"numbers/lstm1[embedding=3,hidden=4,{TEXT}]",
    "lstm2": f"numbers/lstm2[embedding=3,hidden=3,{TEXT}]",
    "transformer": f"numbers/transformer[width=4,heads=2,inner=5,layers=2,nonlinearity=gelu,{TEXT}]",
}
EACH = pytest.mark.parametrize("spec", SMALL.values(), ids=SMALL)


# -- proofs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@EACH
def test_the_ladder_is_climbed(spec: str) -> None:
    """Every entry of d_theta is its central difference, candidates and s_t frozen; all exact backends agree."""
    found = section(l2t.load_backend("rmd"), l2t.build_problem(spec, dtype="float64"), horizons=(6, 12))
    assert not found.failed and not found.refused
    passed = {check.name for check in found.checks if check.outcome == "pass"}
    assert {"central differences, every entry", "forward-mode probe"} < passed
    assert {f"agreement with {name}" for name in ("higher", "torchopt", "functorch")} < passed


@pytest.mark.parametrize("backend", ["higher", "torchopt", "functorch", "rmd[store=sqrt]"])
@EACH
def test_every_exact_backend_finds_the_same_gradient(spec: str, backend: str) -> None:
    problem = l2t.build_problem(spec, dtype="float64")
    theta = problem.init_teacher(0)
    ours = l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=4)
    theirs = l2t.load_backend(backend).teacher_gradient(problem, theta, steps=ours.steps)
    for name, tensor in ours.d_theta.items():
        assert float(tensor.norm()) > 0
        assert float((tensor - theirs.d_theta[name]).norm() / tensor.norm()) < 1e-10
    assert ours.value == pytest.approx(theirs.value, rel=1e-12)


def test_students_of_a_meta_batch_have_the_gradients_that_they_have_alone() -> None:
    """Batches of one shape: ``multiple`` pads them."""
    problem = l2t.build_problem(SMALL["lstm1"].replace("batch=3", "batch=3,multiple=16"), dtype="float64")
    theta = problem.init_teacher(0)
    alone = [l2t.load_backend("rmd").teacher_gradient(problem, theta, horizon=3, seed=seed) for seed in (0, 1)]
    method = l2t.load_backend("rmd[students=2]")
    together = method.teacher_gradients(problem, theta, horizon=3, seeds=[0, 1])  # type: ignore[attr-defined]
    for ours, theirs in zip(alone, together, strict=True):
        assert not theirs.warnings
        for name in ours.d_theta:
            torch.testing.assert_close(ours.d_theta[name], theirs.d_theta[name], rtol=1e-11, atol=1e-14)


# -- what they are -----------------------------------------------------------------------------------------------------


@EACH
def test_the_dev_batches_at_the_end_are_candidates_of_the_student_that_is_there(spec: str) -> None:
    problem = l2t.build_problem(spec)
    state = problem.init_student(0)
    batches = problem.final_dev_batches(state, 4, seed=0)
    assert [len(target.words) for _, target in batches] == [3, 2]
    for (_, before), target in batches:
        assert isinstance(target, Candidates) and target.words.shape[1] == 4  # the reference and three
        assert torch.equal(before[:, :, 0], torch.full_like(before[:, :, 0], BEGIN))
        assert bool((target.bleu[:, 0] == target.bleu.amax(1)).all())
    assert same_tensors([tuple(batch) for batch in batches], [tuple(b) for b in problem.final_dev_batches(state, 4, 0)])


def test_features_are_three_and_without_them_there_is_the_iteration_alone() -> None:
    problem = l2t.build_problem(SMALL["lstm1"])
    steps = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=4).steps
    assert [step.features.tolist()[0] for step in steps] == [0, 0, 0, 0.75]
    assert all(step.features.shape == (3,) for step in steps)
    bare = l2t.build_problem(SMALL["lstm1"].replace("refresh=3", "features=none"))
    assert bare.features is None and bare.init_teacher(0)["V"].shape == (2, 1)


def test_options_give_the_parts_their_sizes_and_search() -> None:
    problem = l2t.build_problem(SMALL["lstm2"].replace("count=3", "count=4,candidates=beam,reference=false,clip=1.5"))
    assert problem.init_teacher(0)["W"].shape == (34, 2)
    assert problem.init_student(0).params["output.weight"].shape == (34, 3)
    assert problem.optimizer == l2t.SGD(lr=0.3, clip=1.5)
    assert isinstance(problem.prepare_dev, CandidateDev)
    assert (problem.prepare_dev.search, problem.prepare_dev.reference) == (Search("beam", 4), False)
    inputs, targets = problem.train(0, 0)
    assert len(targets) == len(inputs[0]) == 3
    assert sum(len(targets) for _, targets in problem.test_batches) == 6


def test_the_defaults_are_the_papers() -> None:
    lstm = problem_class("iwslt14/lstm1")()
    assert (lstm.batch, lstm.lr, lstm.momentum, lstm.keys) == (32, 0.1, 0.0, 5)
    assert (lstm.embedding, lstm.hidden, lstm.source_vocabulary) == (256, 256, 25_004)
    assert [problem_class(f"iwslt14/lstm{depth}").depth for depth in (1, 2)] == [1, 2]
    transformer = problem_class("iwslt14/transformer")()
    assert (transformer.layers, transformer.width, transformer.heads, transformer.inner) == (6, 256, 4, 1024)


@pytest.mark.slow
def test_a_student_learns_to_say_numbers_that_it_has_never_seen() -> None:
    problem = l2t.build_problem("numbers/lstm1[embedding=48,hidden=48,train=4000,test=200,optimizer=adam,lr=0.005]")
    taught = with_fixed_loss(problem, l2t.load_loss("word-cross-entropy"))
    before, after = taught.init_student(0), teach(taught, {}, horizon=250, seed=0)
    assert translate(problem, before).bleu().score < 5
    assert translate(problem, after).bleu().score > 60
    assert translate(problem, after, search=Search(count=5)).bleu().score > 60


# -- one's own text, and IWSLT-14 --------------------------------------------------------------------------------------


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Forty pairs in two files, one of them empty and one too long."""
    lines = [f"das ist satz {number}" for number in range(40)]
    lines[3], lines[5] = "", "wort " * 200
    for end in ("de", "en"):
        (tmp_path / f"mine.{end}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return tmp_path / "mine"


def test_two_files_make_a_problem_and_results_say_what_was_left_out(corpus: Path) -> None:
    spec = f"parallel-text/lstm1[path={corpus},train=20,dev=8,batch=4,embedding=4,hidden=4,source_vocabulary=60,\
target_vocabulary=60,subwords=40,refresh=2]"
    problem = l2t.build_problem(spec)
    assert [sum(len(targets) for _, targets in part) for part in (problem.dev_batches, problem.test_batches)] == [8, 10]
    found = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=2)
    assert found.d_theta["W"].shape == (60, 5)
    record = data_record(spec)
    assert record["data set"] == "parallel text of mine; 38 pairs, dropped: 1 empty and 1 too long"
    assert set(record) == {"data set", "mine.de", "mine.en"}


def test_a_path_that_is_not_there_is_looked_for_in_the_data_root(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a result names no folder of the machine where it was found."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv(VARIABLE, str(corpus.parent))
    spec = "parallel-text/lstm1[path=mine,train=20,dev=8,embedding=4,hidden=4]"
    assert sum(len(targets) for _, targets in l2t.build_problem(spec).dev_batches) == 8
    assert set(data_record(spec)) == {"data set", "mine.de", "mine.en"}
    (elsewhere / "mine.de").write_text("nur eine zeile\n")
    with pytest.raises(l2t.UserError, match=r"^mine\.en cannot be read"):
        l2t.build_problem(spec).dev_batches  # noqa: B018


def test_numbers_are_recorded_by_what_makes_them() -> None:
    assert data_record(SMALL["lstm1"])["data set"].startswith("numbers in words (num2words ")


def test_the_tokenised_sample_of_iwslt_is_taught() -> None:
    folder = Path(os.environ.get(VARIABLE, "nowhere")) / "iwslt14"
    if not (folder / "train.de").is_file():
        pytest.skip(f"needs the tokenised sample: set {VARIABLE} to a data root that has iwslt14/train.de")
    sizes = (
        "embedding=8,hidden=8,source_vocabulary=500,target_vocabulary=400,dev=4,test=50,count=2,dev_sentences=4,batch=8"
    )
    problem = l2t.build_problem(f"parallel-text/lstm1[path={folder},{sizes}]")
    found = l2t.load_backend("rmd").teacher_gradient(problem, problem.init_teacher(0), horizon=2)
    assert 0 < found.value < 1 and float(found.d_theta["W"].norm()) > 0
    assert sum(len(targets) for _, targets in problem.test_batches) == 50


def test_iwslt14_is_read_as_it_was_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    spec = "iwslt14/lstm1[embedding=4,hidden=4,source_vocabulary=30,target_vocabulary=30,batch=4,dev=5,recipe=153k]"
    problem = l2t.build_problem(spec)
    with pytest.raises(l2t.UserError, match=r"iwslt14-mixer/bpe/train\.de is missing below .*prepare iwslt14-mixer"):
        problem.train(0, 0)
    folder = tmp_path / "iwslt14-mixer" / "bpe"
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("valid", 7), ("test", 6)):
        for code in ("de", "en"):
            (folder / f"{part}.{code}").write_text("".join(f"\u2581{part} wort {n}\n" for n in range(count)))
    problem = l2t.build_problem(spec)
    assert len(problem.train(0, 0).targets) == 4  # type: ignore[attr-defined]
    assert [sum(len(targets) for _, targets in part) for part in (problem.dev_batches, problem.test_batches)] == [5, 6]
    assert data_record(spec)["data set"].endswith("12 pairs")


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("numbers/lstm1[hidden=0]", "hidden must be at least 1, not 0"),
        ("numbers/transformer[width=6,heads=4]", "width must be a multiple of heads, not 6 of 4"),
        ("numbers/transformer[dropout=1]", "dropout must be from 0 to below 1, not 1"),
        ("numbers/lstm1[dev_chunk=0]", "dev_chunk must be at least 1, not 0"),
        ("numbers/lstm1[batch=0]", "the batch size must be at least 1, not 0"),
        ("numbers/lstm1[source_vocabulary=4]", "they cannot have 4 and 40"),
        ("numbers/lstm1[multiple=0]", "multiples of 1 and more, not of 0"),
        ("numbers/lstm1[count=0]", "a search needs count and more of at least 1"),
        ("numbers/lstm1[refresh=0]", "every and train_batches must be at least 1"),
        ("numbers/lstm1[sharpness=0]", "sharpness must be positive"),
    ],
)
def test_options_that_make_no_problem_are_errors(spec: str, answer: str) -> None:
    with pytest.raises(l2t.UserError, match=answer):
        l2t.build_problem(spec)


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("numbers/lstm1[largest=50,train=100]", "train=100 and dev=200 are more than the 51 examples there are"),
        ("parallel-text/lstm1[train=5]", "parallel-text needs path="),
        ("parallel-text/lstm1[path=/nowhere/text,train=5]", r"/nowhere/text\.de cannot be read: No such file"),
    ],
)
def test_text_that_is_not_there_is_an_error_when_it_is_read(spec: str, answer: str) -> None:
    problem = l2t.build_problem(spec.replace("[", "[hidden=2,embedding=2,"))
    with pytest.raises(l2t.UserError, match=answer):
        problem.train(0, 0)
