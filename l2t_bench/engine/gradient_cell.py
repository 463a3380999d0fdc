"""The task of a gradient cell: one backend's teacher gradient on one problem and seed, at each horizon, measured."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from l2t_bench.engine.cell import Cell
from l2t_bench.gradient import Refused, TeacherGradient
from l2t_bench.measure import release_free_memory
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
    backend.teacher_gradient(problem, theta, horizon=_WARM_UP, seed=cell.seed)
    runs = []
    for horizon, repeats in zip(horizons, cell.settings["repeats"], strict=True):
        results = []
        for _ in range(repeats):
            release_free_memory()
            results.append(backend.teacher_gradient(problem, theta, horizon=horizon, seed=cell.seed))
        name = f"gradient-{horizon}.safetensors"
        save_file({key: tensor.cpu().contiguous() for key, tensor in results[0].d_theta.items()}, folder / name)
        runs.append({"horizon": horizon, "gradient_file": name, **_figures(results)})
    return {
        "exactness": str(results[0].exactness if len(horizons) == 1 else backend.capabilities.exactness),
        "memory_law": backend.capabilities.memory_law,
        "parameters": sum(param.numel() for param in problem.student.parameters()),
        "runs": runs,
    }


def _figures(results: list[TeacherGradient]) -> Mapping[str, Any]:
    """Times of every repeat; bytes of the repeat with the largest peak; counts, which are the same in all."""
    costs = [result.cost for result in results]
    largest = max(costs, key=lambda cost: (cost.device_bytes or 0, cost.host_bytes or 0))
    own = asdict(largest)
    return {
        "exactness": str(results[0].exactness),
        "value": results[0].value,
        "diagnostics": dict(results[0].diagnostics),
        "seconds": [cost.seconds for cost in costs],
        **{key: [getattr(cost, key) for cost in costs] for key in own if key.startswith("seconds_")},
        **{key: value for key, value in own.items() if not key.startswith("seconds_")},
    }
