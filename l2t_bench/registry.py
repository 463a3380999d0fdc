"""Names -> what they stand for: our backends, problems and suites, those of installed plug-ins, and those in a file.

Entries are "module:attribute" strings, so that listing imports nothing. Others join through the entry-point groups
``l2t_bench.backends``, ``l2t_bench.problems`` and ``l2t_bench.suites``, or by a file: ``path/to/file.py:Attribute``.
"""

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from l2t_bench.engine.environment import installed, source_of
from l2t_bench.engine.suite import Suite
from l2t_bench.errors import UserError
from l2t_bench.names import make, split_spec, unknown

if TYPE_CHECKING:
    import torch

    from l2t_bench.gradient import TeacherGradientBackend
    from l2t_bench.problem import TeachingProblem

BACKENDS: Mapping[str, str] = MappingProxyType(
    {
        "rmd": "l2t_bench.backends.rmd:ManualRMD",
        "truncated": "l2t_bench.backends.truncated:TruncatedRMD",
        "higher": "l2t_bench.backends.higher_unroll:HigherUnroll",
        "torchopt": "l2t_bench.backends.torchopt_unroll:TorchOptUnroll",
        "torchopt-implicit": "l2t_bench.backends.torchopt_implicit:TorchOptImplicit",
        "functorch": "l2t_bench.backends.functorch_vjp:FunctorchVJP",
    }
)
PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "digits/mlp": "l2t_bench.problems:DigitsMLP",
        "digits/lenet": "l2t_bench.problems:DigitsLeNet",
        "mnist/mlp": "l2t_bench.problems:MnistMLP",
        "mnist/lenet": "l2t_bench.problems:MnistLeNet",
    }
)
SUITES: Mapping[str, str] = MappingProxyType({"quick": "l2t_bench.suites.quick:SUITE"})


_NEEDS: Mapping[str, str] = MappingProxyType(
    {"higher": "higher", "torchopt": "torchopt", "torchopt-implicit": "torchopt"}
)
PLUGINS = "L2T_BENCH_PLUGINS"  # the environment variable


def list_backends() -> list[str]:
    """The names that ``load_backend`` knows: ours in their order, then plug-ins'."""
    return list(_entries("backends", BACKENDS))


def list_problems() -> list[str]:
    """The names that ``build_problem`` knows."""
    return list(_entries("problems", PROBLEMS))


def list_suites() -> list[str]:
    """The names that ``load_suite`` knows."""
    return list(_entries("suites", SUITES))


def missing_library(backend: str) -> str | None:
    """What a backend needs that is not installed, without importing anything; ``None`` where nothing is known to be."""
    needed = _NEEDS.get(backend)
    if needed is not None:
        return None if installed(needed) else needed
    module = _entries("backends", BACKENDS).get(backend, "").rpartition(":")[0]
    return None if not module or module.endswith(".py") or source_of(module) else module


def load_backend(spec: str) -> "TeacherGradientBackend":
    """A backend by name with options, ``"truncated[window=5]"``, or ``"file.py:Class[option=value]"``.

    Raises ``UserError`` for an unknown name (with the nearest known one), an option that the backend does not have
    (with those it has), a library that is not installed, or an object that is not a backend.
    """
    from l2t_bench.gradient import TeacherGradientBackend

    name, options = split_spec(spec)
    backend = make(backend_class(name), name, options)
    if not isinstance(backend, TeacherGradientBackend):
        raise UserError(f"{name} is not a backend: it lacks name, capabilities, supports, predict or teacher_gradient")
    return backend


def backend_class(name: str) -> type:
    """The class behind a backend's name, its options being its fields."""
    return _class("backend", name, _entries("backends", BACKENDS))


def problem_class(name: str) -> type:
    """The class behind a problem's name, its options being its fields."""
    return _class("problem", name, _entries("problems", PROBLEMS))


def build_problem(spec: str, *, dtype: str = "float32", device: str = "cpu") -> "TeachingProblem":
    """A named problem with options, ``"mnist/lenet[batch=20,dev=1000]"``. Reads no data until it is needed.

    Raises ``UserError`` for unknown names, options, dtypes and devices.
    """
    import torch

    name, options = split_spec(spec)
    definition = make(problem_class(name), name, options)
    kind = getattr(torch, dtype, None)
    if kind not in (torch.float32, torch.float64):
        raise UserError(f"dtype must be float32 or float64, not {dtype!r}")
    problem: TeachingProblem = definition.build(spec, usable_device(device), kind)
    return problem


