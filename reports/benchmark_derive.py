"""What follows from timings: ratios to the fastest peer, those that the benchmark states, and the break-even.

All ratios are formed within one record. Where entries took turns, a ratio is the median over the rounds of the ratios
of one round, so that what the machine did besides falls on both; else it is the ratio of the medians.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from l2t_bench.reports.benchmark_load import Benchmarks
from l2t_bench.reports.benchmark_record import MEMORY, OUTER_STEP, PEERS, TRAINING
from l2t_bench.reports.break_even import CASE, break_even
from l2t_bench.reports.methods import in_order
from l2t_bench.reports.rows import Row, rows_of

GROUP = ["record", "problem", "horizon", "phase", "alone"]
REACHED, MISSED, NOT_MEASURED = "reached", "missed", "not measured"
_BASELINE = "higher"  # of memory
_RATIO = ("", "_low", "_high", "_of_medians", "_of_least", "_pairs")


@dataclass(frozen=True)
class RoundRatio:
    """One method's time over another's: the median of the rounds' ratios, with the smallest and largest of them.

    ``pairs``: of how many rounds, 0 where they were no pairs and ``value`` is ``of_medians``. ``of_least``: the ratio
    of the quickest rounds, which a busy machine disturbs least.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    of_medians: float = math.nan
    of_least: float = math.nan
    pairs: int = 0


@dataclass(frozen=True, eq=False)
class BenchmarkResults:
    """All that a report says of benchmarks: what was loaded, and what was derived from it."""

    benchmarks: Benchmarks
    timings: pd.DataFrame  # in turns, with ratios to the fastest peer
    alone: pd.DataFrame  # in processes of their own, with ratios to student training and of peaks
    stated: pd.DataFrame  # ratios that the benchmark wants, and what was reached
    break_even: pd.DataFrame
    left_out: pd.DataFrame

    @property
    def methods(self) -> list[str]:
        """Every backend that was timed or left out."""
        return in_order([*self.timings["method"], *self.alone["method"], *self.left_out["method"]])


def analyse_benchmarks(benchmarks: Benchmarks) -> BenchmarkResults:
    """The whole derivation, records -> results."""
    timings = benchmarks.timings
    return BenchmarkResults(
        benchmarks=benchmarks,
        timings=against_peers(timings[~timings["alone"].astype(bool)]),
        alone=against_training(timings[timings["alone"].astype(bool)]),
        stated=stated_ratios(timings),
        break_even=break_even(outer_steps(timings)),
        left_out=benchmarks.left_out,
    )


def round_ratio(own: Row, other: Row) -> RoundRatio:
    """The ratio of two rows of timings of one record; nothing where the other took no measurable time."""
    if not other["min_seconds"] > 0:
        return RoundRatio()
    of_medians = own["median_seconds"] / other["median_seconds"]
    of_least = own["min_seconds"] / other["min_seconds"]
    ours, theirs = own["round_seconds"], other["round_seconds"]
    if not own["turns"] or own["turns"] != other["turns"] or not ours or len(ours) != len(theirs):
        return RoundRatio(of_medians, of_medians=of_medians, of_least=of_least)
    ratios = np.asarray(ours) / np.asarray(theirs)
    low, middle, high = map(float, np.quantile(ratios, (0, 0.5, 1)))
    return RoundRatio(middle, low, high, of_medians, of_least, len(ratios))


def against_peers(timings: pd.DataFrame) -> pd.DataFrame:
    """``timings`` in the order of tables, with ``fastest_peer`` and the ratio to it, its parts as in ``RoundRatio``.

    The fastest peer has the smallest median of those of its record, problem, horizon and phase; "" where there is none.
    """
    rows = []
    for _, group in timings.groupby(GROUP, sort=False):
        by_method = {row["method"]: row for row in rows_of(group)}
        fastest = _fastest_peer(group)
        for method in in_order(by_method):
            ratio = RoundRatio() if fastest is None else round_ratio(by_method[method], fastest)
            rows.append(by_method[method] | {"fastest_peer": fastest["method"] if fastest else ""} | _named(ratio))
    return pd.DataFrame(rows, columns=[*timings.columns, "fastest_peer", *_named(RoundRatio())])


def _named(ratio: RoundRatio, name: str = "ratio") -> dict[str, float]:
    return dict(zip((f"{name}{part}" for part in _RATIO), asdict(ratio).values(), strict=True))


def _fastest_peer(group: pd.DataFrame) -> Row | None:
    peers = group[group["peer"].astype(bool)]
    return min(rows_of(peers), key=lambda row: row["median_seconds"], default=None)


