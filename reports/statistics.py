"""The statistics of measurements: pure functions from tables to tables, one statistic each.

The unit is the seed: rounds repeat a seed, they average out its noise and never count as further evidence. A column
``round`` that is absent means one round. Every interval has the level 95 % and comes of a fixed generator.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from l2t_bench.errors import UserError
from l2t_bench.names import unknown

ENOUGH = 5  # three against three can never differ significantly, five can
LEVEL = 0.95
RESAMPLES = 10_000
CLEAR_RATIO: Mapping[str, float] = {"time": 1.05, "memory": 1.02}  # a ratio nearer to 1 is not called a difference
UNDECIDED, TOO_SMALL = "~", "n too small"
EQUIVALENT, DIFFERENT = "equivalent", "different"
GAINS = ("better", "worse")
VERDICTS: Mapping[str, tuple[str, str]] = {"time": ("faster", "slower"), "memory": ("smaller", "larger")}
_GENERATOR = 1810_12081  # fixed, so that a page can be made again to the last digit
_INTERVAL = ("value", "low", "high", "n")

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % bootstrap interval over ``n`` units; NaN where there is nothing to estimate from."""

    value: float
    low: float
    high: float
    n: int

    @property
    def enough(self) -> bool:
        """Whether there are units enough for the interval to decide anything."""
        return self.n >= ENOUGH


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def bootstrap_mean(values: Values) -> Estimate:
    """The mean with its percentile bootstrap interval; a single value has no interval.

    Nothing where a value is not finite. Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size == 0 or not np.isfinite(sample).all():
        return NOTHING
    if sample.size == 1:
        return Estimate(float(sample[0]), math.nan, math.nan, 1)
    drawn = np.random.default_rng(_GENERATOR).integers(sample.size, size=(RESAMPLES, sample.size))
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(sample[drawn].mean(axis=1), [tail, 100 - tail])
    return Estimate(float(sample.mean()), float(low), float(high), sample.size)


def students_mean(students: pd.DataFrame, values: pd.Series) -> Estimate:
    """The mean of students' ``values`` with its interval, over what was drawn independently.

    That is the ``seed`` where there are several, each with the mean of its students, who share a teacher; else it is
    the student.
    """
    seeds = students["seed"]
    units = values.groupby(seeds).mean() if seeds.nunique() > 1 else values
    return bootstrap_mean(units.to_numpy(dtype=float))


# -- pairs


def with_round(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with its column ``round`` as whole numbers, 0 where it has none."""
    if "round" not in frame:
        return frame.assign(round=0)
    return frame.assign(round=pd.to_numeric(frame["round"], errors="coerce").fillna(0).astype(int))


def cases(frame: pd.DataFrame) -> list[str]:
    """The columns that name what is measured, whatever the method: the problem, its variant and the horizon, if any."""
    return [column for column in ("problem", "variant", "horizon") if column == "problem" or column in frame]


def paired_log_ratios(
    frame: pd.DataFrame, value: str, baseline: str, *, by: Sequence[str] | None = None, side: str = "method"
) -> pd.DataFrame:
    """The natural logarithms of ``value`` over the baseline's, paired by ``by``, seed and round.

    One row per pair: ``by`` (the frame's ``cases`` unless told), ``side``, baseline, seed, round, log_ratio. ``side``
    is the column whose entry ``baseline`` the other entries are divided by; the baseline is paired with itself too.
    log_ratio is NaN where a value is missing, not finite or not above zero; what has no partner is not there. Rows
    alike in all keys are averaged as logarithms. Raises ``UserError`` for a missing column.
    """
    keys = [*(cases(frame) if by is None else by), "seed", "round"]
    frame = with_round(frame)
    _require(frame, [*keys, side, value])
    measured = _floats(frame[value])
    usable = np.isfinite(measured) & (measured > 0)
    logs = np.log(measured, out=np.full(len(measured), math.nan), where=usable)
    return _paired(frame, logs, baseline, keys, side, "log_ratio")


