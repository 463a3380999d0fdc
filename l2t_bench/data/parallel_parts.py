"""Train, dev and test of a translation problem as pairs of token sequences, and how many of each."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from l2t_bench.data.parallel_files import WHOLE, Language, parallel_files
from l2t_bench.data.splits import SplitSizes, split_rows
from l2t_bench.data.subwords import learn_subwords
from l2t_bench.data.text_files import Pair, ParallelText, read_parallel
from l2t_bench.errors import UserError


class TextParts(NamedTuple):
    """The three parts; ``test`` is empty where there is none."""

    train: ParallelText
    dev: ParallelText
    test: ParallelText


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
    """The parts that ``parallel_files`` finds in a folder.

    Pairs longer than ``longest`` are left out of train alone: what is judged is judged on all of it. Raises
    ``UserError`` where train or dev is not there or a part cannot be read as parallel text.
    """
    files = parallel_files(folder, ends)
    judged = [read_parallel(*files[part]) if part in files else ParallelText(()) for part in ("dev", "test")]
    return TextParts(read_parallel(*files["train"], longest), *judged)


def file_parts(stem: Path, ends: Language, longest: int, sizes: SplitSizes) -> TextParts:
    """Train and dev drawn from one pair of files, ``stem.SOURCE`` and ``stem.TARGET``; what is left is test.

    Raises ``UserError`` as ``read_parallel`` and ``split_rows`` do.
    """
    text = read_parallel(*parallel_files(stem, ends)[WHOLE], longest)
    parts = [tuple(text.pairs[row] for row in rows) for rows in split_rows(len(text.pairs), sizes)]
    return TextParts(replace(text, pairs=parts[0]), ParallelText(parts[1]), ParallelText(parts[2]))


def in_subwords(parts: TextParts, size: int) -> TextParts:
    """The parts in ``size`` joint sub-words, learned of both sides of train. Raises ``UserError``."""
    lines = [" ".join(side) for pair in parts.train.pairs for side in pair]
    learned = learn_subwords(lines, size)

    def split(side: Sequence[str]) -> tuple[str, ...]:
        return tuple(learned.split(" ".join(side)))

    return TextParts(*(replace(text, pairs=tuple(Pair(split(a), split(b)) for a, b in text.pairs)) for text in parts))
