"""Runs as an engine may leave them, of invented numbers: one function for each, from an empty folder to a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from invented_runs import HOSTILE, METHODS, RunWriter, invented_run
from safetensors.numpy import save_file

HOSTILE_NAMES = (
    HOSTILE,
    "</script><script>alert(2)</script>",
    "<img src=x onerror=alert(3)>",
    '"><svg onload="alert(4)">',
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(5)",
    "</noscript><iframe src='https://host.invalid/'>",
    "https://host.invalid/track.gif",
    "=1+1|cmd",
    "\u202eevil\u0000&amp;<!--",
)


def finished(writer: RunWriter) -> Path:
    """Every planned cell has come to an end."""
    invented_run(writer)
    return writer.finish()


def running(writer: RunWriter) -> Path:
    """Still going: some cells have no result yet, one has begun."""
    for seed in range(3):
        gradient(writer, "digits/mlp", "rmd", seed)
    begun = writer.plan("gradient", "digits/mlp", "higher", 0, horizons=[20, 100])
    (begun / "spec.json").write_text("{}")
    (begun / "stdout.log").write_text("step 3 of 100\n")
    writer.plan("gradient", "digits/mlp", "higher", 1, horizons=[20, 100])
    writer.plan("teaching", "digits/mlp", "cross-entropy", 0)
    return writer.finish()


def with_failures(writer: RunWriter) -> Path:
    """Every way to fail, each with a log; a method that failed on some seeds, one on all."""
    for seed in range(5):
        for method in ("rmd", "truncated[window=10]", "truncated[window=40]", "torchopt-implicit"):
            gradient(writer, "digits/mlp", method, seed)
    for status in ("oom_host", "oom_device", "timeout", "diverged", "error", "crashed", "interrupted"):
        fail(writer, "digits/mlp", f"higher[at={status}]", status, f"ended by {status}", f"lines\nof {status}\n")
    fail(writer, "digits/mlp", "torchopt", "refused", "the student has dropout", "")
    fail(writer, "digits/mlp", "functorch", "timeout", "over 600 s", "Traceback\n  the last line\n", seed=1)
    gradient(writer, "digits/mlp", "functorch", 0)
    damaged = gradient(writer, "digits/mlp", "one-step", 0)
    damaged.write_text(damaged.read_text()[:80])
    return writer.finish()


def from_two_machines(writer: RunWriter) -> Path:
    """Half of the seeds measured elsewhere, with another version of torch."""
    for seed in range(5):
        gradient(writer, "digits/mlp", "rmd", seed)
        gradient(writer, "digits/mlp", "higher", seed)
    writer.ran_on("def", cpu="Another CPU", cores=8, threads=4, torch="2.14.0")
    for seed in range(5, 10):
        gradient(writer, "digits/mlp", "rmd", seed)
        gradient(writer, "digits/mlp", "higher", seed)
    return writer.finish()


def hostile(writer: RunWriter) -> Path:
    """Names, messages, logs, warnings, machines and data that would like to be markup, scripts or formulas."""
    for name in HOSTILE_NAMES[:7:6]:
        gradient(writer, f"problem {name.replace('/', '⁄')}", "rmd", 0, warnings=list(HOSTILE_NAMES))
    for place, name in enumerate(HOSTILE_NAMES):
        plain = name.replace("/", "⁄").replace("\\", "")
        fail(writer, "digits/mlp", f"m{place}{plain}", "error", name, f"{name}\n" * 3)
        writer.teaching("digits/mlp", f"t{place}{plain}", [0.9, 0.91, 0.92, 0.93, 0.94])
    names = [f"{place}{name}" for place, name in enumerate(HOSTILE_NAMES[:3])]
    look_at_phi(writer, names)
    folder = writer.finish()
    writer.ran_on("abc", cpu=HOSTILE_NAMES[1], platform=HOSTILE_NAMES[2], libraries={HOSTILE: HOSTILE_NAMES[3]})
    return folder


GOLDEN: Mapping[str, Callable[[RunWriter], Path]] = {
    "finished": finished,
    "running": running,
    "with failures": with_failures,
    "from two machines": from_two_machines,
    "hostile": hostile,
}


def gradient(writer: RunWriter, problem: str, method: str, seed: int, **more: Any) -> Path:
    """A gradient cell at two horizons, its numbers drawn by its seed."""
    draw = np.random.default_rng(seed)
    exactness, seconds, held, along, across = METHODS.get(method, METHODS["truncated[window=10]"])
    exact = draw.normal(size=40)
    runs = {
        horizon: {
            "d_theta": {"keys": (along * exact + across * draw.normal(size=40)).astype("f4")},
            "seconds": [seconds * horizon * (1 + 0.05 * draw.random())],
            "start": 300_000_000,
            "peak": 302_000_000 + int(held * horizon * (1 + 0.05 * draw.random())),
            **more,
        }
        for horizon in (20, 100)
    }
    return writer.gradient(problem, method, seed, runs, exactness, horizons=[20, 100])


def fail(writer: RunWriter, problem: str, method: str, status: str, message: str, log: str, *, seed: int = 0) -> None:
    """A gradient cell that ended without a result, with what it wrote to standard error."""
    folder = writer.plan("gradient", problem, method, seed, horizons=[20, 100])
    if log:
        (folder / "stderr.log").write_text(log)
    writer.write(folder, status, {}, message)


def look_at_phi(writer: RunWriter, names: list[str], steps: tuple[int, ...] = (0, 150, 299)) -> Path:
    """A cell that kept the whole of Phi_t at some steps, drawn at random."""
    draw, classes = np.random.default_rng(1), len(names)
    matrices = {f"step_{step}": draw.normal(size=(classes, classes)).astype("f4") for step in steps}
    folder = writer.plan("phi", "digits/mlp", "rmd", 0)
    (folder / "artifacts").mkdir()
    save_file(matrices, folder / "artifacts" / "phi.safetensors")
    rows = [matrix[0].astype(float).tolist() for matrix in matrices.values()]
    pair = {"anchor": 0, "similar": [1], "dissimilar": [2], "rule": "by hand", "rows": rows}
    measured = {
        "names": names,
        "parts": [step / 299 for step in steps],
        "pairs": [pair],
        "matrix_file": "phi.safetensors",
    }
    writer.write(folder, "ok", measured)
    return folder


def large(writer: RunWriter) -> Path:
    """500 cells: eight methods on five problems with ten seeds, and twenty teachers of each problem."""
    methods = [*METHODS, "truncated[window=5]", "implicit"]
    for problem in ("digits/mlp", "digits/lenet", "mnist/mlp", "mnist/lenet", "cifar10/resnet8"):
        for seed in range(10):
            for method in methods:
                gradient(writer, problem, method, seed)
        draw = np.random.default_rng(len(problem))
        for place in range(20):
            accuracies = (0.9 + 0.02 * draw.normal(size=20)).round(4).tolist()
            writer.teaching(problem, f"rmd[store=all,budget={place}GB]", accuracies)
    return writer.finish()
