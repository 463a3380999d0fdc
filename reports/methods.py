"""Methods and controls by name: their order in every table and figure, and which one others are set against."""

import re
from collections.abc import Iterable, Mapping

VARIANT = ["problem", "variant"]  # within which results are set against each other
CROSS_ENTROPY, UNTRAINED, STATIC = "cross-entropy", "untrained-teacher", "static-teacher"
TOLD_MORE = ("cross-entropy-dev-too", "forward-correction")  # fixed losses that know what the others are not told
_KNOWN_ORDER = (
    *("rmd", "higher", "torchopt", "functorch", "truncated"),
    *("one-step", "forward", "evolution", "implicit", "torchopt-implicit"),
)
_CONTROLS = (STATIC, UNTRAINED, *TOLD_MORE, "cross-entropy-constant", "cross-entropy-decayed", CROSS_ENTROPY)


def base_name(method: str) -> str:
    """``"truncated[window=10]"`` -> ``"truncated"``."""
    return method.partition("[")[0]


def in_order(methods: Iterable[str]) -> list[str]:
    """Methods in the order of every table and figure: exact ones, approximations, others by name, controls last."""

    def rank(method: str) -> tuple[int, int, str]:
        base, by_size = base_name(method), re.sub(r"\d+", lambda digits: digits[0].zfill(12), method)
        if base in _CONTROLS:
            return (2, _CONTROLS.index(base), by_size)
        return (0, _KNOWN_ORDER.index(base), by_size) if base in _KNOWN_ORDER else (1, 0, by_size)

    return sorted(set(methods), key=rank)


def reference_method(exactness_by_method: Mapping[str, str]) -> str | None:
    """Which method's gradient the others are compared with: ``rmd``, else another exact one, else none."""
    exact = [method for method in in_order(exactness_by_method) if exactness_by_method[method] == "exact"]
    return "rmd" if "rmd" in exact else next(iter(exact), None)


def baseline_method(exactness_by_method: Mapping[str, str]) -> str | None:
    """What ratios are taken against: ``higher``, else the first exact method, else none."""
    if "higher" in exactness_by_method:
        return "higher"
    return next((method for method in in_order(exactness_by_method) if exactness_by_method[method] == "exact"), None)
