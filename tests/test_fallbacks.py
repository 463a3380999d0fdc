"""Steps that were to be compiled and were not: who is told, where, and how often. Their numbers are plain ones."""

import dataclasses
import inspect
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import here
from torch import Tensor
from torch._inductor import config as inductor
from torch._inductor.exc import TritonMissing

import l2t_bench as l2t
from l2t_bench import doctor
from l2t_bench.choice import from_toml
from l2t_bench.problem import TeachingProblem
from l2t_bench.steppers import compiling
from l2t_bench.verification.ladder import verify
from l2t_bench.verification.samples import general_theta, random_problem
from l2t_bench.verification.subject import Outcome

REASON = "its steps cannot be compiled: RuntimeError: no compiler here; the run was taken in plain torch"
WARNING = f"engine=compiled: {REASON}"
COMPILED = "rmd[engine=compiled]"


@pytest.fixture
def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(traced: Any, random: bool) -> Any:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiling, "_compiled", failing)


def gradient(problem: TeachingProblem, method: str, horizon: int = 4, seed: int = 0) -> l2t.TeacherGradient:
    return l2t.load_backend(method).teacher_gradient(problem, general_theta(problem), horizon=horizon, seed=seed)


# -- in Python


@pytest.mark.usefixtures("without_a_compiler")
@pytest.mark.parametrize(
    "method", [COMPILED, "truncated[engine=compiled,window=2]", "truncated[engine=compiled,every=2]"]
)
def test_a_fallback_is_one_warning_of_a_problem_and_comes_with_every_result(method: str) -> None:
    problem = random_problem()
    with pytest.warns(l2t.FellBack) as told:
        results = [gradient(problem, method, horizon, seed) for horizon, seed in ((4, 0), (6, 1))]
    assert [str(each.message) for each in told] == [WARNING]
    assert [result.warnings for result in results] == [(WARNING,)] * 2
    with pytest.warns(l2t.FellBack):
        gradient(random_problem(), method)  # another problem


@pytest.mark.usefixtures("without_a_compiler")
def test_the_warning_points_at_who_asked() -> None:
    with pytest.warns(l2t.FellBack) as told:
        l2t.load_backend(COMPILED).teacher_gradient(problem := random_problem(), general_theta(problem), horizon=4)
    assert told[0].filename == __file__


@pytest.mark.usefixtures("without_a_compiler")
def test_a_warning_that_is_made_an_error_reaches_who_asked_also_of_students_at_once() -> None:
    """A step of students at once that fails is a reason to take them one by one: a warning is none."""
    problem = random_problem()
    with warnings.catch_warnings():
        warnings.simplefilter("error", l2t.FellBack)
        for method in (COMPILED, "rmd[engine=compiled,students=2]"):
            with pytest.raises(l2t.FellBack, match="no compiler here"):
                l2t.teacher_gradients(
                    l2t.load_backend(method), problem, general_theta(problem), horizon=4, seeds=range(2)
                )


def shaped_otherwise(at: int) -> TeachingProblem:
    """The batch of one step is smaller: that step goes in plain torch."""
    plain = random_problem()

    def train(index: int, seed: int) -> tuple[Tensor, Tensor]:
        inputs, targets = plain.train(index, seed)
        return (inputs[:5], targets[:5]) if index == at + seed else (inputs, targets)

    return dataclasses.replace(plain, train=train)


def test_steps_of_another_shape_are_told_of_once_however_many_and_wherever_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    problem = shaped_otherwise(2)
    with pytest.warns(l2t.FellBack, match="1 of 4 steps, the first of them step 2") as told:
        results = [gradient(problem, COMPILED, horizon, seed) for horizon, seed in ((4, 0), (6, 1))]
    assert len(told) == 1 and "1 of 6 steps, the first of them step 3" in results[1].warnings[0]


@pytest.mark.usefixtures("without_a_compiler")
def test_students_at_once_are_told_of_once_too() -> None:
    problem = random_problem()
    problem.student.register_forward_pre_hook(lambda layer, given: given if float(given[0].sum()) else None)
    backend, theta = l2t.load_backend("rmd[students=2]"), general_theta(problem)
    with pytest.warns(l2t.FellBack, match="they were taken one by one") as told:
        results = [l2t.teacher_gradients(backend, problem, theta, horizon=3, seeds=range(2)) for _ in range(2)]
    assert len(told) == 1 and len(results) == 2


# -- at the command line

PROBLEM = "digits/mlp[train=60,dev=40,hidden=4,keys=2,nonlinearity=tanh,lr=0.3,refresh=5]"


