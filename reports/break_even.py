"""From when on compiled steps have paid for their compilation: one pure function, for runs and for benchmarks."""

import math

import pandas as pd

from l2t_bench.errors import UserError
from l2t_bench.names import split_spec, write_spec

CASE = ["problem", "variant", "horizon"]
COLUMNS = [
    *CASE,
    "method",
    "against",
    "pairs",
    "seconds",
    "seconds_against",
    "seconds_saved",
    "seconds_compile",
    "outer_steps",
    "outer_steps_least",
    "outer_steps_most",
    "student_steps",
    "seconds_compile_longest",
    "outer_steps_longest",
    "timed_as",
]


def break_even(costs: pd.DataFrame) -> pd.DataFrame:
    """How many outer steps a compiled engine needs until it has paid for itself, one row per case and method.

    ``costs`` has problem, variant, horizon, method, unit (what pairs one method's time with another's: a seed and
    round), seconds (of an outer step, compilation left out) and seconds_compile (NaN where it is not known). Only
    methods that have compiled, and whose twin in plain torch is there too.

    seconds_saved is the median over pairs of what one outer step saves, seconds_compile the median over units;
    outer_steps = ceil(compile / saved), ``inf`` where nothing is saved: never. outer_steps_least and _most are those
    of the pair that saves most and least. student_steps = outer_steps * horizon. seconds_compile_longest is that of
    the unit that compiled longest, commonly the first, which found no compiled step on the disk. timed_as: whose times
    these are; ``engine=auto`` that has stayed in plain torch has those of its twin with ``engine=compiled``, where that
    is there.
    """
    rows = []
    for case, group in costs.groupby(CASE):
        there = {_canonical(str(method)): str(method) for method in group["method"].unique()}
        for method in map(str, group["method"].unique()):
            if (against := there.get(_plain_twin(method) or "")) is None:
                continue
            for timed in (method, there.get(_with_engine(method, "compiled", instead_of=("auto",)) or "")):
                row = None if timed is None else _row(group, timed, against)
                if row is not None:
                    rows.append(dict(zip(CASE, case, strict=True)) | row | {"method": method, "timed_as": timed})
                    break
    return pd.DataFrame(rows, columns=COLUMNS)


def plain_twin(method: str) -> str | None:
    """The same method in plain torch: ``rmd`` of ``rmd[engine=compiled]``; ``None`` for one that is not compiled.

    ``engine=graphed`` is compiled too; ``engine=auto`` may be, or not.
    """
    return _with_engine(method, None, instead_of=("compiled", "graphed"))


def _plain_twin(method: str) -> str | None:
    """``plain_twin``, of ``engine=auto`` too: whether it has compiled shows in what it took."""
    return _with_engine(method, None, instead_of=("compiled", "graphed", "auto"))


def _with_engine(method: str, engine: str | None, *, instead_of: tuple[str, ...]) -> str | None:
    """The same method with another engine, or none named; ``None`` where it has not one of ``instead_of``."""
    try:
        name, options = split_spec(method)
    except UserError:
        return None
    if options.get("engine", "") not in instead_of:
        return None
    if engine is None:
        del options["engine"]
    else:
        options["engine"] = engine
    return write_spec(name, options)


def paid_from(seconds_compile: float, seconds_saved: float) -> float:
    """The outer step from which on compiling has cost less than it saved; ``inf``: never."""
    return math.inf if seconds_saved <= 0 else float(max(1, math.ceil(seconds_compile / seconds_saved)))


def _canonical(method: str) -> str:
    """One spelling of a method in plain torch: ``rmd`` for ``rmd[engine=eager]``."""
    try:
        name, options = split_spec(method)
    except UserError:
        return method
    if options.get("engine") == "eager":
        del options["engine"]
    return write_spec(name, options)


def _row(group: pd.DataFrame, method: str, against: str) -> dict[str, object] | None:
    """``None`` where the method has compiled nothing, or no unit has both."""
    own, other = (group[group["method"] == name].groupby("unit")["seconds"].median() for name in (method, against))
    compiling = group.loc[group["method"] == method, "seconds_compile"].dropna()
    saved = (other - own).dropna()
    if saved.empty or compiling.empty or not (compiling > 0).any():
        return None
    usual, longest = float(compiling.median()), float(compiling.max())
    median = float(saved.median())
    outer_steps = paid_from(usual, median)
    return {
        "method": method,
        "against": against,
        "pairs": len(saved),
        "seconds": float(own[saved.index].median()),
        "seconds_against": float(other[saved.index].median()),
        "seconds_saved": median,
        "seconds_compile": usual,
        "outer_steps": outer_steps,
        "outer_steps_least": paid_from(usual, float(saved.max())),
        "outer_steps_most": paid_from(usual, float(saved.min())),
        "student_steps": outer_steps * int(group["horizon"].iloc[0]),
        "seconds_compile_longest": longest,
        "outer_steps_longest": paid_from(longest, median),
    }
