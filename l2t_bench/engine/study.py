"""A study: all that a user asks of a run, from the command line or a TOML file, with strict keys."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from l2t_bench.engine.toml_values import (
    Reader,
    byte_size,
    check_keys,
    duration,
    either,
    names,
    plain,
    read_toml,
    table,
    text,
    whole,
)
from l2t_bench.errors import UserError
from l2t_bench.names import absolute, file_of, split_spec, with_file, write_spec
from l2t_bench.registry import list_launchers

SCHEMA = 1
_SPECS = ("suites", "backends", "problems")  # of a study: what may be named by a file
Overrides = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Study:
    """Suites with what is changed of them. What is empty or ``None`` is the suites' own.

    ``backends`` and ``problems`` replace the suites' own; ``overrides`` replaces settings of cells by their kind, such
    as ``{"gradient": {"horizons": [20]}}``; ``plugins`` are Python files with backends, problems or suites. Names of a
    file's, ``mine.py:Mine``, have its absolute path here; in the cells they have none. ``launcher`` says where cells
    are run; ``launchers`` has the settings of each by its name, which in a file are tables of these names.
    Raises ``UserError`` for values that make no sense.
    """

    suites: tuple[str, ...]
    profile: str | None = None
    backends: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    rounds: int = 1
    device: str = "cpu"
    threads: int = 1
    timeout: float = 1200.0  # seconds, of one cell
    memory_limit: int | None = None  # bytes, of one cell: on the host, and on the device
    overrides: Overrides = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    launcher: str = "local"
    launchers: Overrides = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _SPECS:
            object.__setattr__(self, name, tuple(with_file(spec, absolute) for spec in getattr(self, name)))
        if not self.suites:
            raise UserError("name a suite; `l2t-bench list suites` shows them")
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.timeout < math.inf:
            raise UserError(f"timeout must be a positive number of seconds, not {self.timeout:g}")
        if self.memory_limit is not None and self.memory_limit < 1:
            raise UserError("memory_limit must be positive")
        for kind, settings in self.overrides.items():
            for key, value in settings.items():
                if not _is_data(value):
                    raise UserError(
                        f"overrides.{kind}: {key} must be of numbers, text, lists and tables, not {value!r}"
                    )
        for name in ("suites", "backends", "problems", "seeds"):
            values = getattr(self, name)
            if twice := sorted({str(value) for value in values if values.count(value) > 1}):
                raise UserError(f"{name}: {twice[0]} stands twice, which would be the same cell twice")

    @property
    def files(self) -> tuple[str, ...]:
        """The files that suites, backends and problems are named by."""
        named = (file_of(spec) for name in _SPECS for spec in getattr(self, name))
        return tuple(dict.fromkeys(file for file in named if file is not None))

    def as_json(self) -> dict[str, Any]:
        """The study as plain data, from which ``Study.of`` makes it again."""
        return asdict(self)

    @staticmethod
    def of(said: Mapping[str, Any]) -> "Study":
        """A study from what ``as_json`` gave."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in said.items()
        }
        return Study(**values)


def _is_data(value: Any) -> bool:
    """Whether JSON has it: a TOML file can also say dates, and numbers that are none."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_data(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_data, value))
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def seed_list(seeds: int | list[int]) -> tuple[int, ...]:
    """``5`` means the seeds 0 to 4. Raises ``UserError`` for none at all."""
    if isinstance(seeds, int):
        if seeds < 1:
            raise UserError(f"seeds must be at least 1, not {seeds}")
        return tuple(range(seeds))
    if not seeds:
        raise UserError("seeds: the list is empty")
    return tuple(seeds)


# -- as a TOML file


def read_study(path: Path) -> Study:
    """The study in a TOML file. Raises ``UserError`` naming the key that is unknown, missing or wrong."""
    content = read_toml(path)
    try:
        return _study(content, path.parent.resolve())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def read_launchers(path: Path) -> Overrides:
    """The launchers' tables in a TOML file that holds nothing else. Raises ``UserError``."""
    content = read_toml(path)
    try:
        tables, others = _launchers_apart(content)
        check_keys(others, list_launchers())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return tables


