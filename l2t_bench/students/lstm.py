"""LSTM cells of plain tensor operations: they have second derivatives everywhere, and rules for ``torch.func.vmap``.

The input's part of the gates is one product for all steps; a step has one product more, for all gates at once.
"""

import math

import torch
from torch import Tensor, nn


def gated(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden state and cell (..., H) of gates (..., 4H), in the order input, forget, output, candidate."""
    width = cell.shape[-1]
    i, f, o = torch.split(torch.sigmoid(gates[..., : 3 * width]), width, dim=-1)
    cell = f * cell + i * torch.tanh(gates[..., 3 * width :])
    return o * torch.tanh(cell), cell


class BidirectionalLSTM(nn.Module):
    """Inputs (B, S, I) -> hidden states (B, S, 2H) and the last of each direction (B, 2H); padding is passed over.

    Both directions go in one loop: its product has them as a batch of two.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.inputs = nn.Linear(inputs, 2 * 4 * hidden)
        self.recurrent = nn.Parameter(torch.empty(2, hidden, 4 * hidden))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.hidden)
        for parameter in (self.recurrent, *self.inputs.parameters()):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, inputs: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        gates = torch.unflatten(self.inputs(inputs), -1, (2, 4 * self.hidden))  # (B, S, 2, 4H)
        steps = torch.stack([gates[:, :, 0], gates[:, :, 1].flip(1)]).unbind(2)  # S of (2, B, 4H)
        skip = torch.stack([padding, padding.flip(1)])[..., None].unbind(2)  # S of (2, B, 1)
        hidden = cell = torch.zeros_like(steps[0][..., : self.hidden])
        states = []
        for given, over in zip(steps, skip, strict=True):
            after, moved = gated(given + hidden @ self.recurrent, cell)
            hidden, cell = torch.where(over, hidden, after), torch.where(over, cell, moved)
            states.append(hidden)
        forward, backward = torch.stack(states, dim=2)  # each (B, S, H)
        last = torch.cat([hidden[0], hidden[1]], dim=-1)
        return torch.cat([forward, backward.flip(1)], dim=-1), last
