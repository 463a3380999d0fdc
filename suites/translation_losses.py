"""The losses of a translation experiment, by the names that the paper's Table 3 has here."""

from collections.abc import Mapping
from types import MappingProxyType

from l2t_bench.suites.controls import CROSS_ENTROPY, UNTRAINED

FIXED: Mapping[str, str] = MappingProxyType(
    {
        CROSS_ENTROPY: "word-cross-entropy",
        "reinforce": "reinforce",
        "minimum-risk": "minimum-risk",
        "softmax-margin": "softmax-margin",
    }
)
"""Method -> the fixed loss that it is, of the catalogue. ``minimum-risk`` is beyond the table: it has one RL loss."""

ACTOR_CRITIC = "actor-critic"
"""The method whose loss is no function of the student's output alone: its critic is trained beside the student."""

BASELINES = (*FIXED, ACTOR_CRITIC)


def is_learned(method: str) -> bool:
    """Whether a method is a backend that a teacher learns by."""
    return method not in BASELINES and method != UNTRAINED


def kind_of(method: str) -> str:
    """What a result calls its loss: all that is learned alike, whatever the backend."""
    if method == UNTRAINED:
        return "untrained"
    return "learned" if is_learned(method) else method
