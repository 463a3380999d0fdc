"""What a gradient cell keeps of its teacher gradients: all that was computed, as figures and as tensors."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import l2t_bench as l2t
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.gradient_cell import measure
from l2t_bench.engine.hyper_gradients import hyper_figures, hyper_tensors
from l2t_bench.engine.recorder import Recorder
from l2t_bench.gradient import TeacherGradient
from l2t_bench.measure import Meter
from l2t_bench.steppers import catalogue, compiling
from l2t_bench.tensors import global_norm
from l2t_bench.verification.samples import general_theta

PROBLEM = "digits/mlp[hidden=4,keys=1,dev=50,momentum=0.9]"
HORIZON = 4


def gradient(method: str) -> TeacherGradient:
    """What the cell's gradient must be."""
    problem = l2t.build_problem(PROBLEM)
    return l2t.load_backend(method).teacher_gradient(problem, general_theta(problem, 0), horizon=HORIZON)


@pytest.fixture(scope="module")
def with_hyper() -> TeacherGradient:
    return gradient("rmd[hyper=true]")


def cell_of(method: str) -> Cell:
    return Cell(
        suite="own",
        suite_version=1,
        profile="own",
        kind="gradient",
        problem=PROBLEM,
        method=method,
        seed=0,
        task="l2t_bench.engine.gradient_cell:measure",
        settings={"horizons": [HORIZON], "repeats": [1]},
    )


def measured(folder: Path, method: str) -> dict[str, Any]:
    """The one run of a gradient cell, as it would stand in cell.json."""
    (run,) = measure(cell_of(method), Recorder(folder))["runs"]
    return dict(run)


def assert_kept(file: Path, expected: dict[str, torch.Tensor]) -> None:
    kept = load_file(file)
    assert set(kept) == set(expected)
    for key, tensor in expected.items():
        torch.testing.assert_close(kept[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(("method", "words"), [("rmd", "usable: "), ("one-step", "no adjoint is walked back: ")])
def test_a_cell_says_in_words_whether_its_gradient_is_usable(tmp_path: Path, method: str, words: str) -> None:
    assert measured(tmp_path, method)["adjoint_said"].startswith(words)


def test_hyper_gradients_and_d_omega0_are_kept_as_tensors_and_as_figures(
    tmp_path: Path, with_hyper: TeacherGradient
) -> None:
    run = measured(tmp_path, "rmd[hyper=true]")
    hyper, first = with_hyper.hyper, with_hyper.d_omega0
    assert first is not None and set(hyper) == {"lr", "momentum", "weight_decay"} and hyper["lr"].shape == (HORIZON,)
    assert_kept(tmp_path / "artifacts" / run["gradient_file"], with_hyper.d_theta)
    assert_kept(
        tmp_path / "artifacts" / run["hyper_gradient_file"],
        {f"hyper.{name}": tensor for name, tensor in hyper.items()}
        | {f"d_omega0.{name}": tensor for name, tensor in first.items()},
    )
    assert run["hyper_gradients"] == {
        "d_lr_norm": pytest.approx(math.hypot(*hyper["lr"].tolist())),
        "d_lr_sum": pytest.approx(sum(hyper["lr"].tolist())),
        "d_momentum": pytest.approx(float(hyper["momentum"])),
        "d_weight_decay": pytest.approx(float(hyper["weight_decay"])),
        "d_omega0_norm": pytest.approx(global_norm(first)),
    }
    assert all(run["hyper_gradients"].values()), "none is zero by symmetry"


def test_a_method_that_finds_neither_keeps_neither(tmp_path: Path) -> None:
    run = measured(tmp_path, "one-step")
    assert run["hyper_gradients"] == {} and "hyper_gradient_file" not in run
    assert [file.name for file in (tmp_path / "artifacts").iterdir()] == [run["gradient_file"]]


def test_a_large_d_omega0_is_kept_as_its_norm_alone(with_hyper: TeacherGradient) -> None:
    first = with_hyper.d_omega0
    assert first is not None
    entries = sum(tensor.numel() for tensor in first.values())
    small = set(hyper_tensors(with_hyper, largest=entries - 1))
    assert small == {"hyper.lr", "hyper.momentum", "hyper.weight_decay"}
    assert set(hyper_tensors(with_hyper, largest=entries)) == small | {f"d_omega0.{name}" for name in first}
    assert hyper_figures(with_hyper)["d_omega0_norm"] == pytest.approx(global_norm(first))


def test_a_figure_that_is_not_finite_is_none_in_the_file(with_hyper: TeacherGradient) -> None:
    broken = replace(with_hyper, hyper={"lr": torch.tensor([1.0, math.inf]), "momentum": torch.tensor(2.0)})
    figures = hyper_figures(broken)
    assert figures["d_lr_norm"] is None and figures["d_lr_sum"] is None and figures["d_momentum"] == 2.0


@pytest.mark.parametrize("method", ["rmd[engine=compiled]", "rmd[engine=auto]"])
def test_what_compiling_takes_is_counted_whoever_comes_to_it_first(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look for room compiles before the warm-up does, and the first long run holds its steps to plain ones."""
    taken: list[float] = []
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    monkeypatch.setattr(catalogue, "PAYS_FROM", 1)
    plain = Meter.phase

    @contextmanager
    def phase(self: Meter, name: str) -> Iterator[None]:
        before = self.seconds.get("compile", 0.0)
        with plain(self, name):
            yield
        taken.append(self.seconds.get("compile", 0.0) - before if name == "compile" else 0.0)

    monkeypatch.setattr(Meter, "phase", phase)
    recorder = Recorder(tmp_path)
    found = measure(cell_of(method), recorder)
    assert found["seconds_compile"] == pytest.approx(sum(taken)) and sum(taken) > 0
    assert recorder.phases["compile"]["seconds"] == found["seconds_compile"]


def test_a_cell_keeps_what_took_the_steps_and_why(tmp_path: Path) -> None:
    for method, said in (
        ("rmd", "plain torch"),
        ("rmd[engine=auto]", "plain torch: 4 steps in all, compiled steps pay from 5,000"),
    ):
        assert measured(tmp_path, method)["engine"] == said
    assert "engine" not in measured(tmp_path, "one-step")
