"""Searches for a translation: greedy, beam, and sampled ones, all sentences of a batch at once. No gradients."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from l2t_bench.data.specials import BEGIN, END, PAD
from l2t_bench.errors import UserError

if TYPE_CHECKING:
    from l2t_bench.students.translator import Memory, State, Translator


@dataclass(frozen=True)
class Search:
    """How translations are looked for.

    ``beam``: the ``count`` best of a beam of that size by log p / words, END counted among them; 1 is greedy.
    ``sample``: ``count`` drawn from the student, a function of ``seed``. A translation has at most ``grow`` times its
    source's words and ``more``; one that is cut there has no END.

    Raises ``UserError`` for a count below 1 or lengths that leave no word.
    """

    kind: Literal["beam", "sample"] = "beam"
    count: int = 1
    seed: int = 0
    grow: float = 1.2
    more: int = 5

    def __post_init__(self) -> None:
        if self.count < 1 or self.grow < 0 or self.more < 1:
            raise UserError("a search needs count and more of at least 1, and no negative grow")

    def find(self, student: "Translator", source: Tensor) -> Tensor:
        """Words (B, count, L) of source (B, S): best first, each ends with END and is padded after it."""
        most = (self.grow * (source != PAD).sum(1)).long() + self.more
        if self.kind == "sample":
            return _sampled(student, source, most, self.count, self.seed)
        return _beam(student, source, most, self.count)


def _sampled(student: "Translator", source: Tensor, most: Tensor, count: int, seed: int) -> Tensor:
    """At most ``most`` (B,) words each, drawn by the Gumbel trick, on the CPU: a seed draws alike on every device."""
    generator = torch.Generator().manual_seed(seed)
    memory = _repeated(student.encode(source), count)
    state, word = student.begin(memory), source.new_full((len(source) * count,), BEGIN)
    over, words = word == END, []
    for length in range(1, int(most.max()) + 1):
        logits, state = student.step(memory, state, word)
        noise = torch.rand(logits.shape, generator=generator, dtype=torch.float64).to(logits)
        gumbel = -(-noise.clamp(1e-12, 1 - 1e-7).log()).log()
        word = (sayable(logits) + gumbel).argmax(-1).masked_fill(over, PAD)
        words.append(word)
        over = over | (word == END) | (most <= length).repeat_interleave(count)
        if bool(over.all()):
            break
    return torch.unflatten(torch.stack(words, dim=1), 0, (len(source), count))


class _Beams(NamedTuple):
    """The hypotheses so far, K a sentence: words (B, K, L), log p (B, K), and whether they have ended (B, K)."""

    words: Tensor
    scores: Tensor
    over: Tensor


def _beam(student: "Translator", source: Tensor, most: Tensor, size: int) -> Tensor:
    memory = _repeated(student.encode(source), size)
    state = student.begin(memory)
    beams = _one_beam(source, size, state[0].dtype)
    word = source.new_full((len(source) * size,), BEGIN)
    for length in range(1, int(most.max()) + 1):
        logits, state = student.step(memory, state, word)
        beams, rows = _extended(
            beams, torch.unflatten(torch.log_softmax(sayable(logits), dim=-1), 0, (len(source), size))
        )
        state = _rows(state, rows) if size > 1 else state
        beams = beams._replace(over=beams.over | (most <= length)[:, None])
        word = beams.words[:, :, -1].flatten()
        if bool(beams.over.all()):
            break
    return _best_first(beams)


def _one_beam(source: Tensor, size: int, dtype: torch.dtype) -> _Beams:
    """A single live hypothesis: the others would be the same."""
    scores = torch.full((len(source), size), -torch.inf, dtype=dtype, device=source.device)
    scores[:, 0] = 0
    return _Beams(source.new_empty((len(source), size, 0)), scores, scores > 0)


def _extended(beams: _Beams, log_p: Tensor) -> tuple[_Beams, Tensor]:
    """The best hypotheses one word on, and whose continuation each is: rows of the B * K. log_p (B, K, V).

    A hypothesis that has ended goes on with padding alone, at no cost.
    """
    count, size, vocabulary = log_p.shape
    ended = torch.full_like(log_p[0, 0], -torch.inf)
    ended[PAD] = 0
    total = beams.scores[:, :, None] + torch.where(beams.over[:, :, None], ended, log_p)
    scores, at = total.flatten(1).topk(size)
    parent, word = at // vocabulary, at % vocabulary
    kept = beams.words.gather(1, parent[:, :, None].expand(-1, -1, beams.words.shape[2]))
    over = beams.over.gather(1, parent) | (word == END)
    rows = (parent + size * torch.arange(count, device=at.device)[:, None]).flatten()
    return _Beams(torch.cat([kept, word[:, :, None]], dim=2), scores, over), rows


def _best_first(beams: _Beams) -> Tensor:
    """The hypotheses in the order of log p / words, END counted."""
    lengths = (beams.words != PAD).sum(2)
    order = (beams.scores / lengths).argsort(dim=1, descending=True, stable=True)
    return beams.words.gather(1, order[:, :, None].expand_as(beams.words))


def sayable(logits: Tensor) -> Tensor:
    """Logits (..., V) with PAD and BEGIN out of question."""
    hidden = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    hidden[[PAD, BEGIN]] = True
    return logits.masked_fill(hidden, -torch.inf)


def _repeated(memory: "Memory", count: int) -> "Memory":
    return tuple(part.repeat_interleave(count, dim=0) for part in memory)


def _rows(state: "State", rows: Tensor) -> "State":
    return tuple(part.index_select(0, rows) for part in state)
