"""Whether a batch can be divided at all: its parts are to give together what the whole gives.

Looked at on all parts one after another, by every rank for itself: nothing is exchanged.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from l2t_bench.adjoint import objective_gradient
from l2t_bench.batch_parts import Division, batch_part, step_parts
from l2t_bench.batches import Batch
from l2t_bench.errors import Refused
from l2t_bench.first_look import computed_in, gradients_apart, once, same_numbers
from l2t_bench.microbatches import Parts, gradient_by_parts
from l2t_bench.modules import map_tensors, same_tensors
from l2t_bench.problem import Step, StudentState, TeachingProblem, example_count
from l2t_bench.tensors import Tensors, global_norm
from l2t_bench.training_step import student_gradient


def look_at_parts(problem: TeachingProblem, division: Division, state: StudentState, step: Step, phi: Any) -> None:
    """Raises ``Refused`` for a step whose loss, or gradient, is not the mean over those of its batch's parts.

    Also for a student with buffers that a batch moves: each part would give others.
    """
    phi = map_tensors(Tensor.detach, phi)
    whole = student_gradient(problem, state, step, phi)
    if moved := [name for name, held in state.buffers.items() if not same_tensors(whole.buffers[name], held)]:
        raise Refused(
            f"{division.asked}: the batch moves the student's buffer {moved[0]} at step {step.index}, and each part "
            "would move it for itself",
            f"normalise by what hangs on no other example (GroupNorm, LayerNorm); {division.instead}",
        )
    divided = step_parts(step, division)
    parts = gradient_by_parts(problem, state, divided, phi)
    off = None
    if not same_numbers(parts.loss, whole.loss):
        told = f"{parts.loss.item():.6g} by its {division.count} parts"
        off = f"the loss of step {step.index} is {whole.loss.item():.6g}, and {told}"
    elif apart := _gradients_apart(problem, state, phi, divided, parts.gradients, whole.gradients):
        off = f"the gradient of step {step.index} is {apart:.1%} off when it is taken by its {division.count} parts"
    if off is not None:
        raise Refused(f"{division.asked}: {off}: {_cause(problem.student)}", division.instead)


def _gradients_apart(
    problem: TeachingProblem, state: StudentState, phi: Any, divided: Parts, by_parts: Tensors, whole: Tensors
) -> float:
    """``gradients_apart``; where they seem to be, beside the parts' own gradients.

    Near a minimum the parts' gradients cancel each other, and what is left of their sum is rounding.
    """
    computed = computed_in(problem)
    if not gradients_apart(by_parts, whole, state.params, computed):
        return 0.0
    lengths = (share * global_norm(student_gradient(problem, state, part, phi).gradients) for share, part in divided)
    return gradients_apart(by_parts, whole, state.params, computed, sum(lengths))


def look_at_dev_once(
    problem: TeachingProblem, division: Division, state: StudentState, batches: Sequence[Batch]
) -> None:
    """``look_at_dev_parts`` on the first of the dev batches, where that was not done before."""
    once(problem, "parts of dev", partial(look_at_dev_parts, problem, state, batches[0], division))


def look_at_dev_parts(problem: TeachingProblem, state: StudentState, batch: Batch, division: Division) -> None:
    """Raises ``Refused`` for an objective that is not the mean over a batch's examples."""
    size = example_count(batch)
    every = [batch_part(batch, number, division) for number in range(division.count)]
    parts = [part for part in every if example_count(part)]
    (value, w_bar), (by_parts, bars) = (
        objective_gradient(problem, state, batches, of=size) for batches in ([tuple(batch)], parts)
    )
    if not _same_value(by_parts, value, problem.dtype) or gradients_apart(bars, w_bar, state.params):
        raise Refused(
            f"{division.asked}: the dev objective is {value.item():.6g}, and {by_parts.item():.6g} by the "
            f"{division.count} parts of its batch, or its gradient is another one: it is no mean over the examples",
            division.instead,
        )


def _same_value(left: Tensor, right: Tensor, dtype: torch.dtype) -> bool:
    """Of two sums in float64 of what was computed in ``dtype``."""
    return same_numbers(left.to(dtype), right.to(dtype))


def _cause(student: nn.Module) -> str:
    """The likeliest one."""
    layers = list(student.modules())
    if any(isinstance(layer, _NormBase) for layer in layers):
        return "the student normalises by the whole batch (GroupNorm and LayerNorm do not)"
    if any(isinstance(layer, _DropoutNd) for layer in layers):
        return "dropout draws its mask for the whole batch, and each part would draw its own"
    return (
        "the loss is no mean over the examples (a sum, a mean over words, a term between examples), or the student "
        "looks at its batch as a whole or draws random numbers"
    )
