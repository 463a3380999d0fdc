"""Parallel text in two files, line by line: read with mistrust. Needs no torch."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from l2t_bench.errors import UserError


class Pair(NamedTuple):
    """A sentence in two languages, as tokens."""

    source: tuple[str, ...]
    target: tuple[str, ...]


@dataclass(frozen=True)
class ParallelText:
    """Pairs of sentences in the order of their files, and how many were left out because they are empty or too long."""

    pairs: tuple[Pair, ...]
    empty: int = 0
    too_long: int = 0

    @property
    def told(self) -> str:
        """The number of pairs and what was dropped, in words."""
        dropped = [f"{count:,} {why}" for count, why in ((self.empty, "empty"), (self.too_long, "too long")) if count]
        return f"{len(self.pairs):,} pairs" + (f", dropped: {' and '.join(dropped)}" if dropped else "")


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 text without their ends; only ``\\n`` and ``\\r\\n`` end a line.

    Raises ``UserError`` for a file that cannot be read, and with the line for one of another encoding.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{file}, line {line}, is not UTF-8: write it anew, iconv -f ENCODING -t utf-8") from None
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def read_parallel(source: Path, target: Path, longest: int = sys.maxsize) -> ParallelText:
    """The pairs of two files, tokens separated by blanks; pairs with an empty or too long side are counted and dropped.

    Raises ``UserError`` for files of unequal length, of another encoding, without a pair, or that cannot be read.
    """
    lines = read_lines(source), read_lines(target)
    if len(lines[0]) != len(lines[1]):
        raise UserError(
            f"{source} has {len(lines[0]):,} lines and {target} {len(lines[1]):,}: parallel text has a line for a line"
        )
    text = as_parallel(zip(*lines, strict=True), longest)
    if not text.pairs:
        raise UserError(f"{source} and {target} hold no pair of sentences that can be taken: {text.told}")
    return text


def as_parallel(lines: Iterable[tuple[str, str]], longest: int) -> ParallelText:
    """Pairs of lines as pairs of tokens; those with an empty or too long side are counted and dropped."""
    pairs = [Pair(tuple(source.split()), tuple(target.split())) for source, target in lines]
    whole = [pair for pair in pairs if all(pair)]
    kept = [pair for pair in whole if max(map(len, pair)) <= longest]
    return ParallelText(tuple(kept), empty=len(pairs) - len(whole), too_long=len(whole) - len(kept))


def alike_in_length(pair: Sequence[Sequence[str]], longest: int, ratio: float) -> bool:
    """Whether both sides have 1 to ``longest`` tokens, the longer at most ``ratio`` times the other's: Moses' rule."""
    few, many = sorted(map(len, pair))
    return few >= 1 and many <= longest and many / few <= ratio
