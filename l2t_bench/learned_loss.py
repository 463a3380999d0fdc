"""A trained teacher as a plain loss, for a training loop of one's own."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from l2t_bench.errors import UserError
from l2t_bench.losses.dynamic import bilinear_sigmoid
from l2t_bench.losses.sequence import diagonal_sigmoid
from l2t_bench.teacher_file import TeacherFile, read_teacher
from l2t_bench.teachers import AttentionTeacher, DiagonalTeacher, StaticTeacher

Loss = Callable[[Any, Any, Any], Tensor]
_LOSSES: Mapping[str, Loss] = MappingProxyType({loss.__name__: loss for loss in (bilinear_sigmoid, diagonal_sigmoid)})
_TEACHERS: Mapping[str, type[nn.Module]] = MappingProxyType(
    {kind.__name__: kind for kind in (AttentionTeacher, StaticTeacher, DiagonalTeacher)}
)


class LearnedLoss(nn.Module):
    """``loss = teacher(outputs, targets, features)``: phi = teacher(s_t), and the loss with them, a scalar.

    ``outputs`` are the student's (B, C) logits, with a gradient; ``targets`` (B,) class indices; ``features`` s_t, a
    1-D tensor as the rule in ``file.features`` makes it (``l2t.features.paper_status`` for PaperFeatures), a number t/T
    where the rule is ``time``, left out for a teacher that takes no notice of it. The teacher's own weights are frozen.

    Raises ``UserError`` for outputs of another number of classes, and for features of another length.
    """

    def __init__(self, teacher: nn.Module, loss: Loss, file: TeacherFile) -> None:
        super().__init__()
        self.teacher, self._loss, self.file = teacher.eval().requires_grad_(False), loss, file
        self._options: Mapping[str, Any] = file.teacher["options"]

    def forward(self, outputs: Any, targets: Any, features: Tensor | float | None = None) -> Tensor:
        if isinstance(outputs, Tensor):
            self._check_outputs(outputs)
        phi = self.teacher(self._status(features))
        loss: Tensor = self._loss(outputs, targets, phi.to(outputs) if isinstance(outputs, Tensor) else phi)
        return loss

    def _check_outputs(self, outputs: Tensor) -> None:
        wanted = self._options.get("classes", self._options.get("vocabulary"))
        if wanted is not None and outputs.shape[-1] != wanted:
            raise UserError(
                f"the teacher was trained for {wanted} classes, and the outputs are of shape {tuple(outputs.shape)}"
            )

    def _status(self, features: Tensor | float | None) -> Tensor:
        like = next(self.teacher.parameters())
        wanted = self._options.get("features")
        if features is None:
            if wanted is not None or not self._options:
                raise UserError(f"the teacher looks at s_t: give features, by the rule {self.file.features['rule']}")
            return like.new_zeros(1)
        status = features.detach().to(like) if isinstance(features, Tensor) else like.new_full((1,), features)
        status = status.reshape(-1)
        if wanted is not None and len(status) != wanted:
            rule = self.file.features["rule"]
            raise UserError(f"s_t has {len(status)} numbers, and the teacher reads {wanted}, by the rule {rule}")
        return status


def load_teacher(path: Path | str, *, teacher: nn.Module | None = None, loss: Loss | None = None) -> LearnedLoss:
    """The teacher in a file that ``save_teacher`` or ``l2t-bench train`` has written, as a loss.

    ``teacher``: a module of the class that was trained, and ``loss``, where those are not ours; the module is not
    changed. Raises ``UserError`` for a file that is damaged or no teacher's, where one of these is missing, and for a
    module of other parameters.
    """
    file = read_teacher(path)
    module = teacher if teacher is not None else _built(file)
    function = loss if loss is not None else _LOSSES.get(file.loss)
    if function is None:
        raise UserError(f"{path} gives coefficients of the loss {file.loss}, which is none of ours: give it as loss=")
    return LearnedLoss(_with_weights(module, file), function, file)


def _built(file: TeacherFile) -> nn.Module:
    name = file.teacher["class"]
    if name not in _TEACHERS:
        raise UserError(f"the teacher is a {name}, none of ours: give a module of it as teacher=")
    try:
        with torch.device("meta"):  # nothing is allocated by sizes that a file names
            return _TEACHERS[name](**file.teacher["options"])
    except (TypeError, RuntimeError) as error:
        raise UserError(f"the teacher file has options that no {name} has: {error}") from error


def _with_weights(module: nn.Module, file: TeacherFile) -> nn.Module:
    """A copy of ``module`` with the file's weights and buffers, in their precision."""
    own = copy.deepcopy(module)
    try:
        own.load_state_dict({**file.theta, **file.buffers}, assign=True)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise UserError(f"the teacher in the file is not a {type(module).__name__} as given: {said[:300]}") from error
    return own
