"""What a change did: two runs compared cell by cell, as tables, and the conditions that they can be held to."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from l2t_bench.reports import derive, load, statistics
from l2t_bench.reports.load import Run
from l2t_bench.reports.statistics import ENOUGH, TOO_SMALL, UNDECIDED
from l2t_bench.reports.text import DASH, Row, Table, fixed, number, rows_of

from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean

MACHINE = ("cpu", "gpu", "cores", "threads", "platform")  # of run.json's environment: what times depend on
NEWLY_FAILING, FIXED, FAILING_OTHERWISE = "newly failing", "fixed", "failing otherwise"
_COLUMNS: Mapping[str, str] = {"time": "seconds", "memory": "peak_above_start_mib"}
_NO_DIFFERENCE: Mapping[str, float] = {"time": 1.0, "memory": 1.0, "accuracy": 0.0}
_MEASURED_BY: Mapping[str, str] = {"gradient": "time, memory", "teaching": "accuracy"}
_KEYS = ["problem", "method", "horizon"]
_CELL = ["kind", "problem", "method", "seed", "round"]
_ROW_COLUMNS = [*_KEYS, "quantity", "base", "new", "value", "low", "high", "n", "unit", "left_out", "verdict"]
_UNCOMPARED_COLUMNS = [*_KEYS, "quantity", "seeds", "reason"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """A run ``new`` against a run ``base``.

    ``rows`` has one row per problem, method, horizon and quantity: base, new, value, low, high, n, unit, left_out
    (pairs without two usable values), verdict (``better``, ``worse``, ``~`` or ``n too small``).
    ``time`` and ``memory`` are in seconds and MiB, geometric means over the paired seeds, and ``value`` is new/base;
    ``accuracy`` is a fraction, its ``value`` the difference new - base in percentage points. Between machines, base
    and new are ratios to the ``baselines``' method on the same machine.
    ``only_base``, ``only_new``: cells with a result in one run alone: kind, problem, method, seed, round, status.
    ``changed``: cells whose status differs: kind, problem, method, seed, round, base, new, change.
    ``not_comparable``: what both have and cannot be compared: problem, method, horizon (missing for all of them),
    quantity, seeds (text, empty for all of them), reason.
    """

    base: str
    new: str
    rows: pd.DataFrame
    only_base: pd.DataFrame
    only_new: pd.DataFrame
    changed: pd.DataFrame
    not_comparable: pd.DataFrame
    notes: tuple[str, ...]
    same_machine: bool

    @property
    def newly_failing(self) -> pd.DataFrame:
        """The cells of ``changed`` that had a result in base and have none in new."""
        return self.changed[self.changed["change"] == NEWLY_FAILING]


def compare(base: Run, new: Run) -> Comparison:
    """Two runs, paired by problem, method, horizon, seed and round (and student seed, for accuracy).

    Times and memory of different machines are compared as ratios to the baseline method that both runs have.
    """
    base_name, new_name = _names(base, new)
    cells = _matched_cells(base, new)
    both = cells[cells["_merge"] == "both"]
    sound, uncompared = _comparable_cells(both)
    differing, unrecorded = _machine_differences(base, new)
    gradients = _both(load.gradients(base), load.gradients(new), sound, "gradient")
    students = _both(load.students(base), load.students(new), sound, "teaching")
    compared = []
    for quantity, column in _COLUMNS.items():
        relative, without_baseline = _relative_to_baseline(gradients, column) if differing else (gradients, [])
        rows = _ratio_rows(relative, column, quantity)
        uncompared += _without_row(gradients, rows, without_baseline, quantity, base_name, new_name)
        compared.append(rows)
    accuracies = _accuracy_rows(students)
    uncompared += _without_row(students, accuracies, [], "accuracy", base_name, new_name)
    rows = _in_order(pd.concat([*compared, accuracies], ignore_index=True))
    not_comparable = _collected(uncompared)
    notes = [
        *_machine_notes(differing, unrecorded),
        *_plan_notes(base, new),
        *_left_out_notes(rows),
        *_uncompared_notes(not_comparable),
    ]
    return Comparison(
        base=base_name,
        new=new_name,
        rows=rows,
        only_base=_alone(cells, "left_only", "base"),
        only_new=_alone(cells, "right_only", "new"),
        changed=_changed(both),
        not_comparable=not_comparable,
        notes=tuple(notes),
        same_machine=not differing,
    )


def _names(base: Run, new: Run) -> tuple[str, str]:
    if base.name != new.name:
        return base.name, new.name
    return f"{base.name} (base)", f"{new.name} (new)"


# -- cells


def _matched_cells(base: Run, new: Run) -> pd.DataFrame:
    """Every cell that came to some end in either run, with its status, dtype and device in both."""
    columns = [*_CELL, "status", "dtype", "device"]
    ended = []
    for run in (base, new):
        cells = statistics.with_round(run.cells)
        ended.append(cells.loc[cells["status"] != "missing", columns])
    return ended[0].merge(ended[1], on=_CELL, how="outer", suffixes=("_base", "_new"), indicator=True)


def _alone(cells: pd.DataFrame, where: str, side: str) -> pd.DataFrame:
    alone = cells.loc[cells["_merge"] == where, [*_CELL, f"status_{side}"]]
    return alone.rename(columns={f"status_{side}": "status"}).reset_index(drop=True)


def _changed(both: pd.DataFrame) -> pd.DataFrame:
    changed = both[both["status_base"] != both["status_new"]]
    words = np.select(
        [changed["status_base"] == "ok", changed["status_new"] == "ok"],
        [NEWLY_FAILING, FIXED],
        default=FAILING_OTHERWISE,
    )
    told = changed.assign(change=pd.Series(words, index=changed.index, dtype=object))
    told = told.rename(columns={"status_base": "base", "status_new": "new"})
    return told[[*_CELL, "base", "new", "change"]].reset_index(drop=True)


def _comparable_cells(both: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The cells that are ok in both runs with one dtype and device, and those that are not of one kind."""
    ok = both[(both["status_base"] == "ok") & (both["status_new"] == "ok")]
    reasons = [_mismatch(row) for row in rows_of(ok)]
    uncompared = [
        {"problem": row["problem"], "method": row["method"], "seed": row["seed"], "reason": reason}
        | {"quantity": _MEASURED_BY.get(row["kind"], "all")}
        for row, reason in zip(rows_of(ok), reasons, strict=True)
        if reason
    ]
    return ok.loc[[not reason for reason in reasons], _CELL], uncompared


