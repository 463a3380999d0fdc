"""Problems on words drawn at random: students of real sizes to prove and to time a backend on, without a data set.

Neither proofs nor seconds depend on what the words say. There is nothing to be learned here.
"""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from l2t_bench.batches import Batch
from l2t_bench.errors import UserError
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.modules import mix_seeds, seeded, trained_parameters
from l2t_bench.objectives import ExpectedAccuracy
from l2t_bench.optimizers import SGD
from l2t_bench.problem import TeachingProblem
from l2t_bench.students.words import RecurrentWords, TransformerWords
from l2t_bench.teachers import AttentionTeacher

_DEV_CHUNK = 250


@dataclass(frozen=True)
class RandomWords:
    """What the problems on random words share; each of its sizes must be at least 1."""

    batch: int = 20
    vocabulary: int = 1000
    length: int = 20
    classes: int = 10
    dev: int = 100
    keys: int = 10
    lr: float = 0.1
    momentum: float = 0.9

    def student(self) -> nn.Module:
        raise NotImplementedError

    def build(self, name: str, device: torch.device, dtype: torch.dtype) -> TeachingProblem:
        """The problem itself, on ``device`` in ``dtype``."""
        self.check()
        return TeachingProblem(
            student=self.student().to(device=device, dtype=dtype),
            teacher=AttentionTeacher(self.classes, features=1, keys=self.keys, noise=0.1).to(device, dtype),
            loss=bilinear_sigmoid,
            objective=ExpectedAccuracy(),
            optimizer=SGD(lr=self.lr, momentum=self.momentum),
            train=lambda index, seed: self._drawn(mix_seeds(seed, index), self.batch, device),
            dev=lambda: self._dev(device),
            init=self._init,
            name=name,
        )

    def check(self) -> None:
        """Raises ``UserError`` for options that make no problem."""
        for field in fields(self):
            if field.type is int and getattr(self, field.name) < 1:
                raise UserError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")

    def _dev(self, device: torch.device) -> list[Batch]:
        parts = self._drawn(mix_seeds(0, 61), self.dev, device)
        return list(zip(*(part.split(_DEV_CHUNK) for part in parts), strict=True))

    def _drawn(self, seed: int, size: int, device: torch.device) -> Batch:
        """Words (size, length) and classes (size,), a pure function of the seed."""
        generator = torch.Generator().manual_seed(mix_seeds(seed, 59))
        words = torch.randint(self.vocabulary, (size, self.length), generator=generator)
        return words.to(device), torch.randint(self.classes, (size,), generator=generator).to(device)

    def _init(self, seed: int) -> dict[str, Tensor]:
        with seeded(mix_seeds(seed, 67), torch.device("cpu")):  # attention has no reset_parameters that covers it
            return {name: param.detach() for name, param in trained_parameters(self.student()).items()}


@dataclass(frozen=True)
class RandomRecurrent(RandomWords):
    """Random words, an LSTM or a GRU of the paper's width (section 4.2) over 20 words."""

    kind: Literal["lstm", "gru"] = "lstm"
    hidden: int = 256

    def student(self) -> nn.Module:
        return RecurrentWords(self.kind, self.vocabulary, self.hidden, self.hidden, self.classes)


@dataclass(frozen=True)
class RandomTransformer(RandomWords):
    """Random words, one encoder layer as wide as a small translation model's, over 20 words."""

    width: int = 256
    heads: int = 4
    feedforward: int = 1024
    dropout: float = 0.0

    def check(self) -> None:
        super().check()
        if self.width % self.heads:
            raise UserError(f"width must be a multiple of heads, not {self.width} of {self.heads}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be from 0 to below 1, not {self.dropout}")

    def student(self) -> nn.Module:
        return TransformerWords(self.vocabulary, self.width, self.heads, self.feedforward, self.classes, self.dropout)
