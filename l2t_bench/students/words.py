"""Students that read words: the kinds of layer that translation is made of, with one output for the whole sequence."""

from typing import Literal

from torch import Tensor, nn


class RecurrentWords(nn.Module):
    """Words (B, length) -> logits (B, classes): an embedding, an LSTM or a GRU, an output layer on its mean."""

    def __init__(
        self, kind: Literal["lstm", "gru"], vocabulary: int, embedding: int, hidden: int, classes: int
    ) -> None:
        super().__init__()
        layer = nn.LSTM if kind == "lstm" else nn.GRU
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.body = layer(embedding, hidden, batch_first=True)
        self.output = nn.Linear(hidden, classes)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.output(self.body(self.embedding(words))[0].mean(1))
        return logits


class TransformerWords(nn.Module):
    """Words (B, length) -> logits (B, classes): an embedding, an encoder layer, an output layer on its mean.

    The layer is torch's own, without positions: the words are a bag to it.
    """

    def __init__(
        self, vocabulary: int, width: int, heads: int, feedforward: int, classes: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(vocabulary, width), nn.Linear(width, classes)
        self.body = nn.TransformerEncoderLayer(width, heads, feedforward, dropout, activation="gelu", batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.output(self.body(self.embedding(words)).mean(1))
        return logits