def write_study(study: Study, folder: Path) -> str:
    """The study as TOML that stands in ``folder``; ``read_study`` gives it back."""
    import tomli_w

    said: dict[str, Any] = {"schema": SCHEMA, **study.as_json(), "timeout": f"{plain(study.timeout)}s"}
    said["memory_limit"] = None if study.memory_limit is None else f"{study.memory_limit}B"
    for key in _SPECS:
        said[key] = [with_file(spec, lambda file: _portable(file, folder)) for spec in getattr(study, key)]
    said["plugins"] = [_portable(Path(name), folder) for name in study.plugins]
    said |= said.pop("launchers")
    kept = {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()}
    head = "# What this run was asked for. `l2t-bench run --config FILE` repeats it.\n"
    return head + tomli_w.dumps({key: value for key, value in kept.items() if value not in (None, [], {})})


def _study(content: dict[str, Any], folder: Path) -> Study:
    tables, content = _launchers_apart(content)
    check_keys(content, ["schema", *(entry.name for entry in fields(Study) if entry.name != "launchers")])
    if content.get("schema", SCHEMA) != SCHEMA:
        raise UserError(f"has schema {content['schema']!r}, this version reads {SCHEMA}")
    if "suites" not in content:
        raise UserError("the key 'suites' is missing: suites = [\"quick\"]")
    readers: dict[str, Reader] = {
        "suites": lambda key, value: _located(names(key, value), folder),
        "profile": text,
        "backends": lambda key, value: _located(_specs(key, value), folder),
        "problems": lambda key, value: _located(_specs(key, value), folder),
        "seeds": _seeds,
        "rounds": whole,
        "device": text,
        "threads": whole,
        "timeout": duration,
        "memory_limit": byte_size,
        "overrides": _overrides,
        "launcher": text,
        "plugins": lambda key, value: tuple(_resolved(name, folder) for name in names(key, value)),
    }
    values = {key: readers[key](key, value) for key, value in content.items() if key != "schema"}
    return Study(**values, launchers=tables)


def _launchers_apart(content: Mapping[str, Any]) -> tuple[Overrides, dict[str, Any]]:
    """The launchers' tables by their names, and all else."""
    known = list_launchers()
    tables = {name: table(name, value) for name, value in content.items() if name in known}
    return tables, {key: value for key, value in content.items() if key not in tables}


def _seeds(key: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, list):
        return seed_list([whole("seeds: an entry", seed) for seed in value])
    return seed_list(int(either(key, value, (int,), "a number of seeds, or a list of them")))


def _specs(key: str, value: Any) -> tuple[str, ...]:
    """Names with options: ``"truncated[window=5]"``, or ``{name = "truncated", window = 5}``."""
    entries = either(key, value, (list,), "a list of names")
    return tuple(_spec(key, entry) for entry in entries)


def _spec(key: str, entry: Any) -> str:
    if isinstance(entry, str):
        return write_spec(*split_spec(entry))
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise UserError(f'{key}: an entry is a name, or {{name = "...", option = value}}, not {entry!r}')
    options = {option: _option(key, option, value) for option, value in entry.items() if option != "name"}
    return write_spec(entry["name"], options)


def _option(key: str, option: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise UserError(f"{key}: option {option} must be text or a number, not {value!r}")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _overrides(key: str, value: Any) -> Overrides:
    tables: dict[str, Any] = either(key, value, (dict,), "a table of tables, such as [overrides.gradient]")
    return {kind: table(f"{key}.{kind}", settings) for kind, settings in tables.items()}


def _located(specs: Sequence[str], folder: Path) -> tuple[str, ...]:
    return tuple(with_file(spec, lambda file: _resolved(str(file), folder)) for spec in specs)


def _resolved(name: str, folder: Path) -> str:
    return str((folder / Path(name).expanduser()).resolve())


def _portable(path: Path, folder: Path) -> str:
    """``path`` as seen from ``folder``; one in the home directory of somebody names neither it nor them."""
    home, seen = Path.home(), os.path.relpath(path, folder)
    if path.is_relative_to(home) and not folder.resolve().is_relative_to(home):
        return f"~/{path.relative_to(home)}"
    return seen


def folder_name(study: Study) -> str:
    """What a run's folder is called where nobody says: the suites, and the profile where one was asked for."""
    names = [Path(name.partition(".py:")[0]).name for name in study.suites]
    return "-".join([*names, *([study.profile] if study.profile and study.profile not in names else [])])
