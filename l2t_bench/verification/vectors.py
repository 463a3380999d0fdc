"""Gradients as vectors: errors, angles and lengths of one against another, and random directions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from l2t_bench.modules import mix_seeds
from l2t_bench.tensors import TensorDict, Tensors


def flat(tensors: Mapping[str, Tensor]) -> Tensor:
    """All entries in one vector, in the order of the keys."""
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)])


def relative_error(found: Tensors, true: Tensors) -> float:
    """|found - true| / |true| over all entries together."""
    return float(torch.linalg.vector_norm(flat(found) - flat(true)) / torch.linalg.vector_norm(flat(true)))


def cosine(left: Tensors, right: Tensors) -> float:
    return float(torch.nn.functional.cosine_similarity(flat(left), flat(right), dim=0))


def norm_ratio(found: Tensors, true: Tensors) -> float:
    return float(torch.linalg.vector_norm(flat(found)) / torch.linalg.vector_norm(flat(true)))


def inner(left: Tensors, right: Tensors) -> float:
    return float(flat(left) @ flat(right))


def random_directions(theta: Tensors, count: int) -> list[TensorDict]:
    """Standard normal directions in theta's space, always the same ones."""
    generator = torch.Generator().manual_seed(mix_seeds(count, 31))
    return [
        {
            name: torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
            for name, tensor in theta.items()
        }
        for _ in range(count)
    ]
