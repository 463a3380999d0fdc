"""Durations and sizes as people write them."""

import re
from decimal import Decimal

from l2t_bench.errors import UserError

_TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def seconds(text: str) -> float:
    """``"90s"``, ``"10m"``, ``"2h"`` or a plain number of seconds. Raises ``UserError`` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or float(match[1]) <= 0:
        raise UserError(f"a duration is written 90s, 10m or 2h, not {text!r}")
    return float(match[1]) * _TIME_UNITS[match[2]]


def duration(value: float) -> str:
    """A time as people read it: ``"42 s"``, ``"12 min"``, ``"3.4 h"``, ``"21.6 days"``."""
    for unit, factor in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if value >= 2 * factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} s"


def size(text: str) -> int:
    """``"8GB"``, ``"500MB"``, ``"8GiB"`` or a plain number of bytes. Raises ``UserError`` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B)?", text.strip().upper())
    if match is None or float(match[1]) <= 0 or (match[2] or "") not in {*_SIZE_UNITS, "B"}:
        raise UserError(f"a size is written 8GB, 500MB or 8GiB, not {text!r}")
    count = int(Decimal(match[1]) * _SIZE_UNITS["" if match[2] == "B" else match[2] or ""])
    if count < 1:
        raise UserError(f"a size is a byte at least, not {text!r}")
    return count


def byte_count(given: int | str) -> int:
    """A size given as a number of bytes, or as ``size`` reads it. Raises ``UserError`` for anything else."""
    if isinstance(given, str):
        return size(given)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise UserError(f"a size is a positive number of bytes, or written 8GB, 500MB or 8GiB, not {given!r}")
    return given


def told(count: float) -> str:
    """A size as people read it: ``"1.5 GB"``, in powers of ten as limits are given."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
