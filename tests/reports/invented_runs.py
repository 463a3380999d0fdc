"""A run's folder as the engine writes it, made of invented numbers: both kinds, failures, and hostile names."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from l2t_bench.engine.cell import cell_id_of

HOSTILE = "<script>alert(1)</script>"
METHODS = {  # method: exactness, seconds per step, bytes per step, direction and length of its gradient
    "rmd": ("exact", 0.0028, 30_000, 1.0, 0.0),
    "higher": ("exact", 0.0061, 450_000, 1.0, 1e-7),
    "torchopt": ("exact", 0.0058, 460_000, 1.0, 1e-7),
    "functorch": ("exact", 0.0057, 400_000, 1.0, 1e-7),
    "truncated[window=10]": ("truncated", 0.0016, 9_000, 0.4, 0.3),
    "torchopt-implicit": ("stationary", 0.0021, 4_000, 0.02, 2.0),
}
ENVIRONMENT = {
    "python": "3.11.7",
    "torch": "2.15.0",
    "platform": "Linux-x86_64",
    "cpu": "Example CPU @ 2.0 GHz",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "gpu": None,
    "libraries": {"higher": "0.2.1", "torchopt": "0.7.3"},
    "commit": "abc1234",
    "dirty": False,
}


def adjoint(horizon: int, growth: float) -> dict[str, Any]:
    """|w_bar_t| that grows ``growth`` times from omega_T back to omega_0."""
    steps = [0, horizon // 2, horizon]
    norms = [growth ** (1 - step / horizon) for step in steps]
    return {"steps": steps, "norms": norms, "growth": growth, "exploded_at": None, "died_at": None}


def adjoint_at_the_end(horizon: int) -> dict[str, Any]:
    """|w_bar_T|, of a method that walks no adjoint back."""
    return {"steps": [horizon], "norms": [1.0], "growth": None, "exploded_at": None, "died_at": None}


@dataclass
class RunWriter:
    """Writes cells and, last, ``plan.json``."""

    path: Path
    planned: list[dict[str, Any]] = field(default_factory=list)
    environment: str = "abc"  # of the cells that are written from now on
    profile: str = "quick"
    margin: float | None = None  # that the suite states for accuracies
    suite: str = "quick"

    def plan(self, kind: str, problem: str, method: str, seed: int, /, *, needs: str = "", **settings: Any) -> Path:
        """Name a cell; its folder."""
        identity = {
            "suite": self.suite,
            "suite_version": 2,
            "profile": self.profile,
            "kind": kind,
            "problem": problem,
            "method": method,
            "seed": seed,
            "round": 0,
            "dtype": "float32",
            "device": "cpu",
            "settings": settings,
            **({"needs": needs} if needs else {}),
        }
        cell_id = cell_id_of(identity)
        self.planned.append({"cell_id": cell_id, "identity": identity})
        folder = self.path / "cells" / self.suite / cell_id
        folder.mkdir(parents=True)
        return folder

    def write(self, folder: Path, status: str, measurements: dict[str, Any], message: str | None = None) -> Path:
        """The ``cell.json`` of the cell planned last."""
        record = {
            "schema": 2,
            **self.planned[-1],
            "status": status,
            "message": message,
            "environment": self.environment,
            "code": None,
            "data": {},
            "seconds": 5.0,
            "phases": {},
            "measurements": measurements,
        }
        (folder / "cell.json").write_text(json.dumps(record))
        return folder / "cell.json"

    def gradient(
        self,
        problem: str,
        method: str,
        seed: int,
        runs: dict[int, dict[str, Any]],
        exactness: str,
        *,
        measured: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Path:
        """A gradient cell; each of ``runs`` has seconds, start, peak and d_theta. ``measured`` of the whole cell."""
        folder = self.plan("gradient", problem, method, seed, **settings)
        written = []
        for horizon, run in runs.items():
            name = f"gradient-{horizon}.safetensors"
            (folder / "artifacts").mkdir(exist_ok=True)
            save_file(run["d_theta"], folder / "artifacts" / name)
            written.append(
                {
                    "horizon": horizon,
                    "seconds": run["seconds"],
                    "seconds_forward": [second / 3 for second in run["seconds"]],
                    "seconds_reverse": [second / 2 for second in run["seconds"]],
                    "seconds_dev": [second / 6 for second in run["seconds"]],
                    "host_start_bytes": run["start"],
                    "host_peak_bytes": run["peak"],
                    "device_start_bytes": None,
                    "device_peak_bytes": None,
                    "value": 0.11,
                    "gradients": horizon,
                    "vector_products": horizon,
                    "recomputed_steps": horizon,
                    "diagnostics": {"residual": 0.1} if exactness == "stationary" else {},
                    "hyper_gradients": run.get("hyper_gradients", {}),
                    "warnings": run.get("warnings", []),
                    "adjoint": adjoint_at_the_end(horizon)
                    if exactness == "stationary"
                    else adjoint(horizon, run.get("growth", 2.0)),
                    "adjoint_said": "not walked back" if exactness == "stationary" else "usable",
                    "gradient_file": name,
                    **({"warnings": run["warnings"]} if "warnings" in run else {}),
                    **({"engine": run["engine"]} if "engine" in run else {}),
                }
            )
        measurements = {
            "exactness": exactness,
            "parameters": 7510,
            "memory_law": "T*P + G",
            "runs": written,
            **(measured or {}),
        }
        return self.write(folder, "ok", measurements)

    def teaching(self, problem: str, method: str, accuracies: list[float], *, teacher: int = 0, **more: Any) -> Path:
        """A teaching cell of the seed ``teacher`` with one student per accuracy."""
        learned = method not in ("untrained-teacher", "cross-entropy")
        folder = self.plan(
            "teaching", problem, method, teacher, **({"equivalence_margin": self.margin} if self.margin else {})
        )
        measurements = {
            "loss": "learned" if learned else method.removesuffix("-teacher"),
            "lr": 1.2,
            "schedule": "linear",
            "lr_grid": [{"lr": lr, "dev_accuracy": 0.9} for lr in (0.6, 1.2, 2.4)],
            "students": [
                {"seed": 100 + index, "dev_accuracy": accuracy + 0.01, "test_accuracy": accuracy}
                for index, accuracy in enumerate(accuracies)
            ],
            "outer_steps": 20 if learned else 0,
            "horizon": 300,
            "train": 300,
            "dev": 700,
            "test": 797,
            "curve": [
                {
                    "outer_step": step,
                    "value": 0.6 + (accuracies[0] - 0.6) * (1 - (0.9 - 0.01 * len(method) / 20) ** step),
                    "gradient_norm": 1.2,
                    "noise": 0.4,
                    "moved": 0.01,
                    "diverged": 0,
                    "seconds": 0.8,
                }
                for step in range(20 if learned else 0)
            ],
            "selection": [
                {"outer_step": step, "dev_accuracy_mean": 0.94 + step / 1000, "dev_accuracy_std": 0.005}
                for step in ((0, 10, 20) if learned else ())
            ],
            "selected_outer_step": 20 if learned else None,
            "travelled": 0.1 if learned else None,
            "seconds_training": 21.0 if learned else 0.0,
            "seconds_students": 5.0,
            **more,
        }
        return self.write(folder, "ok", measurements)

    def ran_on(self, name: str, **changes: Any) -> None:
        """Write the environment ``name``, of the invented machine or one that differs from it."""
        self.environment = name
        (self.path / "environments").mkdir(exist_ok=True)
        (self.path / "environments" / f"{name}.json").write_text(json.dumps({"schema": 2, **ENVIRONMENT, **changes}))

    def finish(self) -> Path:
        """Write ``plan.json`` and the first environment; the run's folder."""
        plan = {
            "schema": 2,
            "suites": sorted({cell["identity"]["suite"] for cell in self.planned}) or ["quick"],
            "profiles": ["quick"],
            "created": "2026-01-02T03:04:05Z",
            "cells": self.planned,
        }
        self.ran_on("abc")
        (self.path / "plan.json").write_text(json.dumps(plan))
        return self.path


