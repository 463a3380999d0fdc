"""The named problems on translation: numbers in words, IWSLT-14, and anybody's parallel text."""

from dataclasses import dataclass
from typing import Literal

from l2t_bench.data.iwslt14_files import LANGUAGES, PARTS, RECIPES
from l2t_bench.data.numbers import LARGEST, NumberSizes, load_numbers
from l2t_bench.data.parallel_files import LONGEST, Language, place_of
from l2t_bench.data.parallel_parts import TextParts, file_parts, folder_parts, in_subwords, some
from l2t_bench.data.root import required
from l2t_bench.data.splits import SplitSizes
from l2t_bench.errors import UserError
from l2t_bench.translation import OfAttentionLSTM, OfTransformer, TranslationProblem


@dataclass(frozen=True)
class Numbers(TranslationProblem):
    """Numbers of up to ``largest`` in words, German (``pieces`` sub-words) to English; no number is in two parts."""

    train: int = 12_000
    test: int = 1_000
    largest: int = LARGEST
    pieces: int = 64
    source_vocabulary: int = 80
    target_vocabulary: int = 40

    def load(self) -> TextParts:
        return load_numbers(NumberSizes(self.train, self.dev, self.test, self.largest, self.split), self.pieces)


@dataclass(frozen=True)
class Iwslt14(TranslationProblem):
    """IWSLT-14 German to English from the data root, in sub-words of both languages, as ``recipe`` prepares it.

    Pairs longer than ``longest`` sub-words are left out of train. ``train``, ``dev`` and ``test`` are how many pairs of
    each are taken, drawn under ``split``; 0 means all.
    """

    train: int = 0
    recipe: Literal["160k", "153k"] = "160k"
    longest: int = LONGEST

    def load(self) -> TextParts:
        recipe = RECIPES[self.recipe]
        for part in PARTS:
            for code in LANGUAGES:
                required(recipe.file("bpe", part, code), recipe.name)
        parts = folder_parts(recipe.place / "bpe", Language(*LANGUAGES), self.longest)
        return sized(parts, (self.train, self.dev, self.test), self.split)


@dataclass(frozen=True)
class ParallelText(TranslationProblem):
    """Text of one's own, tokens separated by blanks: ``path`` and the ``source`` and ``target`` ends of its files.

    A path that does not begin at the root, and is not there from where one stands, is looked for in the data root.
    A folder has train, valid (or dev) and, where there is one, test: ``train.de``, ``train.en`` ... Of a pair of files,
    ``path.de`` and ``path.en``, ``train`` and ``dev`` are drawn under ``split``, and what is left is test. Pairs longer
    than ``longest`` are left out of train. ``subwords`` above 0: so many are learned of train, both sides together.
    """

    path: str = ""
    source: str = "de"
    target: str = "en"
    train: int = 0
    longest: int = LONGEST
    subwords: int = 0
    source_vocabulary: int = 10_000
    target_vocabulary: int = 10_000

    def load(self) -> TextParts:
        if not self.path:
            raise UserError("parallel-text needs path=, a folder or the files' name without their ends")
        path, ends = place_of(self.path), Language(self.source, self.target)
        if path.is_dir():
            parts = sized(folder_parts(path, ends, self.longest), (self.train, self.dev, self.test), self.split)
        else:
            parts = file_parts(path, ends, self.longest, SplitSizes(self.train, self.dev, self.split))
        return in_subwords(parts, self.subwords) if self.subwords else parts


def sized(parts: TextParts, counts: tuple[int, int, int], seed: int) -> TextParts:
    """So many pairs of each part, drawn under ``seed``; all for 0. Raises ``UserError`` where there are fewer."""
    return TextParts(*(some(text, count, seed) for text, count in zip(parts, counts, strict=True)))


@dataclass(frozen=True)
class NumbersLSTM1(Numbers, OfAttentionLSTM):
    """LSTM-1 on numbers in words."""

    depth = 1


@dataclass(frozen=True)
class NumbersLSTM2(Numbers, OfAttentionLSTM):
    """LSTM-2 on numbers in words."""

    depth = 2


@dataclass(frozen=True)
class NumbersTransformer(Numbers, OfTransformer):
    """The Transformer on numbers in words."""


@dataclass(frozen=True)
class Iwslt14LSTM1(Iwslt14, OfAttentionLSTM):
    """The paper's LSTM-1."""

    depth = 1


@dataclass(frozen=True)
class Iwslt14LSTM2(Iwslt14, OfAttentionLSTM):
    """The paper's LSTM-2."""

    depth = 2


@dataclass(frozen=True)
class Iwslt14Transformer(Iwslt14, OfTransformer):
    """The paper's Transformer."""


@dataclass(frozen=True)
class ParallelTextLSTM1(ParallelText, OfAttentionLSTM):
    """LSTM-1 on text of one's own."""

    depth = 1


@dataclass(frozen=True)
class ParallelTextLSTM2(ParallelText, OfAttentionLSTM):
    """LSTM-2 on text of one's own."""

    depth = 2


@dataclass(frozen=True)
class ParallelTextTransformer(ParallelText, OfTransformer):
    """The Transformer on text of one's own."""