def _mismatch(row: Row) -> str:
    """In what two cells differ, where both say it."""
    parts = []
    for name in ("dtype", "device"):
        base, new = (str(row[f"{name}_{side}"]).partition(":")[0] for side in ("base", "new"))  # cuda:1 is cuda
        if base and new and base != new:
            parts.append(f"{name} {base} and {new}")
    return ", ".join(parts)


def _both(base: pd.DataFrame, new: pd.DataFrame, cells: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The measurements of both runs that belong to ``cells``, told apart by the column ``run``."""
    keys = cells.loc[cells["kind"] == kind, [column for column in _CELL if column != "kind"]]
    sides = [
        statistics.with_round(frame).merge(keys, on=list(keys.columns)).assign(run=side)
        for frame, side in ((base, "base"), (new, "new"))
    ]
    columns = [column for column in _MEASURED if column in base]
    frame = pd.concat([side[["run", *keys.columns, *columns]] for side in sides], ignore_index=True)
    return frame.assign(horizon=pd.to_numeric(frame["horizon"], errors="coerce").astype(float))


_MEASURED = ("horizon", "exactness", *_COLUMNS.values(), "student_seed", "test_accuracy")


# -- quantities


def _ratio_rows(measured: pd.DataFrame, column: str, quantity: str) -> pd.DataFrame:
    pairs = statistics.paired_log_ratios(measured, column, "base", by=_KEYS, side="run")
    pairs = pairs[pairs["run"] == "new"]
    intervals = statistics.with_verdict(statistics.ratio_intervals(pairs, _KEYS), quantity)
    better, worse = statistics.VERDICTS[quantity]
    verdicts = intervals["verdict"].replace({better: "better", worse: "worse"})
    kept = pairs.dropna(subset=["log_ratio"])
    used = measured.merge(kept[[*_KEYS, "seed", "round"]], on=[*_KEYS, "seed", "round"])
    used = used.assign(level=np.log(used[column].to_numpy(dtype=float)))
    return _with_levels(intervals.assign(verdict=verdicts, unit="seed", quantity=quantity), used, geometric=True)


def _accuracy_rows(students: pd.DataFrame) -> pd.DataFrame:
    differences = statistics.accuracy_differences(students, "base", by=_KEYS, side="run")
    differences = differences[differences["run"] == "new"]
    points = differences.assign(difference=100 * differences["difference"])
    intervals = statistics.difference_intervals(points, _KEYS)
    words = np.select(
        [intervals["n"] < ENOUGH, intervals["low"] > 0, intervals["high"] < 0],
        [TOO_SMALL, "better", "worse"],
        default=UNDECIDED,
    )
    verdicts = pd.Series(words, index=intervals.index, dtype=object)
    kept = differences.dropna(subset=["difference"])
    pair = [*_KEYS, "seed", "student_seed", "round"]
    used = students.merge(kept[pair], on=pair)
    used = used.assign(level=used["test_accuracy"].to_numpy(dtype=float))
    return _with_levels(intervals.assign(verdict=verdicts, quantity="accuracy"), used, geometric=False)


def _with_levels(intervals: pd.DataFrame, used: pd.DataFrame, *, geometric: bool) -> pd.DataFrame:
    """``intervals`` that rest on any pair, with what each run had on the pairs: means over seeds of ``level``.

    A ``geometric`` mean is that of logarithms.
    """
    by_seed = used.groupby(["run", *_KEYS, "seed"], dropna=False)["level"].mean()
    levels = by_seed.groupby(["run", *_KEYS], dropna=False).mean().unstack("run").reindex(columns=["base", "new"])
    if geometric:
        levels = levels.apply(np.exp)
    rows = intervals[intervals["n"] > 0].merge(levels.reset_index(), on=_KEYS, how="left")
    return rows[_ROW_COLUMNS]


def _in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as tables have them: by problem, horizon, method and quantity."""
    ranks = {name: rank for rank, name in enumerate(derive.in_order(rows["method"]))}
    quantities = {name: rank for rank, name in enumerate(_NO_DIFFERENCE)}
    keyed = rows.assign(
        _teaching=rows["quantity"] == "accuracy",
        _method=rows["method"].map(ranks),
        _rank=rows["quantity"].map(quantities),
    )
    ordered = keyed.sort_values(["problem", "_teaching", "horizon", "_method", "_rank"], ignore_index=True)
    return ordered[_ROW_COLUMNS].astype({"horizon": "Int64"})


def _without_row(
    measured: pd.DataFrame, rows: pd.DataFrame, known: list[dict[str, Any]], quantity: str, base: str, new: str
) -> list[dict[str, Any]]:
    """What was measured in sound cells and has no row all the same, with the ``known`` reason or what is seen."""
    sides = [measured.loc[measured["run"] == side, _KEYS].drop_duplicates() for side in ("base", "new")]
    found = sides[0].merge(sides[1], on=_KEYS, how="outer", indicator="where")
    seen = {
        "left_only": f"horizon only in {base}",
        "right_only": f"horizon only in {new}",
        "both": "no seed with a usable value in both runs",
    }
    judged, told = set(map(_key, rows_of(rows))), {_key(row): row["reason"] for row in known}
    return [
        {key: row[key] for key in _KEYS}
        | {"quantity": quantity, "reason": told.get(_key(row), seen[str(row["where"])])}
        for row in rows_of(found)
        if _key(row) not in judged
    ]


def _key(row: Row) -> tuple[str, str, int]:
    """Problem, method and horizon as what can be looked up, which NaN cannot."""
    return row["problem"], row["method"], -1 if pd.isna(row["horizon"]) else int(row["horizon"])


# -- machines


def _machine_differences(base: Run, new: Run) -> tuple[list[str], list[str]]:
    """In what the runs' machines differ, and what cannot be told because a run does not say it."""
    ours, theirs = (run.meta.get("environment") or {} for run in (base, new))
    differing = [
        f"{key}: {_said(ours[key])}, {_said(theirs[key])}"
        for key in MACHINE
        if key in ours and key in theirs and ours[key] != theirs[key]
    ]
    return differing, [key for key in MACHINE if key not in ours or key not in theirs]


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _relative_to_baseline(gradients: pd.DataFrame, column: str) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """``column`` divided by the baseline method's of the same run, seed and round, and what has no such ratio.

    The baseline is chosen by problem and horizon, among the methods that both runs have.
    """
    relative, lost = [], []
    for _, group in gradients.groupby(["problem", "horizon"]):
        runs = group.groupby("method")["run"].nunique()
        shared = group[group["method"].isin(runs.index[runs == 2])]
        baseline = derive.baseline_method(dict(zip(shared["method"], shared["exactness"], strict=True)))
        if baseline is None:
            lost.append(shared.assign(reason="machines differ, and both runs have no exact method to take ratios to"))
            continue
        of_baseline = shared[shared["method"] == baseline]
        lost.append(of_baseline.assign(reason="machines differ, and ratios are taken to this method"))
        pairs = statistics.paired_log_ratios(shared, column, baseline, by=["run", "problem", "horizon"])
        pairs = pairs[pairs["method"] != baseline]
        relative.append(pairs.assign(**{column: np.exp(pairs["log_ratio"])}))
    without_ratio = [row for frame in lost for row in rows_of(frame[[*_KEYS, "reason"]].drop_duplicates())]
    columns = ["run", *_KEYS, "seed", "round", column]
    if not relative:
        return gradients.loc[[], columns], without_ratio
    return pd.concat(relative, ignore_index=True)[columns], without_ratio


# -- notes


def _machine_notes(differing: list[str], unrecorded: list[str]) -> list[str]:
    notes = []
    if differing:
        notes.append(
            f"The runs' machines differ ({'; '.join(differing)}): times and memory are compared as ratios to the "
            "baseline method on the same machine."
        )
    if unrecorded:
        notes.append(f"Not recorded by both runs, and taken to be the same: {', '.join(unrecorded)}.")
    return notes


def _plan_notes(base: Run, new: Run) -> list[str]:
    notes = [
        f"The runs' {key}s differ: {base.meta.get(key)} and {new.meta.get(key)}."
        for key in ("suite", "profile")
        if base.meta.get(key) != new.meta.get(key)
    ]
    for run in (base, new):
        left = int((run.cells["status"] == "missing").sum())
        if left:
            notes.append(f"{run.name} has no result yet for {left} of its {len(run.cells)} cells.")
    return notes


def _left_out_notes(rows: pd.DataFrame) -> list[str]:
    left_out = int(rows["left_out"].sum())
    return [f"{left_out} pairs without two usable values are left out."] if left_out else []


def _uncompared_notes(not_comparable: pd.DataFrame) -> list[str]:
    return [
        f"Not compared, and held to no condition ({reason}): {'; '.join(dict.fromkeys(map(_subject, rows_of(group))))}."
        for reason, group in not_comparable.groupby("reason", sort=False)
    ]


def _subject(row: Row) -> str:
    """``time of rmd on digits/mlp, T = 20``."""
    horizon: str = "" if pd.isna(row["horizon"]) else f", T = {row['horizon']}"
    return f"{row['quantity']} of {row['method']} on {row['problem']}{horizon}"


def _collected(uncompared: list[dict[str, Any]]) -> pd.DataFrame:
    """What could not be compared, seeds of one reason in one row."""
    frame = pd.DataFrame(uncompared, columns=[*_KEYS, "quantity", "seed", "reason"])
    keys = [*_KEYS, "quantity", "reason"]
    rows = [
        {**dict(zip(keys, values, strict=True)), "seeds": _listed(group["seed"].dropna())}
        for values, group in frame.groupby(keys, dropna=False, sort=False)
    ]
    return pd.DataFrame(rows, columns=_UNCOMPARED_COLUMNS).astype({"horizon": "Int64"})


def _listed(seeds: Iterable[Any]) -> str:
    return ", ".join(str(seed) for seed in sorted({int(seed) for seed in seeds}))


# -- conditions

QUANTITIES = ("time", "memory", "accuracy", "failures", "missing")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_EXPECTED = f"expected QUANTITY OP NUMBER, such as time>1.10 or failures>0; quantities: {', '.join(QUANTITIES)}"


@dataclass(frozen=True)
class Clause:
    """One comparison of a condition: ``time>1.1``."""

    quantity: str
    comparison: str
    bound: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` is beyond the bound; never for NaN."""
        return _OPERATORS[self.comparison](value, self.bound)

    def __str__(self) -> str:
        return f"{self.quantity}{self.comparison}{self.bound:g}"


@dataclass(frozen=True)
class Condition:
    """Clauses of which each can trip."""

    clauses: tuple[Clause, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.clauses))


def parse_condition(text: str) -> Condition:
    """``"time>1.10 or failures>0"`` as a condition; raises ``UserError`` that says what is expected.

    ``time`` and ``memory`` are ratios new/base, ``accuracy`` is a difference in percentage points, ``failures`` the
    number of cells newly failing and ``missing`` that of the cells of base that new lacks.
    """
    if not text.strip():
        raise UserError(f"the condition is empty: {_EXPECTED}")
    return Condition(tuple(_clause(part) for part in re.split(r"\s+or\s+", text.strip(), flags=re.IGNORECASE)))


def _clause(text: str) -> Clause:
    match = re.fullmatch(r"([^<>=!≤≥]*)([<>=!≤≥]+)(.*)", text)
    if match is None:
        raise UserError(f"{text!r} compares nothing: {_EXPECTED}")
    quantity, comparison, bound = (part.strip() for part in match.groups())
    if quantity not in QUANTITIES:
        hint = did_you_mean(quantity, QUANTITIES) or ";"
        raise UserError(f"no quantity {quantity!r} in {text!r}{hint} {_EXPECTED}")
    if comparison not in _OPERATORS:
        raise UserError(f"no comparison {comparison!r} in {text!r}; there are {', '.join(_OPERATORS)}: {_EXPECTED}")
    return Clause(quantity, comparison, _bound(bound, text))


def _bound(number_text: str, text: str) -> float:
    try:
        bound = float(number_text)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise UserError(f"{number_text!r} in {text!r} is not a number: {_EXPECTED}; several are joined by ' or '")
    return bound


def tripped(comparison: Comparison, condition: Condition) -> list[str]:
    """A sentence for all that trips the condition; none where nothing does.

    A row trips when its value is beyond the bound and its interval excludes that there is no difference; below five
    units the value alone decides, and the sentence says so. What could not be compared is in ``comparison.notes``.
    """
    sentences = []
    for clause in condition.clauses:
        if clause.quantity == "failures":
            sentences += _tripped_count(clause, comparison.newly_failing, f"newly failing in {comparison.new}", "new")
        elif clause.quantity == "missing":
            sentences += _tripped_count(clause, comparison.only_base, f"of {comparison.base} not in {comparison.new}")
        else:
            rows = comparison.rows[comparison.rows["quantity"] == clause.quantity]
            sentences += [_row_sentence(row, clause, comparison) for row in rows_of(rows) if _trips(row, clause)]
    return sentences


def _trips(row: Row, clause: Clause) -> bool:
    none = _NO_DIFFERENCE[clause.quantity]
    excluded = row["low"] > none or row["high"] < none
    return clause.holds(row["value"]) and (row["n"] < ENOUGH or bool(excluded))


def _row_sentence(row: Row, clause: Clause, comparison: Comparison) -> str:
    unit = f"{row['n']} {row['unit']}{'s' * (row['n'] != 1)}"
    small = f" ({TOO_SMALL}: {unit})" if row["n"] < ENOUGH else f" ({unit})"
    if clause.quantity == "accuracy":
        change = f"{_change(row)} points against {comparison.base}"
    else:
        change = f"{_change(row)} times that of {comparison.base}"
        change += "" if comparison.same_machine else ", each as a ratio to the baseline method"
    return f"{_subject(row)}: {change}{small}, which trips {clause}"


def _tripped_count(clause: Clause, cells: pd.DataFrame, what: str, status: str = "status") -> list[str]:
    if not clause.holds(len(cells)):
        return []
    named = "; ".join(
        f"{method} on {problem}, seed {_listed(group['seed'])} ({state})"
        for (problem, method, state), group in cells.groupby(["problem", "method", status], sort=False)
    )
    count = f"{len(cells)} cell{'s' * (len(cells) != 1)} {what}"
    return [f"{count}{': ' * bool(named)}{named}, which trips {clause}"]


# -- tables


def tables(comparison: Comparison) -> list[Table]:
    """The comparison for a terminal or Markdown: a table per problem, then whatever cells stand alone or changed."""
    rows = comparison.rows
    compared = [
        Table(
            f"{comparison.new} against {comparison.base} on {problem}",
            ("T", "method", "quantity", "verdict", comparison.base, comparison.new, "change", "n"),
            tuple(_table_row(row, comparison) for row in rows_of(group)),
            _table_note(comparison),
            text_columns=4,
            row_header=1,
        )
        for problem, group in rows.groupby("problem", sort=False)
    ]
    return [*compared, *_changed_tables(comparison), *_alone_tables(comparison), *_uncompared_tables(comparison)]


_UNITS = {"time": "time, s", "memory": "memory, MiB", "accuracy": "accuracy"}


def _table_row(row: Row, comparison: Comparison) -> tuple[str, ...]:
    quantity = row["quantity"]
    if quantity == "accuracy":
        levels = (fixed(row["base"], 4), fixed(row["new"], 4))
    else:
        levels = (number(row["base"]), number(row["new"]))
    absolute = comparison.same_machine or quantity == "accuracy"
    return (
        DASH if pd.isna(row["horizon"]) else str(row["horizon"]),
        str(row["method"]),
        _UNITS[quantity] if absolute else f"{quantity} / baseline",
        str(row["verdict"]),
        *levels,
        f"{_change(row)} points" if quantity == "accuracy" else f"{_change(row)} ×",
        str(row["n"]),
    )


def _change(row: Row) -> str:
    """``1.23 [1.20, 1.27]``, ``+0.40 [−0.10, +0.90]``; without an interval where there is none."""
    show = _signed if row["quantity"] == "accuracy" else (lambda value: fixed(value, _ratio_decimals(row["value"])))
    value = show(row["value"])
    return value if math.isnan(row["low"]) else f"{value} [{show(row['low'])},\u00a0{show(row['high'])}]"


def _signed(points: float) -> str:
    shown = f"{points:+.2f}"
    return "0.00" if float(shown) == 0 else shown.replace("-", "−")


def _ratio_decimals(value: float) -> int:
    return 2 if value >= 0.1 else min(8, 1 - math.floor(math.log10(value)))


def _table_note(comparison: Comparison) -> str:
    units = (
        "Time and memory: geometric means over the seeds of both runs, and new / base"
        if comparison.same_machine
        else "Time and memory: ratios to the baseline method on the same machine, and new / base of these"
    )
    rule = (
        "95 % bootstrap interval, paired by seed and round. Better or worse: the interval excludes no difference, and "
        "the effect exceeds 5 % in time, 2 % in memory. n: seeds; students where one seed was taught."
    )
    return " ".join([f"{units}; accuracy: difference in percentage points.", rule, *comparison.notes])


def _changed_tables(comparison: Comparison) -> list[Table]:
    keys = ["change", "kind", "problem", "method", "base", "new"]
    columns = ("change", "kind", "problem", "method", comparison.base, comparison.new, "seeds")
    return _cell_tables("Cells whose status differs", columns, comparison.changed, keys)


def _alone_tables(comparison: Comparison) -> list[Table]:
    keys, columns = ["kind", "problem", "method", "status"], ("kind", "problem", "method", "status", "seeds")
    return [
        *_cell_tables(f"Cells only in {comparison.base}", columns, comparison.only_base, keys),
        *_cell_tables(f"Cells only in {comparison.new}", columns, comparison.only_new, keys),
    ]


def _cell_tables(title: str, columns: tuple[str, ...], cells: pd.DataFrame, keys: list[str]) -> list[Table]:
    """One table with the seeds of alike cells in one row; none where there are no cells."""
    rows = [
        (*map(str, values), _listed(group["seed"])) for values, group in cells.groupby(keys, sort=False, dropna=False)
    ]
    return [Table(title, columns, tuple(rows), text_columns=len(columns))] if rows else []


def _uncompared_tables(comparison: Comparison) -> list[Table]:
    rows = [
        (
            str(row["problem"]),
            str(row["method"]),
            "all" if pd.isna(row["horizon"]) else str(row["horizon"]),
            row["quantity"],
            row["seeds"] or "all",
            row["reason"],
        )
        for row in rows_of(comparison.not_comparable)
    ]
    columns = ("problem", "method", "T", "quantity", "seeds", "why")
    return [Table("Not compared", columns, tuple(rows), text_columns=len(columns))] if rows else []
