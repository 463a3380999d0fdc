"""Sub-words by byte-pair encoding (Sennrich et al. 2016), learned and applied by sentencepiece. Needs no torch."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from l2t_bench.errors import UserError, said_first


@dataclass(frozen=True)
class Subwords:
    """A learned segmentation, ``model`` being sentencepiece's file: the same lines and size give the same one."""

    model: bytes

    @cached_property
    def _processor(self) -> Any:
        from sentencepiece import SentencePieceProcessor

        return SentencePieceProcessor(model_proto=self.model)

    def split(self, line: str) -> list[str]:
        """The pieces of a line; the first of each word begins with U+2581."""
        pieces: list[str] = self._processor.encode(line, out_type=str)
        return pieces

    def join(self, pieces: Iterable[str]) -> str:
        """``split`` undone."""
        line: str = self._processor.decode(list(pieces))
        return line


def learn_subwords(lines: Iterable[str], size: int) -> Subwords:
    """At most ``size`` sub-words of these lines, every character among them; nothing is normalised.

    Raises ``UserError`` where there is nothing to learn from, or ``size`` is too small for the characters.
    """
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=written,
            model_type="bpe",
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            normalization_rule_name="identity",
            max_sentence_length=1 << 20,  # bytes; longer lines would be left out in silence
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise UserError(f"no {size} sub-words can be learned of this text: {said_first(error)}") from error
    return Subwords(written.getvalue())
