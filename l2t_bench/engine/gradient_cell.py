"""The task of a gradient cell: one backend's teacher gradient on one problem and seed, at each horizon, measured."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from l2t_bench.engine.cell import Cell
from l2t_bench.gradient import Refused, TeacherGradient, TeacherGradientBackend
from l2t_bench.measure import release_free_memory, whole_pages
from l2t_bench.optimizers import Tensors
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem, load_backend
from l2t_bench.verification.samples import general_theta

_WARM_UP = 5  # steps: enough to load every kernel that the run needs


def measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """Settings ``horizons`` and ``repeats`` (how often each horizon is timed); the gradients are kept beside the cell.

    theta is in general position, so that no part of the gradient is zero by symmetry.
    """
    problem = build_problem(cell.problem, dtype=cell.dtype, device=cell.device)
    backend = load_backend(cell.method)
    horizons: list[int] = list(cell.settings["horizons"])
    verdict = backend.supports(problem, max(horizons))
    if isinstance(verdict, Refused):
        raise verdict
    theta = general_theta(problem, cell.seed)
    with whole_pages():  # memory first, times after it
        backend.teacher_gradient(problem, theta, horizon=_WARM_UP, seed=cell.seed)
        peaks = [_peaks(backend, problem, theta, horizon, cell.seed) for horizon in horizons]
    timed = [
        [backend.teacher_gradient(problem, theta, horizon=horizon, seed=cell.seed) for _ in range(repeats)]
        for horizon, repeats in zip(horizons, cell.settings["repeats"], strict=True)
    ]
    runs = []
    for horizon, results, memory in zip(horizons, timed, peaks, strict=True):
        name = f"gradient-{horizon}.safetensors"
        save_file({key: tensor.cpu().contiguous() for key, tensor in results[0].d_theta.items()}, folder / name)
        runs.append({"horizon": horizon, "gradient_file": name, **_times(results), **memory})
    return {
        "exactness": str(backend.capabilities.exactness),
        "memory_law": backend.capabilities.memory_law,
        "parameters": sum(param.numel() for param in problem.student.parameters()),
        "runs": runs,
    }


def _times(results: list[TeacherGradient]) -> dict[str, Any]:
    """Seconds of every repeat, whole and by phase; what is the same in all, once."""
    costs = [result.cost for result in results]
    phases = [key for key in asdict(costs[0]) if key.startswith("seconds_")]
    return {
        "exactness": str(results[0].exactness),
        "value": results[0].value,
        "diagnostics": dict(results[0].diagnostics),
        "gradients": costs[0].gradients,
        "vector_products": costs[0].vector_products,
        "recomputed_steps": costs[0].recomputed_steps,
        "seconds": [cost.seconds for cost in costs],
        **{phase: [getattr(cost, phase) for cost in costs] for phase in phases},
    }


def _peaks(
    backend: TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, horizon: int, seed: int
) -> dict[str, Any]:
    """Start and peak, host and device, of a run that no clock looks at."""
    release_free_memory()
    cost = asdict(backend.teacher_gradient(problem, theta, horizon=horizon, seed=seed).cost)
    return {key: value for key, value in cost.items() if key.endswith("_bytes")}
