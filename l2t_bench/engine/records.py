"""Reading what a run has written, with mistrust: JSON of our schema and form, or a line that says what is wrong.

Nothing is unpickled, and no name found in a file leads out of the run's folder.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from l2t_bench.engine.cell import SCHEMA, Status, cell_id_of

Check = Callable[[Any], bool]
Form = Mapping[str, Check]  # key -> what its value must be; a key with "?" may be left out
_LARGEST_FILE = 256 << 20
_LONGEST_TAIL = 64 << 10  # bytes of a log that are looked at


class DamagedError(ValueError):
    """A file of a run that is not what the engine writes; the message is a line for the user."""


class OtherSchemaError(DamagedError):
    """A file that another version of the engine has written."""


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object of our schema. Raises ``DamagedError`` for anything else, ``FileNotFoundError`` for no file."""
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise DamagedError("is too large to be one of ours")
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise
    except DamagedError:
        raise
    except (ValueError, RecursionError) as error:
        raise DamagedError("is cut short or not JSON") from error
    except OSError as error:
        raise DamagedError(f"cannot be read ({error.strerror})") from error
    if not isinstance(content, dict):
        raise DamagedError("is not a JSON object")
    if content.get("schema") != SCHEMA:
        raise OtherSchemaError(f"has schema {content.get('schema')!r}, this version reads {SCHEMA}")
    return content


def read_cell(folder: Path, suite: str, cell_id: str, place: str = "") -> dict[str, Any]:
    """The ``cell.json`` of a cell of run ``folder``; of an attempt at it, where ``place`` names that one's folder.

    Raises ``DamagedError``, or ``FileNotFoundError`` for no result.
    A cell's name is made from its identity: a record whose identity gives another name was edited, or is another's.
    """
    record = read_json(inside(folder, "cells", suite, place or cell_id, "cell.json"))
    misfit = first_misfit(record, CELL)
    if misfit is not None:
        raise DamagedError(f"has {misfit!r} missing or of another form")
    if record["cell_id"] != cell_id or cell_id_of(record["identity"]) != cell_id:
        raise DamagedError("has an identity that is not the one its name stands for")
    return record


def inside(root: Path, *names: str) -> Path:
    """A path below ``root``. Raises ``DamagedError`` for a name that is not plain, or where a link leads out of it."""
    if not all(is_plain_name(name) for name in names):
        raise DamagedError("has a name that would lead out of the run's folder")
    path = root.joinpath(*names)
    if not path.resolve().is_relative_to(root.resolve()):
        raise DamagedError("leads out of the run's folder")
    return path


def log_tail(folder: Path, suite: str, cell_id: str, log: str, lines: int) -> list[str]:
    """The last ``lines`` of ``stdout.log`` or ``stderr.log`` of a cell; none where there is no such file."""
    try:
        with inside(folder, "cells", suite, cell_id, log).open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _LONGEST_TAIL))
            text = file.read().decode("utf-8", errors="replace")
    except (OSError, DamagedError):
        return []
    return text.splitlines()[-lines:]


# -- forms


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value))


def is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_count(value: Any) -> bool:
    return is_whole(value) and value >= 0


def is_duration(value: Any) -> bool:
    return is_number(value) and value >= 0


def is_object(value: Any) -> bool:
    return isinstance(value, dict)


def is_plain_name(value: Any) -> bool:
    """A name of a file or folder that stays where it is looked up."""
    return isinstance(value, str) and bool(re.fullmatch(r"[^/\\\x00:]{1,200}", value)) and value not in (".", "..")


def is_own_name(value: Any) -> bool:
    """The name of a problem or a method, ``digits/mlp[dev=100]``: no absolute path, and none that climbs."""
    if not isinstance(value, str) or not value or "\\" in value or value[0] in "/~":
        return False
    return ".." not in re.split(r"[/=,\[\]]", value) and not re.search(r"[=,\[]\s*[/~]|^[A-Za-z]:", value)


def or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def fits(form: Form) -> Check:
    return lambda value: isinstance(value, dict) and first_misfit(value, form) is None


def list_of(form: Form) -> Check:
    return lambda value: isinstance(value, list) and all(map(fits(form), value))


def some_of(form: Form) -> Check:
    return lambda value: bool(value) and list_of(form)(value)


def first_misfit(record: Mapping[str, Any], form: Form) -> str | None:
    """The first key that is missing or of another kind than the form says."""
    for key, check in form.items():
        name = key.removesuffix("?")
        if name not in record:
            if name == key:
                return name
        elif not check(record[name]):
            return name
    return None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


IDENTITY: Form = {
    "suite": is_plain_name,
    "suite_version": is_whole,
    "profile": is_plain_name,
    "kind": is_plain_name,
    "problem": is_own_name,
    "method": is_own_name,
    "seed": is_whole,
    "round": is_count,
    "dtype": is_plain_name,
    "device": is_plain_name,
    "settings": is_object,
    "needs?": is_plain_name,
}
_MUST_BE: Mapping[Check, str] = {
    is_plain_name: "a name without / \\ and :",
    is_own_name: "a name that is no absolute path and does not climb",
    is_whole: "a whole number below 2^63",
    is_count: "a whole number from 0 to 2^63",
    is_object: "a table",
}


def identity_misfit(identity: Mapping[str, Any]) -> str | None:
    """Why a cell of this identity, once kept, would not be read back; ``None`` where it would."""
    misfit = first_misfit(identity, IDENTITY)
    if misfit is not None:
        return f"{misfit} must be {_MUST_BE[IDENTITY[misfit]]}, not {identity.get(misfit)!r}"
    try:
        kept = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError) as error:
        return f"its settings are not of numbers, text, lists and tables: {error}"
    return None if cell_id_of(kept) == cell_id_of(identity) else "its settings have keys that are not text"


CELL: Form = {
    "cell_id": is_plain_name,
    "status": lambda value: value in tuple(Status),
    "message": or_null(is_text),
    "signal?": or_null(is_text),
    "identity": fits(IDENTITY),
    "environment": or_null(is_plain_name),
    "code": or_null(is_text),
    "data": is_object,
    "needed?": or_null(is_text),
    "seconds": is_duration,
    "phases": lambda value: isinstance(value, dict) and all(map(fits({"seconds": is_duration}), value.values())),
    "measurements": is_object,
}
PLAN: Form = {
    "suites": lambda value: bool(value) and is_texts(value),
    "created": is_text,
    "profiles?": is_texts,
    "plugins?": is_texts,
    "cells": some_of({"cell_id": is_plain_name, "identity": fits(IDENTITY)}),
}
