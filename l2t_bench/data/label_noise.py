"""Wrong labels in the training set, drawn from a known transition matrix (Patrini et al. 2017; Han et al. 2018)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from l2t_bench.errors import UserError

Kind = Literal["none", "pair-flip", "symmetric"]


@dataclass(frozen=True)
class LabelNoise:
    """Which labels are wrong: with probability ``rate`` the next class's (``pair-flip``), or any other's alike.

    Raises ``UserError`` for a rate outside [0, 1).
    """

    kind: Kind = "none"
    rate: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise UserError(f"the rate of wrong labels must be from 0 to below 1, not {self.rate!r}")


def transition(kind: Kind, rate: float, classes: int) -> np.ndarray:
    """P(label j | class i) as (classes, classes) in float64; its rows sum to one.

    Raises ``UserError`` where there is no other class to take a wrong label from.
    """
    clean = np.eye(classes)
    if kind == "none":
        return clean
    if classes < 2:
        raise UserError("wrong labels need at least two classes")
    wrong = np.roll(clean, 1, axis=1) if kind == "pair-flip" else (1 - clean) / (classes - 1)
    return (1 - rate) * clean + rate * wrong


def with_noise(labels: np.ndarray, noise: LabelNoise, classes: int) -> np.ndarray:
    """The labels (N,) as they are drawn from their classes' rows of ``transition``: a pure function of ``noise.seed``.

    Each label's draw is its own: the first rows of a longer set are those of a shorter one.
    """
    if noise.kind == "none":
        return labels
    bounds = transition(noise.kind, noise.rate, classes).cumsum(axis=1)
    draws = np.random.default_rng(noise.seed).random(len(labels))
    found = (draws[:, None] >= bounds[labels]).sum(axis=1)
    return np.asarray(np.minimum(found, classes - 1), dtype=labels.dtype)  # a row may sum to a hair less than one
