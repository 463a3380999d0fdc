"""Where a run ran: machine, libraries, flags and code. No user name, no host name, no home directory."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_LIBRARIES = (
    "torch",
    "higher",
    "torchopt",
    "torchvision",
    "torchtext",
    "sacrebleu",
    "pandas",
    "pytest-benchmark",
    "numpy",
    "scikit-learn",
)
_FLAGS = ("CUBLAS_WORKSPACE_CONFIG", "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE", "PYTHONHASHSEED", "MKL_CBWR")
_PACKAGE = Path(__file__).resolve().parents[1]


def environment(device: str, threads: int) -> dict[str, Any]:
    """What a result needs beside it to be understood, as far as it can be told without importing torch."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": _memory_bytes(),
        "threads": threads,
        "device": device,
        **(gpu(device) if device.startswith("cuda") else {"gpu": None, "driver": None}),
        "torch": installed("torch"),
        "libraries": {name: installed(name) for name in _LIBRARIES},
        "flags": {name: os.environ[name] for name in _FLAGS if name in os.environ},
        **git_state(),
    }


def torch_settings(device: str = "cpu") -> dict[str, Any]:
    """How torch is set in this process: build, threads, determinism, precision, the card in use. Imports torch."""
    import torch

    from l2t_bench.precision import matmul_precision, tf32_convolutions

    on_card = device.startswith("cuda") and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        **({"gpu": torch.cuda.get_device_name(device)} if on_card else {}),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,  # type: ignore[no-untyped-call]
        "torch_threads": torch.get_num_threads(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32_matmul": matmul_precision() != "highest",
        "tf32_cudnn": tf32_convolutions(),
        "float32_matmul_precision": matmul_precision(),
    }


def fingerprint(sources: Iterable[Path]) -> str:
    """A hash of the package's own sources, command line and reports left out, and of ``sources``."""
    package = sorted(path for path in _PACKAGE.rglob("*.py") if "cli" not in path.parts[len(_PACKAGE.parts) :])
    digest = hashlib.sha256()
    for name, path in [(str(path.relative_to(_PACKAGE)), path) for path in package] + [
        (path.name, path) for path in sorted(set(sources))
    ]:
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def source_of(module: str) -> Path | None:
    """The file of a module; neither it nor the packages around it are imported. ``None`` where it cannot be told."""
    found, path, name = None, None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        found = _spec_of(name, path)
        if found is None:
            return None
        path = found.submodule_search_locations
    return Path(found.origin) if found and found.origin and Path(found.origin).is_file() else None


def _spec_of(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """What the first finder of the import system knows of ``name``, a submodule being looked for in ``path``."""
    known = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next(filter(None, known), None)


def installed(name: str) -> str | None:
    """A distribution's version, ``None`` where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def gpu(device: str = "cuda", environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """The name of the GPU that ``cuda`` or ``cuda:N`` stands for, and its driver, as its own tool says.

    ``None`` where there is no such tool, or where what ``CUDA_VISIBLE_DEVICES`` leaves has no such card.
    """
    told = _output("nvidia-smi", "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader") or ""
    cards = [card for line in told.splitlines() if len(card := line.split(", ")) == 4]
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        wanted = [entry.strip() for entry in visible.split(",") if entry.strip()]
        cards = [card for entry in wanted for card in cards if entry == card[0] or card[1].startswith(entry)]
    number = int(device.partition(":")[2] or 0)
    _, _, name, driver = cards[number] if number < len(cards) else ("", "", "", "")
    return {"gpu": name or None, "driver": driver or None}


def git_state() -> dict[str, Any]:
    """The commit of the checkout that the package is imported from, and whether it was changed since.

    A package that was installed has none, also where it lies inside somebody's checkout.
    """
    if not (_PACKAGE.parent / "pyproject.toml").is_file():
        return {"commit": None, "dirty": None}
    commit = _output("git", "-C", str(_PACKAGE), "rev-parse", "--short", "HEAD")
    changes = _output("git", "-C", str(_PACKAGE), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes) if commit else None}


def without_home(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """``text`` with this user's home directory written as ``~``: a result says nothing about who made it."""
    home = environ.get("HOME", "").rstrip("/")
    return re.sub(rf"{re.escape(home)}(?![\w.-])", "~", text) if len(home) > 1 else text


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
