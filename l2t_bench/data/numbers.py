"""Numbers in words, German to English: a translation task without a file.

It has reordering ("einundzwanzig", "twenty-one"), and German words without end: 345678 is one. German words are split
into sub-words learned of train; English ones are words, hyphens and commas.
"""

import re
from dataclasses import dataclass

from l2t_bench.data.parallel_parts import TextParts
from l2t_bench.data.splits import SplitSizes, split_rows
from l2t_bench.data.subwords import Subwords, learn_subwords
from l2t_bench.data.text_files import Pair, ParallelText
from l2t_bench.errors import UserError

LARGEST = 999_999

_ENGLISH = re.compile(r"\w+|[-,]")


@dataclass(frozen=True)
class NumberSizes:
    """How many numbers from 0 to ``largest`` train, dev and test hold, no number twice, drawn under ``split``."""

    train: int
    dev: int
    test: int
    largest: int = LARGEST
    split: int = 0


def number_values(sizes: NumberSizes) -> tuple[list[int], list[int], list[int]]:
    """The numbers of train, dev and test: no number is in two of them.

    Raises ``UserError`` for a ``largest`` outside of 1 ... 999,999, and for more numbers than there are.
    """
    if not 1 <= sizes.largest <= LARGEST:
        raise UserError(f"largest must be from 1 to {LARGEST:,}, not {sizes.largest:,}")
    train, dev, rest = split_rows(sizes.largest + 1, SplitSizes(sizes.train, sizes.dev, sizes.split))
    if not 0 <= sizes.test <= len(rest):
        raise UserError(f"test={sizes.test} numbers cannot be unseen: train and dev leave {len(rest):,}")
    return train.tolist(), dev.tolist(), rest[: sizes.test].tolist()


def german(number: int) -> str:
    """A number in German, one word: 21 is "einundzwanzig"."""
    from num2words import num2words

    words: str = num2words(number, lang="de")
    return words


def english(number: int) -> tuple[str, ...]:
    """A number in English: 1021 is "one thousand and twenty - one", in tokens."""
    from num2words import num2words

    return tuple(_ENGLISH.findall(num2words(number, lang="en")))


def load_numbers(sizes: NumberSizes, pieces: int) -> TextParts:
    """The three parts, German in ``pieces`` sub-words. Raises ``UserError`` for sizes that cannot be."""
    said = [[(german(value), english(value)) for value in part] for part in number_values(sizes)]
    learned = learn_subwords((words for words, _ in said[0]), pieces)
    return TextParts(*(_in_subwords(part, learned) for part in said))


def _in_subwords(part: list[tuple[str, tuple[str, ...]]], learned: Subwords) -> ParallelText:
    return ParallelText(tuple(Pair(tuple(learned.split(words)), tokens) for words, tokens in part))