def accuracy_differences(
    students: pd.DataFrame,
    baseline: str,
    *,
    value: str = "test_accuracy",
    by: Sequence[str] = ("problem",),
    side: str = "method",
) -> pd.DataFrame:
    """Each student's ``value`` minus the baseline's, paired by ``by``, seed, student seed and round.

    One row per pair: ``by``, ``side``, baseline, seed, student_seed, round, difference, in the units of ``value`` and
    NaN where one side is not finite; what has no partner is not there. Raises ``UserError`` for a missing column.
    """
    keys = [*by, "seed", "student_seed", "round"]
    frame = with_round(students)
    _require(frame, [*keys, side, value])
    measured = _floats(frame[value])
    return _paired(frame, np.where(np.isfinite(measured), measured, math.nan), baseline, keys, side, "difference")


def _paired(
    frame: pd.DataFrame, values: np.ndarray, baseline: str, keys: list[str], side: str, name: str
) -> pd.DataFrame:
    """``values`` minus those of ``baseline`` under the same keys, as column ``name``."""
    measured = frame[[*keys, side]].assign(**{name: values})
    groups = measured.groupby([*keys, side], dropna=False)[name]
    whole = groups.mean().where(groups.count() == groups.size())  # of twins both must be usable
    ours = whole.reset_index()
    theirs = ours.loc[ours[side] == baseline, [*keys, name]]
    pairs = ours.merge(theirs, on=keys, suffixes=("", "_baseline"))
    pairs[name] = pairs[name] - pairs[f"{name}_baseline"]
    by, units = keys[: keys.index("seed")], keys[keys.index("seed") :]
    return pairs.assign(baseline=baseline)[[*dict.fromkeys([*by, side]), "baseline", *units, name]]


# -- intervals


def bootstrap_intervals(
    samples: pd.DataFrame, value: str, by: Sequence[str], *, unit: Sequence[str] = ("seed",)
) -> pd.DataFrame:
    """The mean of ``value`` over units with its 95 % percentile bootstrap interval, one row per ``by``.

    Columns: ``by``, value, low, high, n, left_out. Rows of one unit, such as a seed's rounds, are averaged first, so
    that n counts units; rows that are not finite are left out and counted. Raises ``UserError`` for a missing column.
    """
    rows = []
    for keys, kept, left_out in _groups(samples, value, unit, by):
        estimate = bootstrap_mean(_unit_means(kept, value, unit))
        rows.append({**keys, **_named(estimate), "left_out": left_out})
    return _table(rows, samples, by)


def ratio_intervals(
    pairs: pd.DataFrame, by: Sequence[str], *, value: str = "log_ratio", unit: Sequence[str] = ("seed",)
) -> pd.DataFrame:
    """The geometric mean of paired ratios with its interval: ``bootstrap_intervals`` of their logarithms, as ratios."""
    intervals = bootstrap_intervals(pairs, value, by, unit=unit)
    return intervals.assign(**{name: np.exp(_floats(intervals[name])) for name in ("value", "low", "high")})


def difference_intervals(differences: pd.DataFrame, by: Sequence[str], *, value: str = "difference") -> pd.DataFrame:
    """The mean of paired differences of students with its bootstrap interval, one row per ``by``.

    Columns: ``by``, value, low, high, n, left_out, unit. Students of one seed share a teacher, so the unit is the
    ``seed`` where there are several; where there is one, it is the ``student``, and the interval speaks of that one
    teacher. Raises ``UserError`` for a missing column.
    """
    rows = []
    for keys, kept, left_out in _groups(differences, value, ("seed", "student_seed"), by):
        unit = _student_unit(kept)
        estimate = bootstrap_mean(_unit_means(kept, value, _UNIT_COLUMNS[unit]))
        rows.append({**keys, **_named(estimate), "left_out": left_out, "unit": unit})
    return _table(rows, differences, by, "unit")


_UNIT_COLUMNS = {"seed": ("seed",), "student": ("seed", "student_seed")}


def _student_unit(students: pd.DataFrame) -> str:
    return "seed" if students["seed"].nunique() > 1 else "student"


