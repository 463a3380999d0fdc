"""The task of a gradient cell: one backend's teacher gradient on one problem and seed, at each horizon, measured."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import reduce
from typing import Any

from safetensors.torch import save_file

from l2t_bench.data.checksums import data_record
from l2t_bench.engine.cell import Cell
from l2t_bench.engine.hyper_gradients import hyper_figures, hyper_tensors
from l2t_bench.engine.recorder import Recorder
from l2t_bench.fitting import check_room, settled, settled_engine
from l2t_bench.gradient import Cost, Refused, TeacherGradient, TeacherGradientBackend, Walked
from l2t_bench.health import AdjointHealth
from l2t_bench.metabatch.contract import for_students
from l2t_bench.modules import trained_parameters
from l2t_bench.peaks import PhasePeak
from l2t_bench.problem import TeachingProblem
from l2t_bench.registry import build_problem, load_backend
from l2t_bench.resident import release_free_memory, whole_pages
from l2t_bench.steppers.telling import seconds_compiling
from l2t_bench.tensors import Tensors
from l2t_bench.verification.samples import general_theta

_WARM_UP = 5  # steps: enough to load every kernel that the run needs


def measure(cell: Cell, recorder: Recorder) -> dict[str, Any]:
    """Settings ``horizons`` and ``repeats`` (how often each horizon is timed); the gradients are kept beside the cell.

    For each horizon T ``gradient-T.safetensors`` holds d_theta. What a method finds with it (hyper-gradients, d_omega0)
    is among the measurements as figures, and as tensors in ``hyper-gradient-T.safetensors``. theta is in general
    position, so that no part of the gradient is zero by symmetry.
    """
    with recorder.phase("build"):
        problem = build_problem(cell.problem, dtype=cell.dtype, device=cell.device)
        backend = load_backend(cell.method)
    horizons: list[int] = list(cell.settings["horizons"])
    verdict = backend.supports(problem, max(horizons))
    if isinstance(verdict, Refused):
        raise verdict
    with recorder.phase("data"):
        recorder.data.update(data_record(cell.problem))
        problem.train(0, cell.seed)
        theta = general_theta(problem, cell.seed)
    with recorder.phase("warm-up"):
        steps = sum(horizon * repeats for horizon, repeats in zip(horizons, cell.settings["repeats"], strict=True))
        chosen = settled_engine(backend, problem, steps)
        backend = settled(backend, problem, steps)  # else its repeats might be by two engines
        check_room(for_students(backend, 1), problem, max(horizons), recorder.memory_limit)
    with whole_pages():  # memory first, times after it
        with recorder.phase("warm-up") as phase:
            warm = backend.teacher_gradient(problem, theta, horizon=_WARM_UP, seed=cell.seed).cost
            phase.saw(PhasePeak(warm.host_peak_bytes, warm.device_peak_bytes))
        sized = [_sized(backend, problem, theta, horizon, cell.seed) for horizon in horizons]
    timed = [
        [backend.teacher_gradient(problem, theta, horizon=horizon, seed=cell.seed) for _ in range(repeats)]
        for horizon, repeats in zip(horizons, cell.settings["repeats"], strict=True)
    ]
    _add_phases(recorder, sized, [result.cost for results in timed for result in results])
    costs = [warm, *sized, *(result.cost for results in timed for result in results)]
    # Once for a problem, and by whoever comes to it: short runs that ask for room, the warm-up, the first long run.
    seconds_compile = max(seconds_compiling(problem), sum(cost.seconds_compile for cost in costs))
    if seconds_compile:
        recorder.add_phase("compile", seconds_compile, _peak_of("compile", costs))
    runs = []
    for horizon, results, cost in zip(horizons, timed, sized, strict=True):
        with recorder.phase("io"):
            files = _kept_files(recorder, horizon, results[0])
        recorder.samples(f"horizon {horizon}", _blocks(results))
        engine = _engine_said(results[0].engine, chosen)
        runs.append({"horizon": horizon, **files, **_times(results), **engine, **_bytes(cost)})
    return {
        "exactness": str(backend.capabilities.exactness),
        "memory_law": backend.capabilities.memory_law,
        "parameters": sum(param.numel() for param in trained_parameters(problem.student).values()),
        "seconds_compile": seconds_compile,
        "runs": runs,
    }


def _sized(backend: TeacherGradientBackend, problem: TeachingProblem, theta: Tensors, horizon: int, seed: int) -> Cost:
    """The cost of a run whose memory is looked at, and no clock."""
    release_free_memory()
    return backend.teacher_gradient(problem, theta, horizon=horizon, seed=seed).cost


def _engine_said(walked: Walked | None, chosen: Walked | None) -> dict[str, str]:
    """What took the steps, and why where it was not asked for by its name; nothing of a method without engines."""
    if walked is None:
        return {}
    return {
        "engine": str(chosen if chosen is not None and chosen.engine == walked.engine and not walked.why else walked)
    }


def _kept_files(recorder: Recorder, horizon: int, result: TeacherGradient) -> dict[str, str]:
    """Write d_theta, and what came with it where anything did, each into a file of its own; their names.

    The names of theta are the user's: nothing else can stand in its file without the risk of a clash.
    """
    kept = {"gradient_file": (f"gradient-{horizon}.safetensors", result.d_theta)}
    if beside := hyper_tensors(result):
        kept["hyper_gradient_file"] = (f"hyper-gradient-{horizon}.safetensors", beside)
    for name, tensors in kept.values():
        save_file({key: tensor.cpu().contiguous() for key, tensor in tensors.items()}, recorder.artifact(name))
    return {key: name for key, (name, _) in kept.items()}


def _peak_of(phase: str, costs: Sequence[Cost]) -> PhasePeak:
    """The largest of several runs."""
    return reduce(PhasePeak.join, (cost.peaks.get(phase, PhasePeak()) for cost in costs))


def _add_phases(recorder: Recorder, sized: Sequence[Cost], timed: Sequence[Cost]) -> None:
    """Seconds of the timed runs, peaks of those that were run for their memory; compilation is counted apart."""
    for name, phase in timed[0].phases.items():
        if name == "compile":
            continue
        recorder.add_phase(phase, sum(getattr(cost, f"seconds_{name}") for cost in timed))
        for cost in sized:
            if (peak := cost.peaks.get(name)) is not None:
                recorder.add_phase(phase, 0.0, peak)


def _blocks(results: Sequence[TeacherGradient]) -> list[dict[str, float]]:
    """The raw seconds of every repeat, by phase."""
    return [
        {phase: getattr(result.cost, f"seconds_{name}") for name, phase in result.cost.phases.items()}
        for result in results
    ]


def _times(results: Sequence[TeacherGradient]) -> dict[str, Any]:
    """Seconds of every repeat, whole and by phase; what is the same in all, once."""
    costs = [result.cost for result in results]
    phases = [f"seconds_{name}" for name in costs[0].phases]
    return {
        "exactness": str(results[0].exactness),
        "value": results[0].value,
        "diagnostics": {
            name: figure if math.isfinite(figure) else None for name, figure in results[0].diagnostics.items()
        },
        "hyper_gradients": hyper_figures(results[0]),
        "warnings": list(results[0].warnings),
        "adjoint": _adjoint(results[0].health),
        "adjoint_said": results[0].adjoint_said,
        "gradients": costs[0].gradients,
        "vector_products": costs[0].vector_products,
        "recomputed_steps": costs[0].recomputed_steps,
        "seconds": [cost.seconds for cost in costs],
        **{phase: [getattr(cost, phase) for cost in costs] for phase in phases},
    }


def _adjoint(health: AdjointHealth | None) -> dict[str, Any] | None:
    """|w_bar_t| at some of the steps, and where it exploded or died; ``None`` for a method that has no such thing."""
    if health is None:
        return None
    steps, norms = zip(*health.sampled(), strict=True)
    return {
        "steps": list(steps),
        "norms": list(norms),
        "growth": health.growth if math.isfinite(health.growth) else None,
        "exploded_at": health.exploded_at,
        "died_at": health.died_at,
    }


def _bytes(cost: Cost) -> dict[str, Any]:
    """Start and peak, host and device."""
    return {key: value for key, value in asdict(cost).items() if key.endswith("_bytes")}
