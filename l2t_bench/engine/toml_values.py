"""Values of a TOML file, each held to the kind that its key wants: a reader raises ``UserError`` that names the key."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean
from l2t_bench.units import seconds, size

Reader = Callable[[str, Any], Any]
_Read = TypeVar("_Read", int, float)


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises ``UserError`` for one that is not there, cannot be read, or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error


def check_keys(content: Iterable[str], known: Iterable[str], where: str = "") -> None:
    """Raises ``UserError`` for a key that is not known, with the nearest that is, or all."""
    names_known = list(known)
    for key in content:
        if key not in names_known:
            hint = did_you_mean(key, names_known) or f"; there are {', '.join(names_known)}"
            raise UserError(f"{where}unknown key {key!r}{hint}")


def either(key: str, value: Any, kinds: tuple[type, ...], what: str) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise UserError(f"{key} must be {what}, not {value!r}")
    return value


def text(key: str, value: Any) -> str:
    return str(either(key, value, (str,), "text"))


def whole(key: str, value: Any) -> int:
    return int(either(key, value, (int,), "a whole number"))


def at_least(least: int) -> Reader:
    """The reader of a whole number that is not smaller."""

    def read(key: str, value: Any) -> int:
        if whole(key, value) < least:
            raise UserError(f"{key} must be at least {least}, not {value}")
        return int(value)

    return read


def choice(*choices: str) -> Reader:
    """The reader of one of several words."""

    def read(key: str, value: Any) -> str:
        if text(key, value) not in choices:
            raise UserError(f"{key} must be one of {', '.join(choices)}, not {value!r}{did_you_mean(value, choices)}")
        return str(value)

    return read


def truth(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{key} must be true or false, not {value!r}")
    return value


def names(key: str, value: Any) -> tuple[str, ...]:
    return tuple(text(f"{key}: an entry", name) for name in either(key, value, (list,), "a list of names"))


def table(key: str, value: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = either(key, value, (dict,), "a table")
    return found


def duration(key: str, value: Any) -> float:
    """Seconds, of ``20m`` or a number."""
    return _read(key, seconds, plain(either(key, value, (str, int, float), "a duration such as '20m'")))


def byte_size(key: str, value: Any) -> int:
    """Bytes, of ``8GB`` or a number."""
    return _read(key, size, str(either(key, value, (str, int), "a size such as '8GB'")))


def _read(key: str, reader: Callable[[str], _Read], written: str) -> _Read:
    try:
        return reader(written)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def plain(number: float | str) -> str:
    """A number's digits, no more than it has and without an exponent, as ``seconds`` reads them; text as it is."""
    return number if isinstance(number, str) else format(Decimal(str(number)).normalize(), "f")
