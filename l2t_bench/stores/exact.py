"""Exact integer arithmetic that can be undone: fixed-point numbers, and multiplication by a ratio with a bit store.

Maclaurin, Duvenaud and Adams 2015, "Gradient-based hyperparameter optimization through reversible learning",
Algorithm 3. All on int64 tensors, all entries at once.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

_WORD = 32  # bits of every entry that leave the buffer at once
_MASK = (1 << _WORD) - 1
_LARGEST = (1 << 63) - 1
_FOLLOWED = 1 << 14  # multiplications that a forecast of spills takes one by one: some hundredths of a second
LARGEST_DENOMINATOR = 1 << 12
"""Of a ratio: 63 bits have room for a word beside it, and the product is off by no more than so many units."""


@dataclass(frozen=True)
class FixedPoint:
    """Numbers as multiples of 2^-``bits`` in int64, of which an eighth of the range is used: no sum wraps around."""

    bits: int

    @property
    def reach(self) -> float:
        """The largest magnitude in range."""
        return 2.0 ** (60 - self.bits)

    def rounded(self, values: Tensor, scale: float | Tensor = 1.0) -> Tensor:
        """``scale * values`` in multiples, the nearest, still float64; may be out of range, infinite or no number."""
        return (values.double() * (scale * 2.0**self.bits)).round_()

    def values(self, integers: Tensor) -> Tensor:
        """float64, the nearest."""
        return integers.double().mul_(2.0**-self.bits)


class ExactRatio:
    """Multiplies tensors by a ratio n/d in (0, 1), and undoes it bit for bit, the last multiplication first.

    v becomes n*(v div d) + r with 0 <= r < n: n/d of v, off by less than d units. The remainder v mod d goes into a
    buffer, one integer i >= 0 for every entry, as its lowest digit to base d; r is taken out of it as its lowest digit
    to base n. So i grows by log2(d/n) bits a time, which is what the multiplication loses. How large i can be follows
    from the number of multiplications alone; before it might no longer fit, 32 bits of every entry are spilled.

    Raises ``ValueError`` for a ratio outside (0, 1) or a denominator above ``LARGEST_DENOMINATOR``.
    """

    def __init__(self, ratio: Fraction, entries: int, device: torch.device | str = "cpu") -> None:
        self._ratio = _checked(ratio)
        self._digits = torch.zeros(entries, dtype=torch.int64, device=device)
        self._bound = 0  # of every i
        self._count = 0  # of the multiplications that can be undone
        self._spilled: list[_Spill] = []

    @property
    def bytes(self) -> int:
        """Held in the buffer and spilled."""
        return sum(_size(held) for held in (self._digits, *(spill.words for spill in self._spilled)))

    @property
    def is_empty(self) -> bool:
        """Whether all that went in has been taken out; waits for the device."""
        return not self._spilled and not bool(self._digits.any())

    def forget(self) -> None:
        """Begin anew: what was multiplied before cannot be undone."""
        self._digits.zero_()
        self._bound, self._count, self._spilled = 0, 0, []

    def multiply(self, values: Tensor) -> Tensor:
        """``values`` (int64, one dimension) times n/d."""
        n, d = self._ratio.numerator, self._ratio.denominator
        if _is_full(self._bound, d):
            self._spill()
        quotients = values.div(d, rounding_mode="floor")
        self._digits.mul_(d).add_(values).sub_(quotients * d)
        rest = self._digits.div(n, rounding_mode="floor")
        product = quotients.sub_(rest).mul_(n).add_(self._digits)  # n*q + (i - n*(i div n))
        self._digits = rest
        self._bound, self._count = _grown(self._bound, self._ratio), self._count + 1
        return product

    def undo(self, product: Tensor) -> Tensor:
        """The values that the last ``multiply`` was given, from what it gave."""
        n, d = self._ratio.numerator, self._ratio.denominator
        quotients = product.div(n, rounding_mode="floor")
        self._digits.mul_(n).add_(product).sub_(quotients * n)
        rest = self._digits.div(d, rounding_mode="floor")
        values = quotients.sub_(rest).mul_(d).add_(self._digits)
        self._digits = rest
        self._count -= 1
        if self._spilled and self._spilled[-1].count == self._count:
            self._fetch()
        return values

    def _spill(self) -> None:
        words = self._digits.bitwise_and(_MASK)
        words = torch.where(words < 1 << (_WORD - 1), words, words - (1 << _WORD)).int()
        self._spilled.append(_Spill(self._count, self._bound, words))
        self._digits.bitwise_right_shift_(_WORD)
        self._bound >>= _WORD

    def _fetch(self) -> None:
        spill = self._spilled.pop()
        self._digits.bitwise_left_shift_(_WORD).bitwise_or_(spill.words.long().bitwise_and_(_MASK))
        self._bound = spill.bound


@dataclass(frozen=True)
class _Spill:
    """The lowest bits of every entry, as they left before multiplication ``count``; the bound on i until then."""

    count: int
    bound: int
    words: Tensor


def spilled_bits(ratio: Fraction, multiplications: int) -> int:
    """Bits for every entry that an ``ExactRatio`` has spilled after so many multiplications.

    Followed one by one for the first thousands; from there on, in no time, as if the bound grew without rounding: off
    by a spill, and by a thousandth of all at the most.
    """
    den = _checked(ratio).denominator
    bound = spills = 0
    for _ in range(min(multiplications, _FOLLOWED)):
        if _is_full(bound, den):
            bound, spills = bound >> _WORD, spills + 1
        bound = _grown(bound, ratio)
    if multiplications > _FOLLOWED:
        spills += _spills_ahead(bound, ratio, multiplications - _FOLLOWED)
    return spills * _WORD


def _spills_ahead(bound: int, ratio: Fraction, multiplications: int) -> int:
    """i + c, c the fixed point of the bound's growth, grows d/n-fold each time; a spill takes a word off its bits."""
    n, d = ratio.numerator, ratio.denominator
    start = math.log2(bound + (d - 1) / (d - n))
    grown = start + (multiplications - 1) * math.log2(d / n)  # when the last one begins, were nothing spilled
    return max(0, math.ceil((grown - math.log2(_LARGEST / d)) / _WORD))


def _is_full(bound: int, den: int) -> bool:
    """Whether i*d + (a digit to base d) might not fit."""
    return bound * den + den - 1 > _LARGEST


def _grown(bound: int, ratio: Fraction) -> int:
    return (bound * ratio.denominator + ratio.denominator - 1) // ratio.numerator


def _checked(ratio: Fraction) -> Fraction:
    if not 0 < ratio < 1 or ratio.denominator > LARGEST_DENOMINATOR:
        raise ValueError(f"{ratio} is not a ratio in (0, 1) with a denominator up to {LARGEST_DENOMINATOR}")
    return ratio


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
