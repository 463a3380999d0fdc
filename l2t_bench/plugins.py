"""Others' backends, problems, losses and suites: those of installed packages, by entry points, and those in files.

Entry-point groups: ``l2t_bench.backends``, ``l2t_bench.problems``, ``l2t_bench.losses``, ``l2t_bench.suites``. Python
files: ``--plugin FILE``, with names that join ours, and those that names such as ``a/mine.py:Mine`` lead to.
Environment variables hand both on to the processes that a run starts. In a run a file is known by its name without
folders: no two may share one.
"""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from l2t_bench.engine.environment import installed, source_of
from l2t_bench.engine.suite import Suite
from l2t_bench.errors import UserError

PLUGINS = "L2T_BENCH_PLUGINS"  # the environment variables: files, as in PATH
FILES = "L2T_BENCH_FILES"


def installed_entries(group: str) -> dict[str, str]:
    """Name -> ``module:attribute`` of what installed packages offer; the first of several of one name."""
    return {point.name: point.value for point in reversed(_points(group))}


def installed_twice(group: str, own: Iterable[str]) -> list[str]:
    """Names that an installed package offers and that are taken, ours or another's: a line each. They are left out."""
    seen, told = dict.fromkeys(own, "ours"), []
    for point in _points(group):
        if point.name in seen:
            told.append(f"{_offered_by(point)} offers {point.name!r}, which is {seen[point.name]}: left out")
        seen.setdefault(point.name, f"{_offered_by(point)}'s")
    return told


def missing_of(group: str, name: str) -> str | None:
    """What an installed package's entry needs that is not installed, without importing anything."""
    point = next((point for point in _points(group) if point.name == name), None)
    if point is None:
        return None
    module = point.value.rpartition(":")[0]
    if source_of(module) is None and module not in sys.modules:
        return module
    needed = (_required_name(line) for line in (point.dist.requires or () if point.dist else ()))
    return next((library for library in needed if library and installed(library) is None), None)


def _points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=f"l2t_bench.{group}"), key=lambda point: (point.name, point.value))


def _offered_by(point: EntryPoint) -> str:
    return f"the installed package {point.dist.name}" if point.dist else f"the installed {point.value}"


def _required_name(line: str) -> str | None:
    """The library of a line such as ``jax>=0.4; python_version > "3"``; ``None`` for what only an extra needs."""
    requirement, _, marker = line.partition(";")
    match = re.match(r"[\w.-]+", requirement.strip())
    return match[0] if match and "extra" not in marker else None


# -- files


def plugin_files() -> list[str]:
    """The Python files that ``L2T_BENCH_PLUGINS`` names, and so does ``--plugin``, for this process and its workers."""
    return _listed(PLUGINS)


def _listed(variable: str) -> list[str]:
    return [name for name in os.environ.get(variable, "").split(os.pathsep) if name]


def add_plugins(files: Iterable[str]) -> None:
    """Have the backends, problems and suites of these files join ours, in this process and those that it starts.

    Raises ``UserError`` for a file that is not there, and for two that are called the same.
    """
    _add(PLUGINS, files)


def add_files(files: Iterable[str]) -> None:
    """Have names such as ``mine.py:Mine`` mean these files, here and in processes that this one starts.

    Raises ``UserError`` as ``add_plugins`` does.
    """
    _add(FILES, files)


def _add(variable: str, files: Iterable[str]) -> None:
    paths = [str(Path(name).expanduser().resolve()) for name in files]
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"there is no file {path}")
    known = {*_known_files(), *paths}
    for path in known:
        _only(known, Path(path).stem)
    os.environ[variable] = os.pathsep.join(dict.fromkeys([*_listed(variable), *paths]))


def known_file(name: str) -> str | None:
    """The file of the user's that ``mine``, or ``mine.py``, means in this run. Raises ``UserError`` for one of two."""
    return _only(_known_files(), name.removesuffix(".py"))


def _known_files() -> set[str]:
    return {str(Path(name).resolve()) for name in (*plugin_files(), *_listed(FILES))}


def _only(files: Iterable[str], stem: str) -> str | None:
    """The file of that name. Raises ``UserError`` where there are several: a run could not tell their code apart."""
    found = sorted(name for name in files if Path(name).stem == stem)
    if len(found) > 1:
        raise UserError(f"{found[0]} and {found[1]} are called the same: rename one, its name is what results keep")
    return found[0] if found else None


def file_entries(group: str, taken: Iterable[str]) -> dict[str, str]:
    """Name -> ``FILE.py:ATTRIBUTE`` of what the plug-in files define; it imports them.

    Backends and suites are told by their ``name``, problems and losses by a mapping ``PROBLEMS`` or ``LOSSES`` of
    names to classes. Raises ``UserError`` for a file that does not import, and for a name that is ``taken`` or defined
    twice.
    """
    found: dict[str, str] = {}
    taken = set(taken)
    for path in plugin_files():
        for name, attribute in _defined(group, import_file(path)):
            if name in taken or name in found:
                whose = "taken" if name in taken else f"also in {found[name].rpartition(':')[0]}"
                raise UserError(f"{path} defines {name!r} among {group}, a name that is {whose}: give it another")
            found[name] = f"{path}:{attribute}"
    return found


def _defined(group: str, module: ModuleType) -> Iterator[tuple[str, str]]:
    """Names with the attribute that each stands for."""
    if group in ("problems", "losses"):
        yield from ((name, made.__name__) for name, made in getattr(module, group.upper(), {}).items())
        return
    for attribute, value in vars(module).items():
        name = getattr(value, "name", None)
        if group == "suites" and isinstance(value, Suite):
            yield value.name, attribute
        elif group == "backends" and isinstance(name, str) and _is_backend_of(module, value):
            yield name, attribute


def _is_backend_of(module: ModuleType, value: object) -> bool:
    """Whether ``value`` is a backend that the file defines, not one that it imports."""
    return isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "teacher_gradient")


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
    except (Exception, SystemExit) as error:  # a script that ends by itself must not end us, with its own exit code
        del sys.modules[name]
        raise UserError(f"{path} does not import: {type(error).__name__}: {error}") from error
    return module
