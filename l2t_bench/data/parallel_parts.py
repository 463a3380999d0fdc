"""Train, dev and test of a translation problem as pairs of token sequences, and how many of each."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from l2t_bench.data.splits import SplitSizes, split_rows
from l2t_bench.data.subwords import learn_subwords
from l2t_bench.data.text_files import Pair, ParallelText, read_parallel
from l2t_bench.errors import UserError


class TextParts(NamedTuple):
    """The three parts; ``test`` is empty where there is none."""

    train: ParallelText
    dev: ParallelText
    test: ParallelText


class Language(NamedTuple):
    """The ends of the names of two files: what is translated, and into what."""

    source: str
    target: str


def some(text: ParallelText, count: int, seed: int) -> ParallelText:
    """``count`` of the pairs, drawn under ``seed``, in the order of their file; all of them for 0.

    Raises ``UserError`` where there are fewer, and for a negative count.
    """
    if not 0 <= count <= len(text.pairs):
        raise UserError(f"{count:,} pairs of sentences were asked for, and there are {text.told}")
    if count == 0:
        return text
    rows = np.random.default_rng(seed).permutation(len(text.pairs))[:count]
    return replace(text, pairs=tuple(text.pairs[row] for row in sorted(rows)))


def folder_parts(folder: Path, ends: Language, longest: int) -> TextParts:
    """The parts from ``train``, ``valid`` (else ``dev``) and, where there is one, ``test``, with these ends.

    Pairs longer than ``longest`` are left out of train alone: what is judged is judged on all of it. Raises
    ``UserError`` where train or dev is not there or a part cannot be read as parallel text.
    """
    dev = "valid" if (folder / f"valid.{ends.source}").is_file() else "dev"
    test = (folder / f"test.{ends.source}").is_file()
    return TextParts(
        read_two(folder / "train", ends, longest),
        read_two(folder / dev, ends),
        read_two(folder / "test", ends) if test else ParallelText(()),
    )


def file_parts(stem: Path, ends: Language, longest: int, sizes: SplitSizes) -> TextParts:
    """Train and dev drawn from one pair of files, ``stem.SOURCE`` and ``stem.TARGET``; what is left is test.

    ``sizes.train`` of 0 takes all that dev leaves. Raises ``UserError`` as ``read_parallel`` and ``split_rows`` do.
    """
    text = read_two(stem, ends, longest)
    whole = replace(sizes, train=sizes.train or len(text.pairs) - sizes.dev)
    parts = [tuple(text.pairs[row] for row in rows) for rows in split_rows(len(text.pairs), whole)]
    return TextParts(replace(text, pairs=parts[0]), ParallelText(parts[1]), ParallelText(parts[2]))


def read_two(stem: Path, ends: Language, longest: int = sys.maxsize) -> ParallelText:
    """The pairs of ``stem.SOURCE`` and ``stem.TARGET``. Raises ``UserError`` as ``read_parallel`` does."""
    source, target = (stem.with_name(f"{stem.name}.{end}") for end in ends)
    return read_parallel(source, target, longest)


def in_subwords(parts: TextParts, size: int) -> TextParts:
    """The parts in ``size`` joint sub-words, learned of both sides of train. Raises ``UserError``."""
    lines = [" ".join(side) for pair in parts.train.pairs for side in pair]
    learned = learn_subwords(lines, size)

    def split(side: Sequence[str]) -> tuple[str, ...]:
        return tuple(learned.split(" ".join(side)))

    return TextParts(*(replace(text, pairs=tuple(Pair(split(a), split(b)) for a, b in text.pairs)) for text in parts))