def _named(estimate: Estimate) -> dict[str, float]:
    return {name: getattr(estimate, name) for name in _INTERVAL}


# -- verdicts


def with_verdict(intervals: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Intervals of ratios with what they decide, as column ``verdict``.

    ``faster`` or ``slower`` for the quantity ``time``, ``smaller`` or ``larger`` for ``memory``, when the interval
    excludes 1 and the ratio is farther from 1 than 5 % (memory: 2 %), as a factor and so alike in both directions;
    else ``~``, and ``n too small`` below five units. Raises ``UserError`` for another quantity or a missing column.
    """
    if quantity not in CLEAR_RATIO:
        raise unknown("quantity", quantity, CLEAR_RATIO)
    _require(intervals, _INTERVAL)
    value, low, high, n = (_floats(intervals[name]) for name in _INTERVAL)
    clear = CLEAR_RATIO[quantity] * (1 + 1e-12)  # a ratio that is the bound but for rounding does not exceed it
    below, above = (high < 1) & (value * clear < 1), (low > 1) & (value > clear)
    words = np.select([~(n >= ENOUGH), below, above], [TOO_SMALL, *VERDICTS[quantity]], default=UNDECIDED)
    return intervals.assign(verdict=pd.Series(words, index=intervals.index, dtype=object))


def with_gain(intervals: pd.DataFrame) -> pd.DataFrame:
    """Intervals of differences of accuracy with what they decide, as column ``verdict``.

    ``better`` or ``worse`` when the interval excludes 0, else ``~``, and ``n too small`` below five units. Raises
    ``UserError`` for a missing column.
    """
    _require(intervals, _INTERVAL)
    _, low, high, n = (_floats(intervals[name]) for name in _INTERVAL)
    words = np.select([~(n >= ENOUGH), low > 0, high < 0], [TOO_SMALL, *GAINS], default=UNDECIDED)
    return intervals.assign(verdict=pd.Series(words, index=intervals.index, dtype=object))


def equivalence(
    differences: pd.DataFrame, margin: float, by: Sequence[str], *, value: str = "difference"
) -> pd.DataFrame:
    """Two one-sided paired t tests of whether the mean difference lies within -margin and margin, one row per ``by``.

    Columns: ``by``, value, low, high (the 90 % t interval), n, left_out, unit (as in ``difference_intervals``),
    p_lower (that the mean is not above -margin), p_upper (that it is not below margin), verdict. ``equivalent`` when
    both p are below 5 %, ``different`` when they are not and the 95 % t interval excludes 0, else ``~``; ``n too
    small`` below five units. ``margin`` is in the units of ``value``; raises ``UserError`` where it is not above zero,
    and for a missing column. Source: Schuirmann, A comparison of the two one-sided tests procedure and the power
    approach, 1987.
    """
    if not (math.isfinite(margin) and margin > 0):
        raise UserError(f"the margin of equivalence must be above zero, such as 0.005, not {margin!r}")
    rows = []
    for keys, kept, left_out in _groups(differences, value, ("seed", "student_seed"), by):
        unit = _student_unit(kept)
        tested = _two_one_sided(_unit_means(kept, value, _UNIT_COLUMNS[unit]), margin)
        rows.append({**keys, **tested, "left_out": left_out, "unit": unit})
    return _table(rows, differences, by, "unit", "p_lower", "p_upper", "verdict")


def _two_one_sided(sample: np.ndarray, margin: float) -> dict[str, Any]:
    n = sample.size
    mean = float(sample.mean()) if n else math.nan
    if n < 2:  # no variance, no test
        unknown_figures = dict.fromkeys(("low", "high", "p_lower", "p_upper"), math.nan)
        return {"value": mean, "n": n, **unknown_figures, "verdict": TOO_SMALL}
    error = float(sample.std(ddof=1)) / math.sqrt(n)
    p_lower, p_upper = _p_above(mean + margin, error, n - 1), _p_above(margin - mean, error, n - 1)
    half, wide = (error * float(stdtrit(n - 1, upper)) for upper in (LEVEL, (1 + LEVEL) / 2))
    verdict = UNDECIDED
    if n < ENOUGH:
        verdict = TOO_SMALL
    elif max(p_lower, p_upper) < 1 - LEVEL:
        verdict = EQUIVALENT
    elif abs(mean) > wide:
        verdict = DIFFERENT
    figures = {"value": mean, "low": mean - half, "high": mean + half, "p_lower": p_lower, "p_upper": p_upper}
    return {**figures, "n": n, "verdict": verdict}


def _p_above(distance: float, error: float, freedom: int) -> float:
    """The p value of a mean that lies ``distance`` above its bound; without any variance it is certain."""
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(freedom, -distance / error))


# -- aggregates


def geometric_means(
    ratios: pd.DataFrame,
    *,
    value: str = "value",
    by: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Each method's geometric mean of ``value`` over the cases that every compared method has.

    One row per method, by name: method, value, common (cases averaged over), total (cases in ``ratios``). A case is
    one combination of ``by`` (the frame's ``cases`` unless told); a value that is missing, not finite or not above
    zero is not had. Compared are the frame's methods or ``methods``, of which one that the frame lacks leaves no case
    in common. Raises ``UserError`` for a missing column. Source: Fleming and Wallace, How not to lie with statistics:
    the correct way to summarize benchmark results, 1986.
    """
    keys = cases(ratios) if by is None else list(by)
    _require(ratios, [*keys, "method", value])
    compared = sorted(set(ratios["method"] if methods is None else methods))
    measured = _floats(ratios[value])
    usable = np.isfinite(measured) & (measured > 0)
    logs = ratios[[*keys, "method"]].assign(log=np.log(measured, out=np.full(len(measured), math.nan), where=usable))
    total = len(logs.drop_duplicates(keys))
    table = logs.groupby([*keys, "method"], dropna=False)["log"].mean().unstack("method").reindex(columns=compared)
    common = table.dropna()
    means = np.exp(common.mean()) if len(common) else pd.Series(math.nan, index=compared)
    return pd.DataFrame(
        [{"method": name, "value": float(means[name]), "common": len(common), "total": total} for name in compared],
        columns=["method", "value", "common", "total"],
    )


# -- parts


def _require(frame: pd.DataFrame, columns: Sequence[str]) -> None:
    if lacking := [column for column in dict.fromkeys(columns) if column not in frame]:
        listed = ", ".join(map(str, frame.columns)) or "none"
        raise UserError(f"the table lacks the column {', '.join(map(repr, lacking))}; it has {listed}")


def _floats(column: pd.Series) -> np.ndarray:
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=float, na_value=math.nan)


