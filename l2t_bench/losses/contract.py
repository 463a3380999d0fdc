"""What a fixed loss is: a function of logits and labels, with the last layer that it may want of a student."""

from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from l2t_bench.errors import UserError

_INDICES = (torch.int64, torch.int32, torch.int16, torch.uint8)


@runtime_checkable
class FixedLoss(Protocol):
    """A loss of the catalogue, ``loss(output, target, phi)`` as a ``TeachingProblem`` takes it, whatever the teacher.

    Losses are frozen dataclasses whose fields are the options of their names; they keep nothing between calls.
    """

    def __call__(self, output: Any, target: Tensor, phi: Any = None) -> Tensor:
        """Logits (B, C), or what ``student`` makes of them in training; target (B,) class indices. A scalar, a mean."""
        ...

    def student(self, student: nn.Module) -> nn.Module:
        """The student to train under this loss: ``student`` itself, or a copy whose last layer tells more."""
        ...


class OfLogits:
    """A loss of the logits alone: any student will do as it is."""

    def student(self, student: nn.Module) -> nn.Module:
        """``student`` itself."""
        return student


def check_batch(logits: Tensor, target: Tensor) -> None:
    """Raises ``UserError`` unless logits are (B, C) and target (B,) class indices. It reads no value."""
    if logits.ndim != 2:
        raise UserError(f"logits must be of shape (examples, classes), not {tuple(logits.shape)}")
    if target.ndim != 1 or target.dtype not in _INDICES:
        raise UserError(
            f"target must be class indices of shape (examples,), not {target.dtype} of shape {tuple(target.shape)}"
        )
    if len(target) != len(logits):
        raise UserError(f"{len(logits)} rows of logits do not go with {len(target)} labels")


def check_labels(target: Tensor, classes: int) -> None:
    """Raises ``UserError`` for labels outside 0 ... classes - 1. Reads them, for which a GPU is waited for.

    A training step does not do this: on a CPU it finds such labels by itself, on a GPU torch stops the process. Who
    reads data in looks at them once.
    """
    if not target.numel():
        return
    low, high = int(target.min()), int(target.max())
    if low < 0 or high >= classes:
        raise UserError(f"labels must be from 0 to {classes - 1} for {classes} classes; there are {low} to {high}")


def check_rivals(logits: Tensor) -> None:
    """Raises ``UserError`` where there is no class but the right one."""
    if logits.shape[-1] < 2:
        raise UserError("this loss sets the right class against the others: it needs at least two classes")


def at_label(values: Tensor, target: Tensor) -> Tensor:
    """The entry of each row of (B, C) at its label: (B,). Raises ``UserError`` for labels out of range (on a CPU)."""
    try:
        return values.gather(-1, target.long()[:, None]).squeeze(-1)
    except (IndexError, RuntimeError):
        with suppress(RuntimeError):  # under torch.func no value can be read, and torch's own error must do
            check_labels(target, values.shape[-1])
        raise


def rivals(values: Tensor, target: Tensor) -> Tensor:
    """(B, C) with the entry at each label at minus infinity: what a maximum or logsumexp over the others reads."""
    classes = torch.arange(values.shape[-1], device=values.device)
    return values.masked_fill(classes == target[:, None], -torch.inf)
