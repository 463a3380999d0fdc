"""The conditions that a comparison can be held to: ``time>1.10 or failures>0``, read and judged."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from l2t_bench.errors import UserError
from l2t_bench.names import did_you_mean, finite_number
from l2t_bench.reports.compare import Comparison
from l2t_bench.reports.comparison_rows import NO_DIFFERENCE
from l2t_bench.reports.comparison_words import change, seed_list, subject
from l2t_bench.reports.methods import VARIANT
from l2t_bench.reports.rows import Row, rows_of
from l2t_bench.reports.statistics import ENOUGH, TOO_SMALL
from l2t_bench.reports.table import literal
from l2t_bench.reports.variants import case_name

QUANTITIES = (*NO_DIFFERENCE, "failures", "missing")
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
        return finite_number(number_text, float, f"the bound in {text!r}")
    except UserError as error:
        raise UserError(f"{error}: {_EXPECTED}; several are joined by ' or '") from None


def outcome(condition: Condition, reasons: Sequence[str]) -> str:
    """What came of the condition, as Markdown: that it did not trip, or a line for each reason why it did."""
    told = [f"- {literal(reason)}" for reason in reasons] or ["- nothing trips it"]
    return "\n".join([f"**Condition: {literal(str(condition))}**", "", *told, ""])


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
    none = NO_DIFFERENCE[clause.quantity]
    excluded = row["low"] > none or row["high"] < none
    return clause.holds(row["value"]) and (row["n"] < ENOUGH or bool(excluded))


def _row_sentence(row: Row, clause: Clause, comparison: Comparison) -> str:
    unit = f"{row['n']} {row['unit']}{'s' * (row['n'] != 1)}"
    small = f" ({TOO_SMALL}: {unit})" if row["n"] < ENOUGH else f" ({unit})"
    if clause.quantity == "accuracy":
        told = f"{change(row)} points against {comparison.base}"
    else:
        told = f"{change(row)} times that of {comparison.base}"
        told += "" if comparison.same_machine else ", each as a ratio to the baseline method"
    return f"{subject(row)}: {told}{small}, which trips {clause}"


def _tripped_count(clause: Clause, cells: pd.DataFrame, what: str, status: str = "status") -> list[str]:
    if not clause.holds(len(cells)):
        return []
    named = "; ".join(
        f"{method} on {case_name(problem, variant)}, seed {seed_list(group['seed'])} ({state})"
        for (problem, variant, method, state), group in cells.groupby([*VARIANT, "method", status], sort=False)
    )
    count = f"{len(cells)} cell{'s' * (len(cells) != 1)} {what}"
    return [f"{count}{': ' * bool(named)}{named}, which trips {clause}"]
