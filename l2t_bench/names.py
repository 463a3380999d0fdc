"""One grammar for backends, problems and suites: ``name[key=value,key=value]``, the keys a dataclass's fields."""

import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from l2t_bench.errors import UnknownNameError, UserError

_SPEC = re.compile(r"(?P<name>[^\[\]]+?)\s*(?:\[(?P<options>[^\[\]]*)\])?")


def split_spec(spec: str) -> tuple[str, dict[str, str]]:
    """``"rmd[store=all]"`` -> ``("rmd", {"store": "all"})``. Raises ``UserError`` for another form."""
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise UserError(f"{spec!r} is not of the form name[option=value,option=value]")
    options: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in (match["options"] or "").split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (equals and key and value):
            raise UserError(f"{part!r} in {spec!r} is not of the form option=value")
        if key in options:
            raise UserError(f"option {key!r} stands twice in {spec!r}")
        options[key] = value
    return match["name"].strip(), options


def write_spec(name: str, options: Mapping[str, str]) -> str:
    """``split_spec`` undone, in one form: options in the order of their names, no blanks."""
    written = ",".join(f"{key}={value}" for key, value in sorted(options.items()))
    return f"{name}[{written}]" if written else name


def with_file(spec: str, written: Callable[[Path], object]) -> str:
    """``"a/mine.py:Mine[option=1]"`` with its file as ``written`` gives it; a name that is no file's as it is."""
    if ".py:" not in spec:
        return spec
    name, options = split_spec(spec)
    file, _, attribute = name.rpartition(":")
    return write_spec(f"{written(Path(file))}:{attribute}", options) if file.endswith(".py") else spec


def file_of(spec: str) -> str | None:
    """The file in ``"a/mine.py:Mine[option=1]"``; ``None`` for a name that is no file's."""
    found: list[Path] = []
    with_file(spec, found.append)
    return str(found[0]) if found else None


def absolute(file: Path) -> Path:
    """Where a file is, from here, with the home directory for ``~``."""
    return file.expanduser().resolve()


def split_list(text: str) -> list[str]:
    """Specs separated by commas, those inside brackets belonging to their spec: ``"rmd,truncated[window=5]"``."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", text) if part.strip()]


def make(cls: type, name: str, options: dict[str, str]) -> Any:
    """``cls(**options)`` for a dataclass whose fields are the options, each converted to its annotated type.

    Raises ``UserError`` naming the known options for one that does not exist, and the choices for a wrong value.
    """
    if not is_dataclass(cls):  # a plug-in without options need not be one
        if options:
            raise UserError(f"{name} has no option {next(iter(options))!r}; it has no options")
        return cls()
    hints = typing.get_type_hints(cls)
    known = [option.name for option in fields(cls) if option.init]
    for key in options:
        if key not in known:
            listed = f"its options are {', '.join(known)}" if known else "it has no options"
            raise UserError(f"{name} has no option {key!r}{did_you_mean(key, known)}; {listed}")
    values = {key: _convert(text, hints[key], f"{name}: {key}") for key, text in options.items()}
    return cls(**values)


def check_counts(made: object, name: str) -> None:
    """Raises ``UserError`` for a field of a dataclass that is annotated as whole number, and holds none.

    From text nothing else can come; in Python ``window=2.5`` would be taken, and cut somewhere on the way. What the
    annotation has beside a whole number (``int | str``) may stand there.
    """
    hints = typing.get_type_hints(type(made))
    for option in fields(made) if is_dataclass(made) else ():
        value, kinds = getattr(made, option.name), (hints[option.name], *typing.get_args(hints[option.name]))
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        others = tuple(kind for kind in kinds if isinstance(kind, type) and kind is not int)
        if int in kinds and not whole and not isinstance(value, others):
            raise UserError(f"{name}: {option.name} must be a whole number, not {value!r}")


def describe_options(cls: type) -> dict[str, Any]:
    """Option name -> default, in order."""
    if not is_dataclass(cls):
        return {}
    return {option.name: None if option.default is MISSING else option.default for option in fields(cls) if option.init}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'rmd'?"`` when something known is near, else nothing."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f": did you mean {near[0]!r}?" if near else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that no entry has."""
    names = sorted(known)
    hint = did_you_mean(name, names) or f"; there are {', '.join(names)}"
    return UnknownNameError(f"no {kind} {name!r}{hint}")


def finite_number(text: str, kind: type[int] | type[float], what: str) -> int | float:
    """``text`` as a whole (``int``) or a finite (``float``) number. Raises ``UserError`` that begins with ``what``."""
    try:
        value = kind(text)
        finite = math.isfinite(value)
    except (ValueError, OverflowError):  # not a number; one of more digits than a float can have
        finite = False
    if not finite:
        raise UserError(f"{what} must be {'a whole' if kind is int else 'a finite'} number, not {text!r}")
    return value


def _convert(text: str, hint: Any, what: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is Literal:
        choices = typing.get_args(hint)
        for choice in choices:
            if text == str(choice):
                return choice
        raise UserError(
            f"{what} must be one of {', '.join(map(str, choices))}, not {text!r}{did_you_mean(text, map(str, choices))}"
        )
    if origin in (typing.Union, types.UnionType):
        return _convert_union(text, typing.get_args(hint), what)
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UserError(f"{what} must be true or false, not {text!r}")
    if hint in (int, float):
        return finite_number(text, hint, what)
    return text


def _convert_union(text: str, hints: tuple[Any, ...], what: str) -> Any:
    if types.NoneType in hints and text.lower() == "none":
        return None
    failures = []
    for hint in hints:
        if hint is types.NoneType:
            continue
        try:
            return _convert(text, hint, what)
        except UserError as error:
            failures.append(error)
    raise failures[-1]
