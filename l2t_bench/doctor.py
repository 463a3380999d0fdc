"""Whether this machine can run and measure what is asked of it: one finding per question, none of them a traceback."""

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from l2t_bench.data.root import VARIABLE, data_root
from l2t_bench.engine.environment import cpu_model, gpu, installed, without_home
from l2t_bench.errors import UserError
from l2t_bench.resident import peak_resident_bytes, reset_peak_resident, resident_bytes

_LIBRARIES = (
    "torchvision",
    "higher",
    "torchopt",
    "torchtext",
    "sacrebleu",
    "pandas",
    "pytest-benchmark",
    "safetensors",
)
_LITTLE_SPACE = 2 << 30


@dataclass(frozen=True)
class Finding:
    """The answer to one question, and what to do about it where it is not ``ok``."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    advice: str = ""


def examine(run_root: Path) -> list[Finding]:
    """Every finding about this machine and this installation; runs would be kept below ``run_root``."""
    questions: tuple[Callable[[], Finding], ...] = (
        _python,
        _torch,
        _libraries,
        _gpu,
        _cpp_compiler,
        _triton,
        _memory_meter,
        _clock,
        _parent_death,
        _load,
        lambda: _disk(run_root),
        _data,
    )
    return [_asked(question) for question in questions] + list(_registered())


def _asked(question: Callable[[], Finding]) -> Finding:
    try:
        found = question()
    except Exception as error:
        name = getattr(question, "__name__", "?").strip("_<>").replace("_", " ")
        return Finding(name, "warn", without_home(f"{type(error).__name__}: {error}".splitlines()[0]))
    return Finding(found.name, found.state, without_home(found.detail), found.advice)


def _python() -> Finding:
    return Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))  # an older one could not import this


def _torch() -> Finding:
    try:
        import torch
        import torchvision
    except Exception as error:
        advice = "install torch and torchvision as a matching pair, from one source"
        return Finding("torch", "fail", f"does not import: {error}".splitlines()[0], advice)
    return Finding("torch", "ok", f"{torch.__version__}, torchvision {torchvision.__version__}")


def _libraries() -> Finding:
    found = {name: installed(name) for name in _LIBRARIES}
    missing = [name for name, version in found.items() if version is None]
    if missing:
        return Finding("libraries", "fail", f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return Finding("libraries", "ok", ", ".join(f"{name} {version}" for name, version in found.items()))


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("gpu", "ok", "none that torch can use: run with --device cpu")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return Finding("gpu", "ok", f"{', '.join(names)}; driver {gpu()['driver'] or 'unknown'}")


def _cpp_compiler() -> Finding:
    """By torch's own search, which reads ``CXX``: it is what compiles steps for a CPU."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    name = "C++ compiler"
    try:
        return Finding(name, "ok", f"{get_cpp_compiler()}, for engine=compiled on the CPU")
    except InvalidCxxCompiler:
        advice = "install g++, or name one by CXX: without it engine=compiled goes in plain torch on the CPU"
        return Finding(name, "warn", "none that works", advice)


def _triton() -> Finding:
    """What compiles steps for a GPU."""
    import torch

    try:
        version = importlib.import_module("triton").__version__
    except ImportError as error:
        if not torch.cuda.is_available():
            return Finding("triton", "ok", "not installed, and no GPU that would need it")
        advice = "pip install triton: without it engine=compiled goes in plain torch on the GPU"
        return Finding("triton", "warn", f"does not import: {error}".splitlines()[0], advice)
    return Finding("triton", "ok", f"{version}, for engine=compiled on a GPU")


def _memory_meter() -> Finding:
    """Whether VmHWM can be read, sees a block that was held for a moment, and forgets it when it is reset."""
    size = 64 << 20
    block = bytearray(b"x" * size)
    seen = peak_resident_bytes()
    del block
    reset_peak_resident()
    peak, now = peak_resident_bytes(), resident_bytes()
    if seen is None or peak is None or now is None:
        return Finding(
            "memory meter", "warn", "/proc/self/status does not tell resident sizes", "memory is not measured"
        )
    if peak > seen - size // 2:
        return Finding("memory meter", "warn", "the peak cannot be reset", "peaks count from a process's start")
    return Finding("memory meter", "ok", "VmHWM, reset per phase")


def _clock() -> Finding:
    resolution = time.get_clock_info("perf_counter").resolution
    detail = f"perf_counter, {resolution:.0e} s"
    if resolution > 1e-6:
        return Finding("clock", "warn", detail, "short phases cannot be told apart")
    return Finding("clock", "ok", detail)


def _parent_death() -> Finding:
    if hasattr(os, "pidfd_open"):  # Linux
        return Finding("orphans", "ok", "workers die with their parent (PR_SET_PDEATHSIG)")
    return Finding("orphans", "warn", "workers look for their parent twice a second", "a worker may outlive it so long")


def _load() -> Finding:
    cores = os.cpu_count() or 1
    load = os.getloadavg()[0]
    detail = f"{cpu_model()}, {cores} cores, load {load:.1f}"
    if load > 0.5 * cores:
        return Finding("load", "warn", detail, "something else is running: times will be noisy, compare by ratios")
    return Finding("load", "ok", detail)


def _disk(run_root: Path) -> Finding:
    place = next(path for path in (run_root.resolve(), *run_root.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < _LITTLE_SPACE:
        return Finding("disk", "warn", f"{free / 2**30:.1f} GiB free", "gradients and logs may not fit")
    return Finding("disk", "ok", f"{free / 2**30:.0f} GiB free")


def _data() -> Finding:
    root = data_root()
    said = f"{VARIABLE} names {root}" if os.environ.get(VARIABLE) else f"{root}, as {VARIABLE} is not set"
    sets = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    held = f": {', '.join(sets)}" if sets else ": empty; digits need nothing, `l2t-bench prepare mnist` brings MNIST"
    return Finding("data root", "ok", said + held)


def _registered() -> Iterator[Finding]:
    """Names that do not load, ours and plug-ins'; one that raises must not hide the others."""
    from l2t_bench import registry

    groups: tuple[tuple[str, Callable[[], list[str]], Callable[[str], object]], ...] = (
        ("backends", registry.list_backends, registry.backend_class),
        ("problems", registry.list_problems, registry.problem_class),
        ("losses", registry.list_losses, registry.loss_class),
        ("suites", registry.list_suites, registry.load_suite),
    )
    for kind, names, load in groups:
        try:
            listed = names()
        except UserError as error:
            yield Finding(kind, "warn", without_home(str(error)))
            continue
        broken = [why for name in listed if (why := _why_not(load, name))]
        yield from (Finding(kind, "warn", without_home(why)) for why in broken)
        if not broken:
            yield Finding(kind, "ok", ", ".join(listed))


def _why_not(load: Callable[[str], object], name: str) -> str:
    try:
        load(name)
    except Exception as error:
        return f"{name}: {error}".splitlines()[0]
    return ""
