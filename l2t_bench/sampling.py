"""Random directions that can be drawn again, and the mean of a sample with its standard error."""

import math

import torch

from l2t_bench.modules import mix_seeds
from l2t_bench.tensors import TensorDict, Tensors, global_norm, zeros_like


def standard_normal(like: Tensors, *seeds: int) -> TensorDict:
    """Independent standard normal entries in the shapes of ``like``, the same on every device for equal ``seeds``."""
    generator = torch.Generator().manual_seed(mix_seeds(*seeds))
    return {
        name: torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
        for name, tensor in like.items()
    }


class SampleMean:
    """The mean of samples that come one by one, and how far it may be off (Welford 1962)."""

    def __init__(self, like: Tensors) -> None:
        self.count = 0
        self.mean = {name: tensor.detach() for name, tensor in zeros_like(like).items()}
        self._squares = zeros_like(self.mean)

    def add(self, sample: Tensors) -> None:
        self.count += 1
        for name, value in sample.items():
            away = value - self.mean[name]
            self.mean[name] = self.mean[name] + away / self.count
            self._squares[name] = self._squares[name] + away * (value - self.mean[name])

    def standard_error(self) -> TensorDict:
        """Of each entry of the mean; needs two samples."""
        scale = self.count * (self.count - 1)
        return {name: (squares / scale).sqrt() for name, squares in self._squares.items()}

    def relative_error(self) -> float:
        """|standard error| / |mean|; infinite where the mean is zero."""
        length = global_norm(self.mean)
        return global_norm(self.standard_error()) / length if length > 0 else math.inf