def usable_device(device: str) -> "torch.device":
    """``cpu``, ``cuda`` or ``cuda:N`` as torch's. Raises ``UserError`` for others, and where there is no such GPU."""
    import torch

    try:
        place = torch.device(device)
    except RuntimeError:
        place = torch.device("meta")  # a device to none of our uses, like some that torch does know
    if place.type not in ("cpu", "cuda"):
        raise UserError(f"no device {device!r}: give cpu, cuda or cuda:N")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: this machine has no GPU that torch can use")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {device}: this machine has {torch.cuda.device_count()} GPUs, numbered from 0")
    return place


def sources_of(method: str, problem: str, task: str) -> list[Path]:
    """The files that define a cell's method, problem and task, as far as they can be told without importing them.

    Our own problems and tasks are part of the package and need no mention.
    """
    targets = [task]
    for spec, group, own in ((method, "backends", BACKENDS), (problem, "problems", PROBLEMS)):
        name = split_spec(spec)[0]
        targets.append(_entries(group, own).get(name, name))
    modules = [target.rpartition(":")[0] for target in targets]
    files = [Path(name) if name.endswith(".py") else source_of(name) for name in modules if name]
    return [file for file in files if file is not None and file.is_file()]


def load_suite(name: str) -> Any:
    """A suite by name, or ``file.py:ATTRIBUTE``."""
    entries = _entries("suites", SUITES)
    if ".py:" not in name and name not in entries:
        raise unknown("suite", name, entries)
    return _resolve(entries.get(name, name), "suite", name)


def import_file(path: str) -> ModuleType:
    """The module in a Python file of the user's. Raises ``UserError`` where it is missing or does not import."""
    file = Path(path).resolve()
    if not file.is_file():
        raise UserError(f"there is no file {path}")
    name = f"l2t_bench_plugin_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses in the file look themselves up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module


def plugin_files() -> list[str]:
    """The Python files that ``L2T_BENCH_PLUGINS`` names, and so does ``--plugin``, for this process and its workers."""
    return [name for name in os.environ.get(PLUGINS, "").split(os.pathsep) if name]


def add_plugins(files: Iterable[str]) -> None:
    """Have the backends, problems and suites of these files join ours, in this process and those that it starts."""
    paths = [str(Path(name).expanduser().resolve()) for name in files]
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"there is no file {path}")
    os.environ[PLUGINS] = os.pathsep.join(dict.fromkeys([*plugin_files(), *paths]))


def _plugin_entries(group: str) -> dict[str, str]:
    """What the plug-in files define, by name: backends by their ``name``, suites likewise, problems in ``PROBLEMS``."""
    found = {}
    for path in plugin_files():
        module = import_file(path)
        for attribute, value in vars(module).items():
            defined_here = getattr(value, "__module__", None) == module.__name__
            if group == "backends" and isinstance(value, type) and defined_here and hasattr(value, "teacher_gradient"):
                if isinstance(name := getattr(value, "name", None), str):
                    found[name] = f"{path}:{attribute}"
            elif group == "suites" and isinstance(value, Suite):
                found[value.name] = f"{path}:{attribute}"
        if group == "problems":
            for name in getattr(module, "PROBLEMS", {}):
                found[name] = f"{path}:{module.PROBLEMS[name].__name__}"
    return found


def _entries(group: str, own: Mapping[str, str]) -> dict[str, str]:
    found = {point.name: point.value for point in entry_points(group=f"l2t_bench.{group}")} | _plugin_entries(group)
    taken = sorted(set(found) & set(own))
    if taken:
        raise UserError(f"an installed plug-in takes the name {taken[0]!r}, which is ours: uninstall or rename it")
    return {**own, **found}


def _class(kind: str, name: str, entries: Mapping[str, str]) -> type:
    if ".py:" not in name and name not in entries:
        raise unknown(kind, name, entries)
    found = _resolve(entries.get(name, name), kind, name)
    if not isinstance(found, type):
        raise UserError(f"{kind} {name!r} is not a class")
    return found


def _resolve(target: str, kind: str, name: str) -> Any:
    module_name, _, attribute = target.rpartition(":")
    if module_name.endswith(".py"):
        module = import_file(module_name)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise UserError(
                f"{kind} {name!r} needs {error.name}, which is not installed: pip install {error.name}"
            ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UserError(f"{kind} {name!r}: {module_name} has no {attribute}") from None
