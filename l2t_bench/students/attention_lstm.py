"""The recurrent students of section 4.2: an LSTM that reads, an LSTM that writes, additive attention between them."""

import torch
from torch import Tensor, nn

from l2t_bench.students.lstm import BidirectionalLSTM, gated
from l2t_bench.students.translator import Memory, State, Translator, masked_softmax, padding_of


class AttentionLSTM(Translator):
    """Bahdanau et al. 2015 with LSTM cells: a bidirectional encoder and a decoder of ``layers`` layers each.

    At position r, h the first decoder layer's state before it:
    a = softmax over s of v . tanh(Q h + K m_s), context c = sum of a_s m_s, gates of the first layer =
    U e(y_{r-1}) + R h + C c, and logits = O tanh(P [h_top, c, e(y_{r-1})]). What depends on no state is taken for all
    positions at once: K m_s, U e, C m_s (so that C c is a sum of those), and the logits. Of a step's products that
    leaves one for each layer, Q and R being one matrix, and the sum over s.
    """

    def __init__(
        self, source: int, target: int, embedding: int, hidden: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.hidden, self.layers = hidden, layers
        self.source, self.target = nn.Embedding(source, embedding), nn.Embedding(target, embedding)
        self.encoder = nn.ModuleList(
            BidirectionalLSTM(embedding if not layer else 2 * hidden, hidden) for layer in range(layers)
        )
        self.first = nn.Linear(2 * hidden, layers * hidden)
        self.keys = nn.Linear(2 * hidden, hidden)
        self.values = nn.Linear(2 * hidden, 4 * hidden, bias=False)
        self.inputs = nn.Linear(embedding, 4 * hidden)
        self.recurrent = nn.Linear(hidden, 5 * hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.upper = nn.ModuleList(nn.Linear(2 * hidden, 4 * hidden) for _ in range(layers - 1))
        self.readout = nn.Linear(3 * hidden + embedding, embedding)
        self.output = nn.Linear(embedding, target)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor) -> Memory:
        """States (B, S, 2H), keys (B, S, H), values (B, S, 4H), padding (B, S), and h before all (B, layers H)."""
        padding, states = padding_of(source), self.dropout(self.source(source))
        for layer in self.encoder:
            states, last = layer(states, padding)
        return states, self.keys(states), self.values(states), padding, torch.tanh(self.first(last))

    def begin(self, memory: Memory) -> State:
        """Hidden states and cells of all layers, (B, layers H) each."""
        return memory[4], torch.zeros_like(memory[4])

    def step(self, memory: Memory, state: State, words: Tensor) -> tuple[Tensor, State]:
        embedded = self.target(words)
        hidden, cell, attention = self._go_on(memory, *self._split(state), self.inputs(embedded))
        top = self._top(memory, hidden[-1][:, None], attention[:, None], embedded[:, None])
        return self.output(top)[:, 0], (torch.cat(hidden, dim=-1), torch.cat(cell, dim=-1))

    def logits(self, memory: Memory, before: Tensor) -> Tensor:
        embedded = self.dropout(self.target(before))
        hidden, cell = self._split(self.begin(memory))
        tops, attentions = [], []
        for given in self.inputs(embedded).unbind(1):
            hidden, cell, attention = self._go_on(memory, hidden, cell, given)
            tops.append(hidden[-1])
            attentions.append(attention)
        top = self._top(memory, torch.stack(tops, dim=1), torch.stack(attentions, dim=1), embedded)
        logits: Tensor = self.output(self.dropout(top))
        return logits

    def _split(self, state: State) -> tuple[list[Tensor], list[Tensor]]:
        hidden, cell = (list(torch.split(part, self.hidden, dim=-1)) for part in state)
        return hidden, cell

    def _go_on(
        self, memory: Memory, hidden: list[Tensor], cell: list[Tensor], given: Tensor
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """One word on: states and cells of all layers, and the attention (B, S)."""
        _, keys, values, padding, _ = memory
        query, recurrent = torch.split(self.recurrent(hidden[0]), [self.hidden, 4 * self.hidden], dim=-1)
        energy = self.energy(torch.tanh(keys + query[:, None])).squeeze(-1)
        attention = masked_softmax(energy, padding)
        gates = given + recurrent + (attention[:, None] @ values).squeeze(1)
        below, moved = gated(gates, cell[0])
        states, cells = [below], [moved]
        for layer, before, held in zip(self.upper, hidden[1:], cell[1:], strict=True):
            below, moved = gated(layer(torch.cat([below, before], dim=-1)), held)
            states.append(below)
            cells.append(moved)
        return states, cells, attention

    def _top(self, memory: Memory, hidden: Tensor, attention: Tensor, embedded: Tensor) -> Tensor:
        """What the output layer reads, (B, R, E), of R positions at once."""
        return torch.tanh(self.readout(torch.cat([hidden, attention @ memory[0], embedded], dim=-1)))