def lines_of(printed: str) -> list[str]:
    """Those that warn."""
    return [line for line in printed.splitlines() if "warning" in line.lower()]


@pytest.mark.usefixtures("without_a_compiler")
def test_train_says_once_that_steps_were_not_compiled_and_keeps_it_with_every_outer_step(tmp_path: Path) -> None:
    out = tmp_path / "teacher.safetensors"
    asked = ("train", PROBLEM, "-b", COMPILED, "--outer-steps", "2", "--horizon", "4", "--select-every", "0", "-o", out)
    done = here(*asked)
    assert done.returncode == 0 and lines_of(done.stderr) == [f"l2t-bench: warning: {WARNING}"], done.stderr
    curve = (tmp_path / "teacher.training" / "outer_steps.csv").read_text()
    assert curve.count(REASON) == 2 and "l2t_bench/" not in done.stderr


def tiny_problem(folder: Path) -> tuple[str, Path]:
    """A problem that is verified in seconds."""
    file = folder / "tiny.py"
    file.write_text("from l2t_bench.verification.samples import random_problem\nproblem = random_problem()\n")
    return "--problem-file", file


def told_in_table(printed: str) -> str:
    """The words of the last column, of all rows."""
    return " ".join(line.rsplit("│", 2)[1].strip() for line in printed.splitlines() if line.startswith("│"))


@pytest.mark.usefixtures("without_a_compiler")
@pytest.mark.parametrize("method", [COMPILED, "truncated[engine=compiled,window=3]"])
def test_verify_does_not_pass_plain_steps_off_as_compiled_ones(method: str, tmp_path: Path) -> None:
    done = here("verify", method, *tiny_problem(tmp_path))
    assert done.returncode == 0 and lines_of(done.stderr) == [f"l2t-bench: warning: {WARNING}"]
    assert f"engine=compiled is not checked here, but plain torch {WARNING}" in told_in_table(done.stdout)
    assert (done.stdout.count("│ skip │ steps as asked"), done.stdout.count("│ info │ warning")) == (1, 1)


@pytest.mark.usefixtures("without_a_compiler")
def test_verify_says_so_of_the_reference_set_too() -> None:
    section = next(verify(l2t.load_backend(COMPILED)))
    first, second, *figures = section.checks
    assert section.problem == "reference set" and (first.outcome, second.note) == (Outcome.SKIPPED, WARNING)
    assert len(figures) > 5 and all(check.outcome is Outcome.PASSED for check in figures)


def test_verify_says_which_steps_auto_has_chosen(tmp_path: Path) -> None:
    done = here("verify", "rmd[engine=auto]", *tiny_problem(tmp_path))
    assert "plain torch: 12 steps so far, compiled steps pay from 5,000" in told_in_table(done.stdout)
    assert not lines_of(done.stderr)


@pytest.mark.usefixtures("without_a_compiler")
def test_select_takes_no_method_for_compiled_steps_that_it_does_not_get(tmp_path: Path) -> None:
    """Of several it takes the plain twin; alone, it says what it is. The warning is a line for all of them."""
    both, alone = tmp_path / "both.toml", tmp_path / "alone.toml"
    first = here("select", PROBLEM, "--horizon", "4", "-b", "rmd", "-b", COMPILED, "-o", both)
    assert first.returncode == 0 and lines_of(first.stderr) == [f"l2t-bench: warning: {WARNING}"], first.stderr
    assert from_toml(both.read_text()).method == "rmd"
    assert f"engine=compiled is not to be had here, but plain torch: {REASON[:40]}" in told_in_table(first.stdout)
    second = here("select", PROBLEM, "--horizon", "4", "-b", COMPILED, "-o", alone)
    why = from_toml(alone.read_text()).why
    assert second.returncode == 0 and "held to plain ones" not in why
    assert "engine=compiled is not to be had here, but plain torch: its steps cannot be compiled" in why


def test_select_says_of_compiled_steps_what_they_were_held_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiling, "_compiled", lambda traced, random: traced.graph)
    out = tmp_path / "backend.toml"
    done = here("select", PROBLEM, "--horizon", "4", "-b", COMPILED, "-o", out)
    assert done.returncode == 0 and not lines_of(done.stderr)
    assert from_toml(out.read_text()).why.endswith("compiled steps are held to plain ones when they are made")
    graphed = here("select", PROBLEM, "--horizon", "30", "-b", "rmd", "-b", "rmd[engine=graphed]")
    assert "engine=graphed is not to be had here, but compiled steps: CUDA graphs" in told_in_table(graphed.stdout)
    auto = here("select", PROBLEM, "--horizon", "4", "-b", "rmd", "-b", "rmd[engine=auto]")
    assert auto.returncode == 0 and "held to plain ones" not in auto.stdout, "so few steps are not compiled"


