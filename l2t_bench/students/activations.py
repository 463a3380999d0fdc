"""Nonlinearities and pooling of the paper's small students; it names no nonlinearity, ``tanh`` makes a smooth one."""

from torch import nn

from l2t_bench.errors import UserError


def activation(name: str) -> nn.Module:
    """``relu`` or ``tanh`` as a module. Raises ``UserError`` for another name."""
    if name == "relu":
        return nn.ReLU()
    if name == "tanh":
        return nn.Tanh()
    raise UserError(f"no nonlinearity {name!r}: there are relu and tanh")


def pooling(name: str) -> nn.Module:
    """2x2 pooling, ``max`` or ``average``, as a module. Raises ``UserError`` for another name."""
    if name == "max":
        return nn.MaxPool2d(2)
    if name == "average":
        return nn.AvgPool2d(2)
    raise UserError(f"no pooling {name!r}: there are max and average")
