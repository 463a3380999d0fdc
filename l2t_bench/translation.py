"""What the problems on translation share (section 4.2, appendix B.3): students, loss, objective, features, batches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from l2t_bench.adam import Adam
from l2t_bench.data.parallel_parts import TextParts
from l2t_bench.data.text_batches import TextBatch, TextForm, TextSplits
from l2t_bench.errors import UserError
from l2t_bench.expected_bleu import CandidateDev, ExpectedBLEU
from l2t_bench.losses.sequence import diagonal_sigmoid
from l2t_bench.optimizers import SGD, Optimizer, linear_decay
from l2t_bench.problem import TeachingProblem
from l2t_bench.students.attention_lstm import AttentionLSTM
from l2t_bench.students.search import Search
from l2t_bench.students.translation_transformer import TranslationTransformer
from l2t_bench.teachers import DiagonalTeacher
from l2t_bench.translation_features import TranslationFeatures


@dataclass(frozen=True)
class TranslationProblem:
    """The options that all translation problems share. The defaults are the paper's where it gives one.

    ``source_vocabulary`` and ``target_vocabulary`` count the four special words; they are the student's sizes, of which
    a text may fill less. ``multiple``: widths of batches are padded to a multiple of it, so that steps have few shapes.
    ``schedule=linear``: the lr falls to zero over the run. ``candidates``: what M~ is expected over, ``count`` a
    sentence by beam or sampled at omega_T, and the reference.
    """

    batch: int = 32
    source_vocabulary: int = 25_004
    target_vocabulary: int = 25_004
    dev: int = 200
    test: int = 0
    split: int = 0
    multiple: int = 1
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: float = 0.1
    schedule: Literal["constant", "linear"] = "constant"
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip: float | None = None
    dropout: float = 0.0
    candidates: Literal["beam", "sample"] = "sample"
    count: int = 4
    reference: bool = True
    sharpness: float = 0.1
    features: Literal["paper", "none"] = "paper"
    refresh: int = 20
    train_batches: int = 2
    dev_sentences: int = 64
    keys: int = 5
    gain: float = 1.0
    noise: float = 0.0
    dev_chunk: int = 32

    def student(self) -> nn.Module:
        raise NotImplementedError

    def load(self) -> TextParts:
        raise NotImplementedError

    def build(self, name: str, device: torch.device, dtype: torch.dtype) -> TeachingProblem:
        """The problem itself, on ``device`` in ``dtype``; no text is read."""
        if self.dev_chunk < 1:
            raise UserError(f"dev_chunk must be at least 1, not {self.dev_chunk}")
        splits = TextSplits(self.load, TextForm(self.source_vocabulary, self.target_vocabulary, self.multiple), device)
        paper = self.features == "paper"
        features = TranslationFeatures(splits.spell, self.refresh, self.train_batches, self.dev_sentences)
        teacher = DiagonalTeacher(self.target_vocabulary, 3 if paper else 1, self.keys, self.gain, self.noise)
        return TeachingProblem(
            student=self.student().to(device=device, dtype=dtype),
            teacher=teacher.to(device=device, dtype=dtype),
            loss=diagonal_sigmoid,
            objective=ExpectedBLEU(self.sharpness),
            optimizer=self._optimizer(),
            train=splits.train(self.batch),
            dev=self._chunks(splits, "dev"),
            test=self._chunks(splits, "test"),
            features=features if paper else None,
            prepare_dev=CandidateDev(Search(self.candidates, self.count), splits.spell, self.reference),
            name=name,
        )

    def _optimizer(self) -> Optimizer:
        lr = linear_decay(self.lr) if self.schedule == "linear" else self.lr
        if self.optimizer == "adam":
            return Adam(lr=lr, weight_decay=self.weight_decay, clip=self.clip)
        return SGD(lr=lr, momentum=self.momentum, weight_decay=self.weight_decay, clip=self.clip)

    def _chunks(self, splits: TextSplits, part: str) -> Callable[[], list[TextBatch]]:
        return lambda: splits.chunks(part, self.dev_chunk)


@dataclass(frozen=True)
class OfAttentionLSTM(TranslationProblem):
    """An LSTM of ``depth`` layers with attention. Other sizes make another student than the name says."""

    embedding: int = 256
    hidden: int = 256
    depth: ClassVar[int]

    def student(self) -> nn.Module:
        _check_sizes(embedding=self.embedding, hidden=self.hidden)
        sizes = self.source_vocabulary, self.target_vocabulary, self.embedding, self.hidden
        return AttentionLSTM(*sizes, layers=self.depth, dropout=_checked(self.dropout))


@dataclass(frozen=True)
class OfTransformer(TranslationProblem):
    """A Transformer of the small setting with six layers a side. Other sizes make another than the name says."""

    width: int = 256
    heads: int = 4
    inner: int = 1024
    layers: int = 6
    nonlinearity: Literal["relu", "gelu"] = "relu"

    def student(self) -> nn.Module:
        _check_sizes(width=self.width, heads=self.heads, inner=self.inner, layers=self.layers)
        if self.width % self.heads:
            raise UserError(f"width must be a multiple of heads, not {self.width} of {self.heads}")
        sizes = self.source_vocabulary, self.target_vocabulary, self.width, self.heads, self.inner, self.layers
        return TranslationTransformer(*sizes, dropout=_checked(self.dropout), activation=self.nonlinearity)


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, not {size}")


def _checked(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be from 0 to below 1, not {dropout}")
    return dropout
