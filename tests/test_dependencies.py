"""Each library that the project depends on does here what it is good at; every test fails without its library."""

import gzip
import itertools
import json
import os
import statistics
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import l2t_bench as l2t
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.planning import Plan
from l2t_bench.engine.runner import run
from l2t_bench.engine.study import Study
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.reports.benchmark_record import read_record
from l2t_bench.verification.samples import general_theta, random_problem


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[str]:
    """Wrap a library's function so that each of its calls adds to the list that is returned."""
    real, calls = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)
    return calls


def relative_distance(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    ours, theirs = (torch.cat([tensors[name].flatten() for name in sorted(left)]) for tensors in (left, right))
    return float((ours - theirs).norm() / theirs.norm())


# -- torch: second derivatives -----------------------------------------------------------------------------------------


# torch makes its own forward-mode rules by its own deprecated function, when they are first needed
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")
def test_torch_differentiates_the_loss_twice_in_both_mixed_orders() -> None:
    generator = torch.Generator().manual_seed(3)
    logits, direction = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    phi = torch.eye(4, dtype=torch.float64)
    target = torch.randint(4, (5,), generator=generator)

    def gradient(at: Tensor) -> Tensor:
        found: Tensor = torch.func.grad(bilinear_sigmoid)(at, target, phi)
        return found

    _, forward_over_reverse = torch.func.jvp(gradient, (logits,), (direction,))
    _, pull_back = torch.func.vjp(gradient, logits)
    (reverse_over_reverse,) = pull_back(direction)
    size = 1e-5
    differences = (gradient(logits + size * direction) - gradient(logits - size * direction)) / (2 * size)
    assert differences.norm() > 1e-3, "the sample must curve"
    torch.testing.assert_close(forward_over_reverse, reverse_over_reverse, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(reverse_over_reverse, differences, rtol=1e-7, atol=1e-9)


# -- higher and torchopt: unrolled optimisers --------------------------------------------------------------------------


def test_the_backend_higher_unrolls_the_run_through_highers_differentiable_sgd(monkeypatch: pytest.MonkeyPatch) -> None:
    import higher

    steps = count_calls(monkeypatch, higher.optim.DifferentiableSGD, "_update")
    problem = random_problem()
    theta = general_theta(problem)
    found = l2t.load_backend("higher").teacher_gradient(problem, theta, horizon=7)
    assert len(steps) == 7
    by_hand = l2t.load_backend("rmd").teacher_gradient(problem, theta, steps=found.steps)
    assert relative_distance(found.d_theta, by_hand.d_theta) < 1e-12


@pytest.mark.parametrize(("api", "maker"), [("functional", "sgd"), ("meta", "MetaSGD")])
def test_the_backend_torchopt_unrolls_the_run_through_torchopts_optimiser(
    api: str, maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchopt

    made = count_calls(monkeypatch, torchopt, maker)
    problem = random_problem()
    theta = general_theta(problem)
    found = l2t.load_backend(f"torchopt[api={api}]").teacher_gradient(problem, theta, horizon=7)
    assert len(made) == 1
    by_hand = l2t.load_backend("rmd").teacher_gradient(problem, theta, steps=found.steps)
    assert relative_distance(found.d_theta, by_hand.d_theta) < 1e-12


def test_the_implicit_backend_solves_with_torchopts_conjugate_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchopt

    solves = count_calls(monkeypatch, torchopt.linear_solve, "solve_cg")
    problem = random_problem()
    found = l2t.load_backend("torchopt-implicit").teacher_gradient(problem, general_theta(problem), horizon=7)
    assert len(solves) == 1
    assert all(bool(tensor.isfinite().all()) for tensor in found.d_theta.values())


@pytest.mark.parametrize(
    ("backend", "library"), [("higher", "higher"), ("torchopt", "torchopt"), ("torchopt-implicit", "torchopt")]
)
def test_a_backend_whose_library_is_missing_says_what_to_install(
    backend: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("l2t_bench.backends.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]  # Python's mark of "cannot be imported"
    with pytest.raises(l2t.UserError, match=f"needs {library}, which is not installed: pip install {library}"):
        l2t.load_backend(backend)


# -- torchvision: the original MNIST files -----------------------------------------------------------------------------


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of the original files: two zero bytes, the type (8: unsigned byte), the rank, the sizes, the bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb") as file:
        file.write(header + array.astype(np.uint8).tobytes())


def test_torchvision_reads_the_original_mnist_files_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    monkeypatch.setenv("L2T_BENCH_DATA", str(tmp_path))
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    generator = np.random.default_rng(0)
    images = {part: generator.integers(0, 256, (count, 28, 28)) for part, count in (("train", 30), ("t10k", 12))}
    labels = {part: np.arange(len(held)) % 10 for part, held in images.items()}  # dev has every class
    for part, held in images.items():
        write_idx(raw / f"{part}-images-idx3-ubyte.gz", held)
        write_idx(raw / f"{part}-labels-idx1-ubyte.gz", labels[part])
    before = sorted(path.name for path in raw.iterdir())
    reads = count_calls(monkeypatch, torchvision.datasets, "MNIST")

    problem = l2t.build_problem("mnist/mlp[batch=4,train=20,dev=10,hidden=5,features=none]")
    train, dev, test = problem.train.examples, problem.dev_batches, problem.test_batches  # type: ignore[attr-defined]

    assert len(reads) == 2
    pool = {
        image.tobytes(): label for image, label in zip(images["train"].astype(np.uint8), labels["train"], strict=True)
    }
    drawn = itertools.chain(zip(*train, strict=True), *(zip(*batch, strict=True) for batch in dev))
    seen = [(np.rint(image.numpy() * 255).astype(np.uint8).tobytes(), int(label)) for image, label in drawn]
    assert dict(seen) == pool and len(seen) == len(pool) == 30
    ((test_inputs, test_targets),) = test
    torch.testing.assert_close(test_inputs[:, 0] * 255, torch.from_numpy(images["t10k"]).float())
    assert test_targets.tolist() == labels["t10k"].tolist()
    assert sorted(path.name for path in raw.iterdir()) == before, "only `prepare` writes to the data root"


# -- torchtext: parallel text ------------------------------------------------------------------------------------------

GERMAN = ("ein hund", "eine katze schläft", "der hund sieht die katze", "ja", "die katze sieht den hund nicht", "nein")
ENGLISH = ("a dog", "a cat is asleep", "the dog sees the cat", "yes", "the cat does not see the dog", "no")


def test_torchtext_takes_parallel_text_to_padded_batches_and_back(tmp_path: Path) -> None:
    from torchtext.data import BucketIterator, Field
    from torchtext.datasets import TranslationDataset

    (tmp_path / "text.de").write_text("\n".join(GERMAN) + "\n", encoding="utf-8")
    (tmp_path / "text.en").write_text("\n".join(ENGLISH) + "\n", encoding="utf-8")
    source, target = Field(include_lengths=True), Field(init_token="<s>", eos_token="</s>")
    pairs = TranslationDataset(str(tmp_path / "text"), (".de", ".en"), (source, target))
    source.build_vocab(pairs)
    target.build_vocab(pairs, min_freq=1)
    assert len(source.vocab) == len({word for line in GERMAN for word in line.split()}) + 2  # and <unk>, <pad>

    rebuilt = []
    for batch in BucketIterator(pairs, batch_size=2, sort_within_batch=True, sort_key=lambda pair: len(pair.src)):
        german, lengths = batch.src
        assert german.shape == (int(lengths.max()), 2)  # padded to the longest of the batch, and no further
        for column in range(german.shape[1]):
            words = [source.vocab.itos[index] for index in german[: lengths[column], column].tolist()]
            english = [target.vocab.itos[index] for index in batch.trg[:, column].tolist()]
            assert english[0] == "<s>"
            rebuilt.append((" ".join(words), " ".join(english[1 : english.index("</s>")])))
    assert sorted(rebuilt) == sorted(zip(GERMAN, ENGLISH, strict=True))


# -- sacrebleu: a score that can be quoted -----------------------------------------------------------------------------


def test_sacrebleu_gives_the_score_of_a_hand_computation_and_the_signature_that_makes_it_comparable() -> None:
    from sacrebleu.metrics import BLEU

    metric = BLEU()
    score = metric.corpus_score(["the cat sat on the mat"], [["the cat sat on a mat"]])
    # 5 of 6 words match, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; equal lengths, so no brevity penalty
    assert score.score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4), abs=1e-9)
    signature = str(metric.get_signature()).split("|")
    assert {"nrefs:1", "case:mixed", "eff:no", "tok:13a", "smooth:exp"} < set(signature)


# -- pandas: results as tidy tables ------------------------------------------------------------------------------------


def test_pandas_reads_a_runs_results_as_one_tidy_table(tmp_path: Path) -> None:
    import pandas as pd

    from l2t_bench.reports.load import gradients, load_run

    cells = tuple(
        Cell(
            suite="quick",
            suite_version=1,
            profile="smoke",
            kind="gradient",
            problem="digits/mlp[hidden=4,keys=1]",
            method=method,
            seed=0,
            task="l2t_bench.engine.gradient_cell:measure",
            settings={"horizons": [2, 4], "repeats": [3, 3]},
        )
        for method in ("rmd", "truncated[window=2]")
    )
    statuses = run(Plan(Study(("quick",), timeout=60), cells), tmp_path / "run", lambda event: None)
    assert statuses == {"ok": 2}

    table = gradients(load_run(tmp_path / "run"))
    assert isinstance(table, pd.DataFrame)
    assert table.groupby("method")["horizon"].agg(list).to_dict() == {"rmd": [2, 4], "truncated[window=2]": [2, 4]}
    wide = table.pivot_table(index="horizon", columns="method", values="seconds")
    written = json.loads((tmp_path / "run" / "cells" / "quick" / cells[0].cell_id / "cell.json").read_text())
    medians = [statistics.median(measured["seconds"]) for measured in written["measurements"]["runs"]]
    assert wide["rmd"].to_list() == pytest.approx(medians)


# -- pytest-benchmark: the micro-benchmarks ----------------------------------------------------------------------------


@pytest.mark.slow
def test_pytest_benchmark_times_the_phases_of_an_outer_step(
    request: pytest.FixtureRequest, repository: Path, tmp_path: Path
) -> None:
    assert request.config.pluginmanager.hasplugin("benchmark")
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "pytest", "tests/benchmarks", "-o", "addopts=--import-mode=importlib"]
    chosen = ["--benchmark-only", "-k", "digits and -20- and rmd and not compiled"]
    options = [*chosen, f"--benchmark-json={record}", "-q", "-p", "no:cacheprovider"]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    done = subprocess.run([*command, *options], cwd=repository, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    taken_in = read_record(record)
    assert len(taken_in.timings) == 3 and not taken_in.warnings and not taken_in.damaged
    timed = {entry["param"]: entry["stats"] for entry in json.loads(record.read_text())["benchmarks"]}
    phases = ("rollout", "reverse", "outer step")
    assert set(timed) == {f"digits/mlp[batch=20,features=none]-20-{phase}-rmd" for phase in phases}
    for stats in timed.values():
        assert 0 < stats["min"] <= stats["median"] and stats["rounds"] == 5
