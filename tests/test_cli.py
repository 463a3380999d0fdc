"""What a person sees at the command line: answers, exit codes, and never a traceback for a mistake."""

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from command_line import here, in_a_process

from l2t_bench.registry import list_backends


def test_help_names_the_verbs_and_imports_no_torch() -> None:
    script = (
        "import sys; sys.argv = ['l2t-bench', '--help']; from l2t_bench.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "sys.exit(code or ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for verb in ("list", "run", "report", "verify", "prepare"):
        assert verb in done.stdout


def test_list_names_what_there_is() -> None:
    done = here("list")
    assert done.returncode == 0
    for name in ("rmd", "truncated", "higher", "torchopt-implicit", "functorch", "digits/lenet", "mnist/mlp", "quick"):
        assert name in done.stdout
    assert "window=20" in here("list", "backends", "--options").stdout
    assert "smooth01[k=50.0,form=log]" in here("list", "losses", "--options").stdout


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (("verify", "rdm"), "did you mean 'rmd'"),
        (("verify", "rmd[stor=all]"), "its options are store"),
        (("verify", "truncated[window=0]"), "at least 1"),
        (("verify", "truncated[window=x]"), "a whole number"),
        (("verify", "rmd", "digits/mpl"), "did you mean 'digits/mlp'"),
        (("verify", "rmd", "digits/mlp[hiden=3]"), "did you mean 'hidden'"),
        (("verify", "rmd["), "name[option=value"),
        (("verify", "--problem-file", "missing.py"), "there is no file"),
        (("run", "quik"), "did you mean 'quick'"),
        (("run", "quick", "--profile", "huge"), "no profile"),
        (("run", "quick", "-b", "rmd[store=al]"), "must be one of all"),
        (("run", "quick", "--seeds", "0"), "seeds must be at least 1"),
        (("run", "quick", "--timeout", "soon"), "90s, 10m or 2h"),
        (("run", "quick", "--device", "cuda:banana"), "device"),
        (("report", "nowhere"), "nowhere"),
    ],
)
def test_a_mistake_is_answered_in_a_line_with_exit_code_2(
    arguments: tuple[str, ...], answer: str, tmp_path: Path
) -> None:
    done = here(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert answer in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []


def test_data_that_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("L2T_BENCH_DATA", str(tmp_path))
    done = here("verify", "rmd", "mnist/mlp")
    assert done.returncode == 2
    assert "l2t-bench prepare mnist" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing but prepare writes to the data root"


_OWN_PROBLEM = """
import torch
import l2t_bench as l2t

def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(16, 3, generator=generator)
    return inputs, inputs.sum(1, keepdim=True)

class Broken(torch.nn.Linear):
    def forward(self, features):
        return super().forward(features) / 0 * 0

problem = l2t.TeachingProblem(
    student=torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)),
    teacher=torch.nn.Linear(1, 1),
    loss=lambda output, target, phi: (torch.sigmoid(phi) * (output - target) ** 2).{reduction},
    objective=lambda output, target: -((output - target) ** 2).mean(),
    optimizer={optimizer},
    train=lambda index, seed: batch(1000 * seed + index),
    dev=batch(99),
    name="mine",
)
"""


def own_problem(folder: Path, reduction: str = "mean()", optimizer: str = "l2t.SGD(lr=0.05, momentum=0.9)") -> str:
    path = folder / "mine.py"
    path.write_text(textwrap.dedent(_OWN_PROBLEM.format(reduction=reduction, optimizer=optimizer)))
    return str(path)


def test_verify_says_what_an_approximate_backend_loses_on_a_users_own_problem(tmp_path: Path) -> None:
    done = here("verify", "truncated[window=4]", "--problem-file", own_problem(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "truncated[window=4] on mine" in done.stdout and "FAIL" not in done.stdout
    assert "cosine to the exact gradient" in done.stdout


@pytest.mark.slow
def test_verify_says_which_backends_are_right_on_a_users_own_problem(tmp_path: Path) -> None:
    done = in_a_process("verify", "--problem-file", own_problem(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for name in list_backends():
        assert f"{name} on mine" in done.stdout
    assert "FAIL" not in done.stdout
    assert "cosine to the exact gradient" in done.stdout


def test_verify_says_that_a_backend_refuses_and_why(tmp_path: Path) -> None:
    own = (
        "type('Lion', (), {'lr_at': lambda s, i, h: 0.1, 'step': lambda s, p, g, slots, index, lr: "
        "({k: w - lr * g[k] / (1 + g[k] * g[k]) for k, w in p.items()}, {}), "
        "'slot_names': (), 'reads_slots': False, 'reads_gradients': False, "
        "'pull_back': lambda s, a, taken: (a.params, a), 'hyper_gradients': lambda s, a, taken: {}})()"
    )
    done = here("verify", "rmd", "--problem-file", own_problem(tmp_path, optimizer=own))
    assert done.returncode == 0
    assert "does not differentiate Lion" in done.stdout


def test_a_loss_that_is_no_scalar_is_said_in_a_line(tmp_path: Path) -> None:
    done = here("verify", "rmd", "--problem-file", own_problem(tmp_path, reduction="sum(1)"))
    assert done.returncode == 2
    assert "take its .mean()" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("teacher=torch.nn.Linear(1, 1)", "teacher=Broken(1, 1)", "the teacher's phi is not finite at step 0"),
        ("torch.sigmoid(phi)", "torch.log(-phi.abs() - 1)", "not finite at step 0"),
        ("batch(1000 * seed + index)", "batch(int(torch.randint(10**6, ())))", "two different batches"),
        ("batch(1000 * seed + index)", "batch(1)[0]", "(inputs, targets)"),
    ],
)
def test_numbers_and_batches_that_cannot_be_used_are_said_in_a_line(
    old: str, new: str, answer: str, tmp_path: Path
) -> None:
    path = Path(own_problem(tmp_path))
    path.write_text(path.read_text().replace(old, new))
    done = here("verify", "rmd", "--problem-file", str(path))
    assert done.returncode == 2, done.stdout
    assert answer in done.stderr and "Traceback" not in done.stderr


def test_a_problem_file_that_does_not_import_or_holds_no_problem_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    (tmp_path / "empty.py").write_text("x = 1\n")
    for name, answer in (("broken.py", "does not import"), ("empty.py", "holds no `problem`")):
        done = here("verify", "--problem-file", str(tmp_path / name))
        assert done.returncode == 2
        assert answer in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_plug_in_fails_the_ladder_with_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "plug.py").write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass, replace
            from l2t_bench.backends.rmd import ManualRMD

            @dataclass(frozen=True)
            class Halved(ManualRMD):
                factor: float = 0.5
                name = "halved"

                def differentiate(self, run):
                    found = super().differentiate(run)
                    return replace(found, d_theta={k: self.factor * v for k, v in found.d_theta.items()})
            """
        )
    )
    problem = ("--problem-file", own_problem(tmp_path))
    wrong = here("verify", f"{tmp_path}/plug.py:Halved", *problem)
    assert wrong.returncode == 1, wrong.stderr
    assert "FAIL" in wrong.stdout
    right = here("verify", f"{tmp_path}/plug.py:Halved[factor=1]", *problem)
    assert right.returncode == 0, right.stdout


def test_a_smoke_run_writes_results_tables_and_a_page_and_is_idempotent(tmp_path: Path) -> None:
    command = ("run", "quick", "--profile", "smoke", "-b", "rmd", "-b", "truncated[window=5]", "--out", "out")
    first = in_a_process(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "report.html" in first.stdout and "2/2" in first.stdout
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    results = {path: path.read_bytes() for path in (tmp_path / "out").glob("cells/quick/*/cell.json")}
    assert sorted(json.loads(content)["status"] for content in results.values()) == ["ok", "ok"]
    assert in_a_process(*command, cwd=tmp_path).returncode == 0
    assert {path: path.read_bytes() for path in results} == results


def test_an_interrupted_run_says_so_keeps_what_is_finished_and_leaves_no_process(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "l2t_bench.cli.main", "run", "quick", "--profile", "smoke", "--out", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("out/cells/quick/*/spec.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on from there" in errors and "Traceback" not in errors
    assert not [line for line in command_lines() if str(tmp_path) in line]


def command_lines() -> list[str]:
    """Of all processes that are still there when they are looked at."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes().decode(errors="replace"))
    return found


def test_predict_tells_what_each_backend_takes_and_who_fits() -> None:
    done = here("predict", "digits/mlp[features=none]", "--horizon", "40", "-b", "rmd", "--memory-limit", "8GB")
    assert done.returncode == 0, done.stderr
    assert "rmd" in done.stdout and "exact" in done.stdout and "MB" in done.stdout and "yes" in done.stdout


@pytest.mark.parametrize(
    "wrong", [("--horizon", "0"), ("--horizon", "9", "-b", "rdm"), ("--horizon", "9", "--memory-limit", "x")]
)
def test_predict_answers_a_mistake_in_a_line(wrong: tuple[str, ...]) -> None:
    done = here("predict", "digits/mlp", *wrong)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
