"""The nonlinearities of the paper's small students: the paper does not name one; ``tanh`` makes a smooth student."""

from torch import nn

from l2t_bench.errors import UserError


def activation(name: str) -> nn.Module:
    """``relu`` or ``tanh`` as a module. Raises ``UserError`` for another name."""
    if name == "relu":
        return nn.ReLU()
    if name == "tanh":
        return nn.Tanh()
    raise UserError(f"no nonlinearity {name!r}: there are relu and tanh")