def _groups(
    samples: pd.DataFrame, value: str, unit: Sequence[str], by: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame, int]]:
    """The groups of ``by``: their keys, the rows whose ``value`` is finite, and how many are not.

    Rows come in an order of their own, so that not even rounding depends on the frame's.
    """
    _require(samples, [*by, *unit, value])
    ordered = samples.assign(**{value: _floats(samples[value])}).sort_values([*by, *unit, value])
    for keys, group in ordered.groupby(list(by), dropna=False) if by else [((), ordered)]:
        kept = group[np.isfinite(group[value])]
        yield dict(zip(by, keys, strict=True)), kept, len(group) - len(kept)


def _table(rows: list[dict[str, Any]], samples: pd.DataFrame, by: Sequence[str], *more: str) -> pd.DataFrame:
    """Rows with the keys and an interval, of the same types even where there are none: an empty table is merged too."""
    table = pd.DataFrame(rows, columns=[*by, *_INTERVAL, "left_out", *more])
    types = dict.fromkeys(("value", "low", "high"), float) | dict.fromkeys(("n", "left_out"), int)
    return table.astype({**{key: samples[key].dtype for key in by}, **types})


def _unit_means(samples: pd.DataFrame, value: str, unit: Sequence[str]) -> np.ndarray:
    return samples.groupby(list(unit), dropna=False)[value].mean().to_numpy(dtype=float)