def against_training(timings: pd.DataFrame) -> pd.DataFrame:
    """One row per method that was measured in a process of its own.

    Columns: record, problem, horizon, method, outer_step_seconds, training_seconds (of one student by the same engine,
    without a teacher gradient), their ratio with its parts, peak_above_start_mib, memory_ratio to ``higher``.
    """
    rows = []
    for (record, problem, horizon), group in timings.groupby(["record", "problem", "horizon"], sort=False):
        outer, training = (_by_method(group, phase) for phase in (OUTER_STEP, TRAINING))
        held = outer.get(_BASELINE, {}).get("peak_above_start_mib", math.nan)
        for method in in_order(outer):
            own, plain = outer[method], training.get(method)
            rows.append(
                {"record": record, "problem": problem, "horizon": horizon, "method": method}
                | {"outer_step_seconds": own["median_seconds"], "rounds": own["rounds"]}
                | {"training_seconds": plain["median_seconds"] if plain else math.nan}
                | _named(round_ratio(own, plain) if plain else RoundRatio())
                | {"peak_above_start_mib": own["peak_above_start_mib"]}
                | {"memory_ratio": own["peak_above_start_mib"] / held if held > 0 else math.nan}
            )
    return pd.DataFrame(rows, columns=_ALONE_COLUMNS)


_ALONE_COLUMNS = [
    *("record", "problem", "horizon", "method", "outer_step_seconds", "rounds", "training_seconds"),
    *_named(RoundRatio()),
    *("peak_above_start_mib", "memory_ratio"),
]


def _by_method(group: pd.DataFrame, phase: str) -> dict[str, Row]:
    return {row["method"]: row for row in rows_of(group[group["phase"] == phase])}


# -- ratios that the benchmark states


def stated_ratios(timings: pd.DataFrame) -> pd.DataFrame:
    """One row per ratio that an entry states: what it is of and against, what was reached, and whether it is enough.

    Columns: record, problem, horizon, method, of, against, by (which method that was), ratio with its parts, at_most,
    verdict (``reached``, ``missed``, ``not measured``).
    """
    rows = []
    for own in rows_of(timings):
        for wish in own["at_most"]:
            ratio, by = _ratio_to(own, wish["against"], wish["of"], timings)
            rows.append(
                {name: own[name] for name in ("record", "problem", "horizon", "method")}
                | {"of": wish["of"], "against": wish["against"], "by": by}
                | _named(ratio)
                | {"at_most": float(wish["ratio"]), "verdict": _verdict(ratio.value, wish["ratio"])}
            )
    return pd.DataFrame(rows, columns=_STATED_COLUMNS)


_STATED_COLUMNS = [
    *("record", "problem", "horizon", "method", "of", "against", "by"),
    *_named(RoundRatio()),
    *("at_most", "verdict"),
]


def _verdict(ratio: float, at_most: float) -> str:
    if math.isnan(ratio):
        return NOT_MEASURED
    return REACHED if ratio <= at_most else MISSED


def _ratio_to(own: Row, against: str, quantity: str, timings: pd.DataFrame) -> tuple[RoundRatio, str]:
    """The ratio that a wish asks for, and the method that it is to."""
    other = next(_others(own, against, timings), None)
    if other is None:
        return RoundRatio(), ""
    if quantity != MEMORY:
        return round_ratio(own, other), other["method"]
    ours, theirs = own["peak_above_start_mib"], other["peak_above_start_mib"]
    value = ours / theirs if theirs > 0 else math.nan
    return RoundRatio(value, of_medians=value), other["method"]


def _others(own: Row, against: str, timings: pd.DataFrame) -> Iterator[Row]:
    """What an entry is set against: the fastest peer, its own student training, or the method of that name."""
    same = timings
    for name in ("record", "problem", "horizon", "alone"):
        same = same[same[name] == own[name]]
    if against == TRAINING:
        yield from rows_of(same[(same["phase"] == TRAINING) & (same["method"] == own["method"])])
        return
    phase = same[same["phase"] == own["phase"]]
    if against == PEERS:
        yield from filter(None, [_fastest_peer(phase)])
    else:
        yield from rows_of(phase[phase["method"] == against])


# -- break-even


def outer_steps(timings: pd.DataFrame) -> pd.DataFrame:
    """What ``break_even`` asks for, from the outer steps that took turns: a unit is a round, else the median."""
    whole = timings[(timings["phase"] == OUTER_STEP) & ~timings["alone"].astype(bool)]
    rows = [
        {name: row[name] for name in ("problem", "horizon", "method", "seconds_compile")}
        | {"variant": row["record"], "unit": unit, "seconds": seconds}
        for row in rows_of(whole)
        for unit, seconds in _by_round(row).items()
    ]
    return pd.DataFrame(rows, columns=[*CASE, "method", "unit", "seconds", "seconds_compile"])


def _by_round(row: Row) -> dict[str, float]:
    """Seconds by round where rounds are pairs; else the median alone."""
    kept = row["round_seconds"] if row["turns"] else ()
    return {str(index): seconds for index, seconds in enumerate(kept)} or {"median": row["median_seconds"]}
