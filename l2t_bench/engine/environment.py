"""Where a run ran: machine, libraries and code. No user name, no host name, no home directory."""

import os
import platform
import subprocess
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


def environment(device: str, threads: int) -> dict[str, Any]:
    """What a result needs beside it to be understood; importing none of the libraries it names."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "gpu": gpu_model() if device.startswith("cuda") else None,
        "torch": installed("torch"),
        "libraries": {name: installed(name) for name in _LIBRARIES},
        **git_state(),
    }


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


def gpu_model() -> str | None:
    """The first GPU's name and driver, as its own tool says; ``None`` where there is no such tool."""
    return _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")


def git_state() -> dict[str, Any]:
    """The commit of the checkout that the package is imported from, and whether it was changed since."""
    package = Path(__file__).resolve().parent
    commit = _output("git", "-C", str(package), "rev-parse", "--short", "HEAD")
    changes = _output("git", "-C", str(package), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes) if commit else None}


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
