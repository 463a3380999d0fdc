"""Clipping by the global norm inside a student's step, and its adjoint; ``torch.nn.utils.clip_grad_norm_``'s rule."""

import torch

from l2t_bench.tensors import TensorDict, Tensors, inner, norm, scaled

_MARGIN = 1e-6  # torch divides by |g| + 1e-6


def clip(gradients: Tensors, bound: float | None) -> TensorDict:
    """``gradients`` times min(1, bound / (|g| + 1e-6)); as they are without a bound."""
    if bound is None:
        return dict(gradients)
    return scaled((bound / (norm(gradients) + _MARGIN)).clamp(max=1.0), gradients)


def pull_back_clip(clipped_bar: TensorDict, gradients: Tensors, bound: float | None) -> TensorDict:
    """The adjoint of the raw gradients g from that of the clipped ones.

    (c/n') (g_bar - g <g, g_bar> / (n n')) with n = |g|, n' = n + 1e-6 where the bound c is active, else g_bar.
    """
    if bound is None:
        return clipped_bar
    length = norm(gradients)
    coefficient = bound / (length + _MARGIN)
    along = inner(clipped_bar, gradients) / (length * (length + _MARGIN))
    along = torch.where(coefficient < 1, along, torch.zeros_like(along))
    coefficient = coefficient.clamp(max=1.0)
    return {name: coefficient * (bar - along * gradients[name]) for name, bar in clipped_bar.items()}
