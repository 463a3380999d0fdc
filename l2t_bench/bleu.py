"""BLEU by sacrebleu, of sentences that are tokens separated by blanks."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics.bleu import BLEU


class CorpusBLEU(NamedTuple):
    """A score from 0 to 100, and sacrebleu's signature, by which it can be compared with others."""

    score: float
    signature: str


def corpus_bleu(found: Sequence[str], references: Sequence[str], tokenize: str = "none") -> CorpusBLEU:
    """The BLEU of all sentences together against one reference each, ``tokenize`` as sacrebleu has it."""
    metric = BLEU(tokenize=tokenize, force=True)  # force: tokens are what is asked for, no reason for a warning
    score = metric.corpus_score(list(found), [list(references)]).score
    return CorpusBLEU(score, str(metric.get_signature()))


def sentence_bleu(found: str, reference: str) -> float:
    """The BLEU of a sentence, from 0 to 1: of the orders that it has, smoothed as sacrebleu does (``exp``)."""
    metric = BLEU(tokenize="none", force=True, effective_order=True)
    return float(metric.sentence_score(found, [reference]).score) / 100