def invented_run(writer: RunWriter, seeds: int = 5) -> None:
    """Six methods on two problems and two horizons, three teachers, two controls, and four ways to fail."""
    draw = np.random.default_rng(0)
    for problem, size in (("digits/mlp", 1.0), ("digits/lenet", 3.1)):
        for seed in range(seeds):
            exact = draw.normal(size=40)
            for method, (exactness, seconds, held, along, across) in METHODS.items():
                runs = {}
                for horizon in (20, 100):
                    noise = draw.normal(size=40)
                    vector = (along * (1 + 0.1 * draw.normal() * (across > 1e-3)) * exact + across * noise).astype("f4")
                    start = 300_000_000
                    runs[horizon] = {
                        "d_theta": {"keys": vector[:30].reshape(3, 10), "values": vector[30:]},
                        "seconds": [seconds * size * horizon * (1 + 0.06 * draw.random()) for _ in range(3)],
                        "start": start,
                        "peak": start + int(held * size * horizon * (1 + 0.1 * draw.random())) + 2_000_000,
                    }
                writer.gradient(problem, method, seed, runs, exactness)
    writer.margin = 0.01
    for method, mean in (("rmd", 0.957), ("higher", 0.956), ("truncated[window=100]", 0.951)):
        writer.teaching("digits/mlp", method, [round(mean + 0.006 * draw.normal(), 4) for _ in range(12)])
    writer.teaching("digits/mlp", "untrained-teacher", [round(0.949 + 0.006 * draw.normal(), 4) for _ in range(12)])
    writer.teaching("digits/mlp", "cross-entropy", [round(0.945 + 0.006 * draw.normal(), 4) for _ in range(12)], lr=2.4)
    failures = {
        "refused": f"no momentum: {HOSTILE}",
        "crashed": "SIGKILL",
        "timeout": "over 600 s",
        "diverged": "adjoint at step 3",
    }
    for status, message in failures.items():
        writer.write(writer.plan("gradient", "digits/mlp", f"hostile{HOSTILE}[{status}]", 0), status, {}, message)