_NO_COMPILER = {"CXX": "/nowhere/c++"}


def test_run_says_once_that_cells_were_not_compiled_and_every_record_says_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {**_NO_COMPILER, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)  # of the cells' processes
    out = tmp_path / "run"
    asked = ("run", "quick", "-b", COMPILED, "-p", PROBLEM, "--profile", "smoke", "--seeds", "2", "--out", out)
    done = here(*asked)
    (line,) = lines_of(done.stderr)
    assert done.returncode == 0 and line.startswith("l2t-bench: warning: ") and "seed 0" in line
    assert "engine=compiled: its steps cannot be compiled" in line and line.endswith("the run was taken in plain torch")
    records = [json.loads(file.read_text()) for file in out.glob("cells/quick/*/cell.json")]
    measured = [record["measurements"] for record in records]
    assert len(measured) == 2 and all("plain torch" in each["runs"][0]["warnings"][0] for each in measured)
    assert all(each["runs"][0]["engine"].startswith("plain torch: its steps cannot be compiled") for each in measured)
    chosen = here("select", records[0]["identity"]["problem"], "--horizon", "20", "--from-runs", out)
    assert "2 seeds measured; engine=compiled: its steps cannot be compiled" in told_in_table(chosen.stdout)


# -- triton, which compiles for a GPU


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)  # to import it fails


@pytest.mark.usefixtures("without_triton")
def test_without_triton_steps_for_a_gpu_go_in_plain_torch_with_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inductor for a GPU, of which its first question is left: what it raises, and when, are its own."""

    def for_a_gpu(*_: Any, **__: Any) -> Any:
        try:
            import triton
        except ImportError:
            raise TritonMissing(inspect.currentframe()) from None
        return triton

    monkeypatch.setattr(torch._inductor, "standalone_compile", for_a_gpu)
    problem = random_problem()
    with pytest.warns(l2t.FellBack) as told:
        compiled = [gradient(problem, COMPILED) for _ in range(2)]
    missing = "its steps cannot be compiled: TritonMissing: Cannot find a working triton installation"
    warning = f"engine=compiled: {missing}; the run was taken in plain torch"
    assert [str(each.message) for each in told] == [warning] and compiled[1].warnings == (warning,)
    plain = gradient(problem, "rmd")
    assert all(torch.equal(compiled[0].d_theta[name], tensor) for name, tensor in plain.d_theta.items())


_TRITON_FOR_A_CPU = """
import sys
sys.modules["triton"] = None
import torch._inductor.config
torch._inductor.config.cpu_backend = "triton"
import l2t_bench as l2t
from l2t_bench.verification.samples import general_theta, random_problem
problem = random_problem()
found = l2t.load_backend("rmd[engine=compiled]").teacher_gradient(problem, general_theta(problem), horizon=4)
print(*found.warnings, sep="\\n")
"""


@pytest.mark.slow
def test_without_triton_inductor_itself_comes_to_the_same_end(tmp_path: Path) -> None:
    """Told to compile by triton for a CPU, where there is no GPU to ask it for."""
    own = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _TRITON_FOR_A_CPU], env=own, capture_output=True, text=True, check=True
    )
    (warning,) = done.stdout.splitlines()
    assert "its steps cannot be compiled" in warning and "triton" in warning and "plain torch" in warning


@pytest.mark.parametrize(("gpu", "state"), [(True, "warn"), (False, "ok")])
@pytest.mark.usefixtures("without_triton")
def test_the_doctor_misses_triton_where_a_gpu_needs_it(gpu: bool, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    found = doctor._triton()
    assert (found.name, found.state) == ("triton", state)
    assert ("pip install triton" in found.advice) == gpu


def test_the_doctor_names_the_compiler_of_the_cpu_or_says_that_there_is_none() -> None:
    assert (doctor._cpp_compiler().state, "engine=compiled" in doctor._cpp_compiler().detail) == ("ok", True)
    # by Inductor's own patch: pytest's takes its sub-config for a class, and undoes an option by deleting it
    with inductor.patch({"cpp.cxx": ("/nowhere/c++",)}):
        found = doctor._cpp_compiler()
    assert (found.state, found.detail) == ("warn", "none that works") and "plain torch" in found.advice
