"""Parallel text as replayable batches of word numbers: vocabulary, padding and buckets of like length by torchtext."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from random import Random
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torchtext.data import Batch, BucketIterator, Dataset, Example, Field
from torchtext.data.utils import RandomShuffler
from torchtext.datasets import TranslationDataset
from torchtext.vocab import Vocab

from l2t_bench.data.parallel_parts import TextParts
from l2t_bench.data.specials import BEGIN, END, PAD, SPECIALS
from l2t_bench.data.spelling import Spelling
from l2t_bench.data.text_files import Pair, ParallelText
from l2t_bench.errors import UserError
from l2t_bench.modules import mix_seeds

_EPOCHS = 8  # of the batches drawn last: students of a meta-batch draw in turn


class TextBatch(NamedTuple):
    """Inputs (source (B, S), the words before (B, R)) and targets (B, R), padded by ``PAD``, sources end in ``END``.

    Row by row the words before are BEGIN y_1 ... y_n, and the targets y_1 ... y_n END; in a row that is shorter than
    the longest, the END stands among the words before too, where the target is padding.
    """

    inputs: tuple[Tensor, Tensor]
    targets: Tensor


@dataclass(frozen=True)
class TextForm:
    """How many words each vocabulary may have, special ones included, and what widths are padded to a multiple of."""

    source: int
    target: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if min(self.source, self.target) <= len(SPECIALS):
            raise UserError(
                f"vocabularies hold {', '.join(SPECIALS)} and words: they cannot have {self.source} and {self.target}"
            )
        if self.multiple < 1:
            raise UserError(f"widths can be padded to multiples of 1 and more, not of {self.multiple}")


class PairDataset(TranslationDataset):  # type: ignore[misc]
    """torchtext's data set of pairs, made of tokens and not of two files: those were read with mistrust."""

    def __init__(self, pairs: Sequence[Pair], fields: tuple[Field, Field]) -> None:
        named = list(zip(("src", "trg"), fields, strict=True))
        Dataset.__init__(self, [Example.fromlist(pair, named) for pair in pairs], named)


def make_fields(text: ParallelText, form: TextForm) -> tuple[Field, Field]:
    """Source and target field with vocabularies of ``text``'s most frequent words.

    Raises ``UserError`` for a text that has a special word among its words: it would be taken for one.
    """
    fields = (
        Field(batch_first=True, eos_token=SPECIALS[END]),
        Field(batch_first=True, init_token=SPECIALS[BEGIN], eos_token=SPECIALS[END]),
    )
    for field, side, size in zip(fields, zip(*text.pairs, strict=True), (form.source, form.target), strict=True):
        for words in side:
            if taken := set(SPECIALS) & set(words):
                raise UserError(f"the text has the special word {taken.pop()} in {' '.join(words)!r}: take it out")
        field.build_vocab(side, max_size=size - len(SPECIALS), specials=[])
        field.vocab = _with_specials(field.vocab, size)
    return fields


def _with_specials(found: Vocab, size: int) -> Vocab:
    """The vocabulary with all special words at their numbers: a field numbers those that it uses alone."""
    return Vocab(found.freqs, max_size=size - len(SPECIALS), specials=list(SPECIALS))


def check_vocabulary(vocab: Vocab) -> None:
    """Raises ``UserError`` for a vocabulary in which a special word is not at its number."""
    for number, word in enumerate(SPECIALS):
        if vocab.itos[number : number + 1] != [word]:
            raise UserError(f"the vocabulary must have {word} as number {number}: it begins {vocab.itos[:4]}")


def as_batch(examples: Sequence[Example], dataset: PairDataset, device: torch.device, multiple: int) -> TextBatch:
    """Numbers of some examples, padded to the longest of each side and on to a multiple."""
    made = Batch(list(examples), dataset, device)
    target = _padded(made.trg, multiple, beside=1)
    return TextBatch((_padded(made.src, multiple), target[:, :-1].contiguous()), target[:, 1:].contiguous())


def _padded(words: Tensor, multiple: int, beside: int = 0) -> Tensor:
    return functional.pad(words, (0, -(words.shape[1] - beside) % multiple), value=PAD)


class TextBatches:
    """A batch source: epochs of batches of sentences of like length, in an order shuffled by (seed, epoch).

    torchtext's ``BucketIterator``: a hundred batches at a time are sorted by length, cut into batches, and these
    shuffled. A batch that is not full is left out of its epoch. Raises ``UserError`` where none is full.
    """

    def __init__(
        self, load: Callable[[], PairDataset], batch_size: int, device: torch.device, multiple: int = 1
    ) -> None:
        if batch_size < 1:
            raise UserError(f"the batch size must be at least 1, not {batch_size}")
        self._load = load
        self.batch_size = batch_size
        self.multiple = multiple
        self._device = device
        # A pure function of (seed, epoch), kept for speed alone.
        self._epoch = lru_cache(maxsize=_EPOCHS)(self._draw_epoch)

    @cached_property
    def dataset(self) -> PairDataset:
        dataset = self._load()
        if len(dataset) < self.batch_size:
            raise UserError(f"{len(dataset)} training pairs are fewer than a batch of {self.batch_size}")
        return dataset

    def __call__(self, index: int, seed: int) -> TextBatch:
        epoch, position = divmod(index, len(self.dataset) // self.batch_size)
        return as_batch(self._epoch(seed, epoch)[position], self.dataset, self._device, self.multiple)

    def _draw_epoch(self, seed: int, epoch: int) -> list[list[Any]]:
        # Without sort_within_batch torchtext's buckets are not sorted at all.
        buckets = BucketIterator(self.dataset, self.batch_size, sort_within_batch=True)
        buckets.random_shuffler = RandomShuffler(Random(mix_seeds(seed, epoch)).getstate())
        buckets.create_batches()
        return [batch for batch in buckets.batches if len(batch) == self.batch_size]


class TextSplits:
    """A problem's text, read when it is first needed: vocabularies of train, batches of all parts."""

    def __init__(self, load: Callable[[], TextParts], form: TextForm, device: torch.device) -> None:
        self._load = load
        self.form = form
        self._device = device

    @cached_property
    def parts(self) -> TextParts:
        return self._load()

    @cached_property
    def fields(self) -> tuple[Field, Field]:
        return make_fields(self.parts.train, self.form)

    def spell(self) -> Spelling:
        """The words of the target's vocabulary."""
        return Spelling(tuple(self.fields[1].vocab.itos))

    def train(self, batch_size: int) -> TextBatches:
        """The training batches; nothing is read before the first is drawn."""
        return TextBatches(
            lambda: PairDataset(self.parts.train.pairs, self.fields), batch_size, self._device, self.form.multiple
        )

    def chunks(self, part: str, size: int) -> list[TextBatch]:
        """``dev`` or ``test`` in its order, ``size`` sentences at a time. Raises ``UserError`` where there are none."""
        pairs = getattr(self.parts, part).pairs
        if not pairs:
            raise UserError(f"the text has no {part} part")
        dataset = PairDataset(pairs, self.fields)
        rows = range(0, len(pairs), size)
        return [as_batch(dataset.examples[row : row + size], dataset, self._device, self.form.multiple) for row in rows]
