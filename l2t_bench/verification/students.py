"""Small students of every kind that a user may bring, each in a problem of its own: what the whole ladder is run over.

All in float64 and smooth, so that differences are good to 1e-7, with three classes and a theta of twenty entries.
"""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.modules import mix_seeds, seeded, trained_parameters
from l2t_bench.optimizers import SGD, Optimizer
from l2t_bench.problem import TeachingProblem
from l2t_bench.students.lenet import LeNet
from l2t_bench.students.words import RecurrentWords, TransformerWords
from l2t_bench.teachers import AttentionTeacher
from l2t_bench.verification.samples import random_problem

_CLASSES, _WORDS, _LENGTH, _BATCH, _DEV = 3, 11, 5, 6, 10


class SmallResNet(nn.Module):
    """Images (B, 1, 6, 6): a convolution and two residual blocks of four channels, BatchNorm after each convolution."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(2))
        self.output = nn.Linear(channels, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        maps = nn.functional.silu(self.stem_norm(self.stem(images)))
        for block in self.blocks:
            maps = block(maps)
        logits: Tensor = self.output(maps.mean((2, 3)))
        return logits


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.second_norm(self.second(nn.functional.silu(self.first_norm(self.first(maps)))))
        return nn.functional.silu(maps + inner)


class TiedWords(nn.Module):
    """Words (B, 5): an embedding whose weights are the output layer's too; its classes are the first three words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(_WORDS, 5), nn.Linear(5, 5)
        self.output = nn.Linear(5, _WORDS, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.output(torch.tanh(self.hidden(self.embedding(words).mean(1))))
        return logits[:, :_CLASSES]


class EmbeddedWords(nn.Module):
    """Words (B, 5): an embedding and an output layer on its mean; a word that no batch has, has no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.output = nn.Embedding(_WORDS, 5), nn.Linear(5, _CLASSES)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.output(torch.tanh(self.embedding(words).mean(1)))
        return logits


class SometimesDeaf(nn.Module):
    """A student whose second head is reached only by batches whose first input is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.always, self.sometimes = nn.Linear(6, 5), nn.Linear(5, _CLASSES), nn.Linear(5, _CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.tanh(self.body(inputs))
        logits: Tensor = self.always(hidden)
        return logits + self.sometimes(hidden) if inputs[0, 0] > 0 else logits


class Jitter(nn.Module):
    """An augmentation inside the student: noise on its inputs, in training, by torch's seed."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + 0.1 * torch.randn_like(inputs) if self.training else inputs


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, _CLASSES))


def dropout_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Dropout(0.3), nn.Linear(7, _CLASSES))


def augmented_mlp() -> nn.Module:
    return nn.Sequential(Jitter(), *mlp())  # type: ignore[misc]


def batch_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.BatchNorm1d(7), nn.Tanh(), nn.Linear(7, _CLASSES))


def layer_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 7), nn.LayerNorm(7), nn.Tanh(), nn.Linear(7, _CLASSES))


def frozen_mlp() -> nn.Module:
    """A bias and a weight between trained layers are frozen."""
    student = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, _CLASSES))
    with seeded(3, torch.device("cpu")), torch.no_grad():
        for frozen in (student[0].bias, student[2].weight):
            assert isinstance(frozen, nn.Parameter)
            frozen.requires_grad_(False).normal_(0, 0.5)
    return student


def transformer(dropout: float = 0.0) -> nn.Module:
    return TransformerWords(_WORDS, 4, 2, 6, _CLASSES, dropout)


def small_lenet() -> nn.Module:
    return LeNet(8, padding=2, hidden=5, classes=_CLASSES, nonlinearity="tanh", pool="average")


Batches = Callable[[int, int], tuple[Tensor, Tensor]]


def _vectors(seed: int, size: int) -> tuple[Tensor, Tensor]:
    return _drawn(seed, size, (6,))


def _small_images(seed: int, size: int) -> tuple[Tensor, Tensor]:
    return _drawn(seed, size, (1, 6, 6))


def _images(seed: int, size: int) -> tuple[Tensor, Tensor]:
    return _drawn(seed, size, (1, 8, 8))


def _drawn(seed: int, size: int, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(mix_seeds(seed, 29))
    inputs = torch.randn(size, *shape, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(_CLASSES, (size,), generator=generator)


def _words(seed: int, size: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(mix_seeds(seed, 37))
    words = torch.randint(_WORDS, (size, _LENGTH), generator=generator)
    return words, torch.randint(_CLASSES, (size,), generator=generator)


_MAKERS: Mapping[str, tuple[Callable[[], nn.Module], Batches]] = MappingProxyType(
    {
        "mlp": (mlp, _vectors),
        "lenet": (small_lenet, _images),
        "resnet": (SmallResNet, _small_images),
        "lstm": (lambda: RecurrentWords("lstm", _WORDS, 4, 5, _CLASSES), _words),
        "gru": (lambda: RecurrentWords("gru", _WORDS, 4, 5, _CLASSES), _words),
        "transformer": (transformer, _words),
        "transformer, dropout": (lambda: transformer(dropout=0.2), _words),
        "embedding": (EmbeddedWords, _words),
        "tied embedding": (TiedWords, _words),
        "layer norm": (layer_norm_mlp, _vectors),
        "batch norm": (batch_norm_mlp, _vectors),
        "dropout": (dropout_mlp, _vectors),
        "augmentation": (augmented_mlp, _vectors),
        "frozen": (frozen_mlp, _vectors),
        "unused": (SometimesDeaf, _vectors),
    }
)
STUDENTS = tuple(_MAKERS)
"""The names that ``student_problem`` knows."""


def student_problem(name: str, optimizer: Optimizer | None = None) -> TeachingProblem:
    """The problem of a small student. Raises ``UserError`` for a name that is not in ``STUDENTS``."""
    if name not in _MAKERS:
        raise UserError(f"no small student {name!r}: there are {', '.join(STUDENTS)}")
    make, batches = _MAKERS[name]

    def init(seed: int) -> dict[str, Tensor]:
        with seeded(mix_seeds(seed, 43), torch.device("cpu")):  # attention has no reset_parameters that covers it
            return {name: param.detach() for name, param in trained_parameters(make().double()).items()}

    return dataclasses.replace(
        random_problem(student=make(), optimizer=optimizer or SGD(lr=0.2, momentum=0.9, weight_decay=0.01)),
        teacher=AttentionTeacher(_CLASSES, features=1, keys=2, noise=0.3).double(),
        train=lambda index, seed: batches(mix_seeds(seed, index), _BATCH),
        dev=batches(1001, _DEV),
        init=init,
        name=name,
    )
