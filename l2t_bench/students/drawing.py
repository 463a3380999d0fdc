"""A student that draws translations as it is trained: what losses of whole sequences set against each other."""

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from l2t_bench.data.specials import BEGIN
from l2t_bench.errors import UserError
from l2t_bench.students.search import Search

if TYPE_CHECKING:
    from l2t_bench.students.translator import Translator

_SEEDS = 2**62


class Drawn(NamedTuple):
    """What such a student tells of a batch in training.

    ``logits`` (B, R, V) of the references by teacher forcing; of K translations a sentence ``words`` (B, K, L), drawn
    from the student as it is, constants of the step, and their logits, ``drawn`` (B, K, L, V).
    """

    logits: Tensor
    words: Tensor
    drawn: Tensor


@dataclass(frozen=True)
class Drawing:
    """``count`` translations a sentence, drawn under a seed from torch's generator: that of the step, in training.

    So a step that is replayed draws the same. Raises ``UserError`` for a count below 1.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UserError(f"at least 1 translation must be drawn, not {self.count}")

    def __call__(self, student: "Translator", inputs: tuple[Tensor, Tensor]) -> Drawn:
        source, _ = inputs
        with torch.no_grad():
            words = Search("sample", self.count, int(torch.randint(_SEEDS, ()))).find(student, source)
        before = functional.pad(words[:, :, :-1], (1, 0), value=BEGIN)
        return Drawn(student.scored(inputs), words, student.scored((source, before)))


def with_drawing(student: nn.Module, count: int) -> nn.Module:
    """A copy of ``student`` that tells ``Drawn`` in training; in eval mode nothing is new, nor are its parameters.

    Raises ``UserError`` for a student that does not translate.
    """
    from l2t_bench.students.translator import Translator

    if not isinstance(student, Translator):
        raise UserError(f"a loss of drawn translations needs a student that translates, not {type(student).__name__}")
    made = copy.deepcopy(student)
    made.drawing = Drawing(count)
    return made
