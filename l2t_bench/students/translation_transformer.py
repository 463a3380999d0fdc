"""The Transformer (Vaswani et al. 2017) of appendix B.3: six layers that read, six that write, of the small setting.

Attention is written out: its products and softmax have second derivatives, which the fused kernels have not.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from l2t_bench.students.translator import Memory, State, Translator, masked_softmax, padding_of


class Attention(nn.Module):
    """Queries (B, R, D) over keys and values of heads (B, heads, S, D / heads) -> (B, R, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)

    def remember(self, inputs: Tensor) -> Tensor:
        """Keys and values of inputs (B, S, D): (B, 2 heads, S, D / heads)."""
        return self._by_heads(self.memory(inputs), 2 * self.heads)

    def forward(self, inputs: Tensor, remembered: Tensor, hidden: Tensor) -> Tensor:
        """``hidden`` is where no position may look, broadcast to (B, heads, R, S)."""
        keys, values = torch.split(remembered, self.heads, dim=1)
        query = self._by_heads(self.query(inputs), self.heads) / math.sqrt(keys.shape[-1])
        weights = masked_softmax(query @ keys.transpose(-1, -2), hidden)
        found: Tensor = self.output((weights @ values).transpose(1, 2).flatten(2))
        return found

    @staticmethod
    def _by_heads(inputs: Tensor, heads: int) -> Tensor:
        return torch.unflatten(inputs, -1, (heads, -1)).transpose(1, 2)


class ReadingLayer(nn.Module):
    """Self-attention and two linear layers, each of the normalised inputs and added to them."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, activation: str) -> None:
        super().__init__()
        self.itself, self.itself_norm = Attention(width, heads), nn.LayerNorm(width)
        self.wide, self.narrow, self.wide_norm = nn.Linear(width, inner), nn.Linear(inner, width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.activation: Callable[[Tensor], Tensor] = functional.gelu if activation == "gelu" else functional.relu

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """A source's positions (B, S, D) one layer up."""
        normed = self.itself_norm(inputs)
        attended = inputs + self.dropout(self.itself(normed, self.itself.remember(normed), hidden))
        return self._widened(attended)

    def _widened(self, inputs: Tensor) -> Tensor:
        inner = self.activation(self.wide(self.wide_norm(inputs)))
        widened: Tensor = inputs + self.dropout(self.narrow(inner))
        return widened


class WritingLayer(ReadingLayer):
    """A layer that attends to the source too, between the other two."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float, activation: str) -> None:
        super().__init__(width, heads, inner, dropout, activation)
        self.across, self.across_norm = Attention(width, heads), nn.LayerNorm(width)

    def write(
        self, inputs: Tensor, before: Tensor, hidden: Tensor, source: Tensor, padding: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Positions (B, R, D) one layer up, and what is remembered of them after what was ``before`` them."""
        normed = self.itself_norm(inputs)
        remembered = torch.cat([before, self.itself.remember(normed)], dim=2)
        inputs = inputs + self.dropout(self.itself(normed, remembered, hidden))
        inputs = inputs + self.dropout(self.across(self.across_norm(inputs), source, padding))
        return self._widened(inputs), remembered


class TranslationTransformer(Translator):
    """Layers that normalise before (as tensor2tensor's transformer_small does), sinusoidal positions, ReLU or GELU."""

    def __init__(
        self,
        source: int,
        target: int,
        width: int = 256,
        heads: int = 4,
        inner: int = 1024,
        layers: int = 6,
        dropout: float = 0.0,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.source, self.target = Words(source, width), Words(target, width)
        options = width, heads, inner, dropout, activation
        self.encoder = nn.ModuleList(ReadingLayer(*options) for _ in range(layers))
        self.decoder = nn.ModuleList(WritingLayer(*options) for _ in range(layers))
        self.source_norm, self.target_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.output = nn.Linear(width, target)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor) -> Memory:
        """Padding (B, 1, 1, S), and of each decoder layer keys and values of the source (B, 2 heads, S, D / heads)."""
        padding, states = padding_of(source)[:, None, None], self.dropout(self.source(source))
        for layer in self.encoder:
            states = layer(states, padding)
        states = self.source_norm(states)
        return padding, *(layer.across.remember(states) for layer in self._writing)

    @property
    def _writing(self) -> list[WritingLayer]:
        return [layer for layer in self.decoder if isinstance(layer, WritingLayer)]

    def begin(self, memory: Memory) -> State:
        """Nothing is remembered yet: (B, 2 heads, 0, D / heads) a layer."""
        return tuple(remembered[:, :, :0] for remembered in memory[1:])

    def step(self, memory: Memory, state: State, words: Tensor) -> tuple[Tensor, State]:
        logits, after = self._written(memory, state, words[:, None])
        return logits[:, 0], after

    def logits(self, memory: Memory, before: Tensor) -> Tensor:
        return self._written(memory, self.begin(memory), before)[0]

    def _written(self, memory: Memory, state: State, words: Tensor) -> tuple[Tensor, State]:
        """Logits (B, R, V) at R words after those that ``state`` remembers, and what is remembered then."""
        past, count = state[0].shape[2], words.shape[1]
        ahead = torch.ones(count, past + count, dtype=torch.bool, device=words.device).triu(past + 1)
        states, after = self.dropout(self.target(words, past)), []
        for layer, before, source in zip(self._writing, state, memory[1:], strict=True):
            states, remembered = layer.write(states, before, ahead, source, memory[0])
            after.append(remembered)
        return self.output(self.target_norm(states)), tuple(after)


class Words(nn.Embedding):
    """Words (B, R) -> (B, R, D): embeddings of standard deviation D^-1/2 times D^1/2, plus sinusoids of positions."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)

    def forward(self, words: Tensor, past: int = 0) -> Tensor:
        embedded = super().forward(words) * math.sqrt(self.embedding_dim)
        return embedded + sinusoids(past, words.shape[1], self.embedding_dim, embedded)


def sinusoids(past: int, count: int, width: int, like: Tensor) -> Tensor:
    """Positions from ``past`` on, (count, width): sines, then cosines (Vaswani et al. 2017, section 3.5)."""
    at = torch.arange(past, past + count, dtype=like.dtype, device=like.device)
    pairs = (width + 1) // 2
    rates = torch.exp(
        torch.arange(pairs, dtype=like.dtype, device=like.device) * (-math.log(10_000) / max(1, pairs - 1))
    )
    angles = at[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]
