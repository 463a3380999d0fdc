"""From numbers back to words."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from l2t_bench.data.specials import BEGIN, END, PAD

_WORD_BEGINS = "\u2581"  # sentencepiece's mark


@dataclass(frozen=True)
class Spelling:
    """The words of a vocabulary by their numbers. Sub-words are joined to words where there are any."""

    words: Sequence[str]

    @property
    def joins(self) -> bool:
        """Whether the vocabulary is one of sub-words."""
        return any(word.startswith(_WORD_BEGINS) for word in self.words)

    def sentences(self, numbers: Tensor) -> list[str]:
        """Rows of (B, L), each up to its END, as tokens separated by blanks."""
        joins = self.joins
        return [self._sentence(row, joins) for row in numbers.tolist()]

    def _sentence(self, row: list[int], joins: bool) -> str:
        said = row[: row.index(END)] if END in row else row
        words = [
            self.words[number] if number < len(self.words) else "" for number in said if number not in (PAD, BEGIN)
        ]
        return "".join(words).replace(_WORD_BEGINS, " ").strip() if joins else " ".join(words)
