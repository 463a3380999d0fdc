"""A trained student's translations of a whole part of its text, and their BLEU as it is reported."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from l2t_bench.bleu import CorpusBLEU, corpus_bleu
from l2t_bench.data.specials import PAD
from l2t_bench.data.spelling import Spelling
from l2t_bench.errors import UserError
from l2t_bench.expected_bleu import CandidateDev
from l2t_bench.problem import StudentState, TeachingProblem
from l2t_bench.students.search import Search


class Translated(NamedTuple):
    """Sentences in the order of their file: what was found, and the references; tokens separated by blanks."""

    found: list[str]
    references: list[str]

    def bleu(self) -> CorpusBLEU:
        """Corpus BLEU of the tokens, with sacrebleu's signature (``tok:none``)."""
        return corpus_bleu(self.found, self.references)

    def detokenised_bleu(self, language: str = "en") -> CorpusBLEU:
        """The same of text put together by Moses' rules and taken apart by sacrebleu (``tok:13a``)."""
        return corpus_bleu(detokenised(self.found, language), detokenised(self.references, language), tokenize="13a")


def translate(
    problem: TeachingProblem,
    state: StudentState,
    part: Literal["dev", "test"] = "test",
    search: Search | None = None,
    batch: int = 64,
) -> Translated:
    """The best translation of each sentence of a part, by ``search``: greedy, unless another is given.

    Sentences of like length go together, ``batch`` at a time. Raises ``UserError`` for a problem that does not
    translate.
    """
    spelling, asked = spelling_of(problem), search or Search()
    sources, references = _rows(problem, part)
    lengths = torch.stack([(row != PAD).sum() for row in sources])
    found = [""] * len(sources)
    for rows in torch.split(lengths.argsort(stable=True), batch):
        width = int(lengths[rows].max())
        source = torch.stack([_widened(sources[row], width) for row in rows.tolist()])
        sentences = spelling.sentences(problem.decode(state, (source, asked))[:, 0])
        for row, sentence in zip(rows.tolist(), sentences, strict=True):
            found[row] = sentence
    return Translated(found, spelling.sentences(torch.stack(references)))


def spelling_of(problem: TeachingProblem) -> Spelling:
    """The words of a problem's target vocabulary. Raises ``UserError`` where it does not translate."""
    if not isinstance(problem.prepare_dev, CandidateDev):
        raise UserError(f"{problem.name} is no translation problem: its dev candidates are not CandidateDev's")
    return problem.prepare_dev.spelling()


def detokenised(sentences: list[str], language: str) -> list[str]:
    """Moses' tokens as text: ``it &apos;s so .`` is ``it's so.``."""
    from sacremoses import MosesDetokenizer

    moses = MosesDetokenizer(lang=language)
    return [str(moses.detokenize(sentence.split())) for sentence in sentences]


def _rows(problem: TeachingProblem, part: Literal["dev", "test"]) -> tuple[list[Tensor], list[Tensor]]:
    """Sources and references of a part, one by one, the references padded to one width."""
    batches = problem.dev_batches if part == "dev" else problem.test_batches
    width = max(targets.shape[1] for _, targets in batches)
    sources = [row for (source, _), _ in batches for row in source]
    return sources, [_widened(row, width) for _, targets in batches for row in targets]


def _widened(row: Tensor, width: int) -> Tensor:
    """Padded to a width, or cut to it where what is cut is padding."""
    return functional.pad(row, (0, width - len(row)), value=PAD)
