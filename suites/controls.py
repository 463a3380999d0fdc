"""What stands beside a learned loss, by name: fixed losses with what of each is chosen on dev, and teachers' controls.

No claim for a learned loss stands without them; each has its own lr, under the same budget of tuning students.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from l2t_bench.registry import is_loss

UNTRAINED, STATIC, CROSS_ENTROPY = "untrained-teacher", "static-teacher", "cross-entropy"


@dataclass(frozen=True)
class Fixed:
    """A loss that is not learned: of ``losses`` the best on dev, at the best of ``schedules`` (the settings' if none).

    ``dev_too``: trained on dev's examples as well, which a teacher has seen too; its choice on dev then means little.
    """

    losses: tuple[str, ...]
    schedules: tuple[str, ...] = ()
    dev_too: bool = False


NAMED: Mapping[str, Fixed] = MappingProxyType(
    {
        "cross-entropy-constant": Fixed((CROSS_ENTROPY,), ("constant",)),
        "cross-entropy-decayed": Fixed((CROSS_ENTROPY,), ("linear",)),
        "cross-entropy-dev-too": Fixed((CROSS_ENTROPY,), dev_too=True),
        "smooth01-tuned": Fixed(tuple(f"smooth01[k={k}]" for k in (1, 3, 10, 50))),
    }
)
"""Controls that are more than a loss of the catalogue."""


def fixed_of(method: str) -> Fixed | None:
    """The fixed loss that a method's name stands for; ``None`` for a teacher's, a backend's among them."""
    if method in NAMED:
        return NAMED[method]
    return Fixed((method,)) if is_loss(method) else None
