"""A backend that was chosen for a problem, as the file ``backend.toml``: which one, why, where, with which versions."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import tomli_w

from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean, split_spec, write_spec

SCHEMA = 1
_MACHINE = ("cpu", "gpu", "cores", "threads", "platform", "device")


@dataclass(frozen=True)
class Choice:
    """A backend with its options, what it was chosen for, and what the choice rests on.

    ``options`` are as in ``truncated[window=10]``, values as text. ``machine`` is what times and memory depend on (cpu,
    gpu, cores, threads, platform, device), ``versions`` are those of Python and the libraries, by name.
    """

    name: str
    options: Mapping[str, str]
    problem: str
    horizon: int
    why: str
    machine: Mapping[str, str | int]
    versions: Mapping[str, str]

    @property
    def method(self) -> str:
        """As ``load_backend`` and ``-b`` take it: ``truncated[window=10]``."""
        return write_spec(self.name, self.options)

    def to_toml(self) -> str:
        """The text of ``backend.toml``; ``from_toml`` reads it."""
        content = {"schema": SCHEMA, **asdict(self)}
        tables = {key: content.pop(key) for key in ("options", "machine", "versions")}  # TOML has tables last
        return tomli_w.dumps(content | {key: dict(table) for key, table in tables.items()})


def choice_for(method: str, **beside: Any) -> Choice:
    """The choice of ``method``, a name with options; ``beside`` are the other fields. Raises ``UserError``."""
    name, options = split_spec(method)
    return Choice(name, options, **beside)


def machine_of(environment: Mapping[str, Any]) -> dict[str, str | int]:
    """What times and memory depend on, of an environment's record, as far as it tells it as text or whole numbers."""
    found = {name: environment.get(name) for name in _MACHINE}
    return {
        name: value for name, value in found.items() if isinstance(value, str | int) and not isinstance(value, bool)
    }


def versions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """The versions of Python, torch and the libraries in an environment's record."""
    libraries = environment.get("libraries")
    told = {"python": environment.get("python"), "torch": environment.get("torch")}
    known = told | (libraries if isinstance(libraries, dict) else {})
    return {str(name): value for name, value in known.items() if isinstance(value, str)}


def from_toml(text: str) -> Choice:
    """Read a ``backend.toml``. An option may be written as a number or truth value too: ``window = 10``.

    Whether there is such a backend with such options is ``load_backend``'s to say. Raises ``UserError`` for what is not
    TOML, a key that is missing, unknown or of another kind, and another schema.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"backend.toml is no TOML: {error}") from error
    if content.pop("schema", None) != SCHEMA:
        raise UserError(f"backend.toml must say schema = {SCHEMA}: write it anew with this version")
    for key in content:
        if key not in _FORM:
            raise UserError(f"backend.toml has no key {key!r}{did_you_mean(key, _FORM)}; it has {', '.join(_FORM)}")
    for key, (is_right, expected) in _FORM.items():
        if key not in content:
            raise UserError(f"backend.toml lacks {key!r}: {expected}")
        if not is_right(content[key]):
            raise UserError(f"backend.toml: {key} must be {expected}, not {content[key]!r}")
    options = {key: _option(value) for key, value in content["options"].items()}
    return Choice(**content | {"options": options})


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_horizon(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_table_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(isinstance(each, kinds) for each in value.values())


def _option(value: str | float | bool) -> str:
    """As it stands in ``name[option=value]``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


_FORM: Mapping[str, tuple[Callable[[Any], bool], str]] = MappingProxyType(
    {
        "name": (_is_text, "the backend's name"),
        "options": (_is_table_of(str, int, float, bool), "a table of options, by name"),
        "problem": (_is_text, "the problem's name"),
        "horizon": (_is_horizon, "a whole number of steps, 1 or more"),
        "why": (lambda value: isinstance(value, str), "what the choice rests on, as text"),
        "machine": (_is_table_of(str, int), "a table of texts and whole numbers, by name"),
        "versions": (_is_table_of(str), "a table of texts, by name"),
    }
)
