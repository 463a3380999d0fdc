"""How a report writes its figures."""

import math
from collections.abc import Callable

from l2t_bench.reports.statistics import EQUIVALENT, TOO_SMALL, Estimate

DASH = "–"


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, without an exponent where it can be: 0.0123, 12.3, 1.23e-07."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        return _sign(f"{value:.{digits - 1}e}")
    return fixed(value, _decimals(value, digits))


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals; a dash where there is none."""
    return DASH if value is None or math.isnan(value) else _sign(f"{value:.{decimals}f}")


def ratio(estimate: Estimate, *, interval: bool = True) -> str:
    """``0.41 [0.40, 0.43]``; ``0.41, n too small`` where there are too few units to say more."""
    decimals = max(2, _decimals(estimate.value, 2)) if estimate.value > 0 else 2
    value = fixed(estimate.value, decimals)
    if not interval or value == DASH:
        return value
    return f"{value} {_bounds(estimate, decimals)}" if estimate.enough else f"{value}, {TOO_SMALL}"


def figure(estimate: Estimate) -> str:
    """``−0.0123 [−0.0150, −0.0098]``, three significant digits each; without the interval where n is too small."""
    value = number(estimate.value)
    return f"{value} [{number(estimate.low)},\u00a0{number(estimate.high)}]" if estimate.enough else value


def accuracy(estimate: Estimate) -> str:
    """``0.957 [0.953, 0.960]``."""
    value = fixed(estimate.value, 3)
    return f"{value} {_bounds(estimate, 3)}" if estimate.enough else value


def points(estimate: Estimate) -> str:
    """A difference of accuracies in percentage points, with its sign: ``+1.2 [+0.9, +1.5]``."""
    if math.isnan(estimate.value):
        return DASH
    if not estimate.enough:
        return f"{signed_points(estimate.value)}, {TOO_SMALL}"
    return f"{signed_points(estimate.value)} {_point_bounds(estimate)}"


def bleu(estimate: Estimate) -> str:
    """Of 100: ``29.52 [29.31, 29.70]``; ``29.52, n too small``."""
    return _bounded(estimate, fixed)


def bleu_difference(estimate: Estimate) -> str:
    """With its sign: ``+0.41 [+0.12, +0.70]``; ``+0.41, n too small``."""
    return _bounded(estimate, signed)


def _bounded(estimate: Estimate, written: Callable[[float, int], str]) -> str:
    value, low, high = (written(each, 2) for each in (estimate.value, estimate.low, estimate.high))
    if math.isnan(estimate.value):
        return DASH
    return f"{value} [{low},\u00a0{high}]" if estimate.enough else f"{value}, {TOO_SMALL}"


def signed(value: float, decimals: int) -> str:
    """A difference with its sign: ``+0.41``; a zero without."""
    text = fixed(value, decimals)
    return text if text == DASH or text.startswith("−") or not float(text) else f"+{text}"


def equivalent(verdict: str, margin: float) -> str:
    """What the two one-sided tests decide: ``equivalent within 1 pp``, or that it is not shown to be."""
    if verdict == TOO_SMALL:
        return TOO_SMALL
    return f"{'' if verdict == EQUIVALENT else 'not shown to be '}equivalent within {100 * margin:g} pp"


def _bounds(estimate: Estimate, decimals: int) -> str:
    return f"[{fixed(estimate.low, decimals)},\u00a0{fixed(estimate.high, decimals)}]"


def _point_bounds(estimate: Estimate) -> str:
    return f"[{signed_points(estimate.low)},\u00a0{signed_points(estimate.high)}]"


def signed_points(value: float) -> str:
    rounded = f"{100 * value:+.1f}"
    return "0.0" if float(rounded) == 0 else _sign(rounded)


def _sign(text: str) -> str:
    """A real minus sign in front; the exponent's stays, so that it can be pasted."""
    return f"−{text[1:]}" if text.startswith("-") else text


def _decimals(value: float, digits: int) -> int:
    if not math.isfinite(value) or value == 0:
        return digits - 1
    exponent = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 0.9999 is 1.00
    return max(0, digits - 1 - exponent)
