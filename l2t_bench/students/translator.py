"""What all translating students share: source and words before in, logits out; and ``decode``, a search for the words.

A student says how it reads a source (``encode``), how it goes on by one word (``step``), and how by all words that are
known (``logits``). All tensors of its memory and its states have the sentences as their first dimension.
"""

from typing import Any

import torch
from torch import Tensor, nn

from l2t_bench.data.specials import PAD
from l2t_bench.students.drawing import Drawing, Drawn
from l2t_bench.students.search import Search

Memory = tuple[Tensor, ...]
"""What a student keeps of a source."""

State = tuple[Tensor, ...]
"""Where it is in a translation."""


class Translator(nn.Module):
    """(source (B, S), words before (B, R)) -> logits (B, R, V); (B, K, R) -> (B, K, R, V): K translations a source.

    ``source`` and ``target`` embed the words of either language, in one width.
    With ``drawing`` it tells ``Drawn`` in training (``with_drawing``).
    """

    source: nn.Embedding
    target: nn.Embedding
    drawing: Drawing | None = None

    def encode(self, source: Tensor) -> Memory:
        raise NotImplementedError

    def begin(self, memory: Memory) -> State:
        """The state before the first word."""
        raise NotImplementedError

    def step(self, memory: Memory, state: State, words: Tensor) -> tuple[Tensor, State]:
        """Logits (B, V) of the next word after ``words`` (B,), and the state there."""
        raise NotImplementedError

    def logits(self, memory: Memory, before: Tensor) -> Tensor:
        """Logits (B, R, V) at all positions at once, each of the words before it: teacher forcing."""
        raise NotImplementedError

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor | Drawn:
        return self.scored(inputs) if self.drawing is None or not self.training else self.drawing(self, inputs)

    def scored(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of the words that are given."""
        source, before = inputs
        memory = self.encode(source)
        if before.ndim == 2:
            return self.logits(memory, before)
        each = tuple(part.repeat_interleave(before.shape[1], dim=0) for part in memory)
        return torch.unflatten(self.logits(each, before.flatten(0, 1)), 0, before.shape[:2])

    def decode(self, inputs: Any) -> Tensor:
        """The words that a search finds, padded after their END: greedy ones (B, L) of a batch's inputs.

        Of ``(source, Search)`` what that asks for, (B, K, L), best first.
        """
        source, how = inputs
        asked = how if isinstance(how, Search) else Search()
        found = asked.find(self, source)
        return found if isinstance(how, Search) else found[:, 0]


def padding_of(source: Tensor) -> Tensor:
    """Where a source is padding: (B, S), booleans."""
    return source == PAD


def masked_softmax(scores: Tensor, hidden: Tensor) -> Tensor:
    """Softmax over the last dimension, 0 where ``hidden``; a row that is hidden altogether gets equal weights."""
    return torch.softmax(scores.masked_fill(hidden, torch.finfo(scores.dtype).min), dim=-1)
