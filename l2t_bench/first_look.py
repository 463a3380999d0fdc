"""What is looked at before a run is lost over it: the teacher, the student's first step, the first batch.

Not every library notices a loss that teaches nothing, and none a student that is another one each time it is called.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from l2t_bench.batches import Batch
from l2t_bench.errors import Refused, UserError
from l2t_bench.modules import float_leaves, map_tensors, module_at, same_tensors, tensor_leaves
from l2t_bench.parts import writes_into_its_parameters
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, global_norm, relative_difference
from l2t_bench.training_step import loss_gradients, student_gradient
from l2t_bench.trial import NOT_TAKEN, Trial, nearby, trial

_PLAIN_INSTEAD = "rmd[hvp=ror] replays plain training; or train without the layer's dropout"


def look_at_teacher(problem: TeachingProblem, theta: Tensors, features: Tensor, phi: Any) -> None:
    """Raises ``UserError`` for a phi that cannot teach, and for a teacher that is no function of theta and s_t."""
    if not float_leaves(phi):
        raise UserError(
            f"the teacher gives a {type(phi).__name__}, in which no tensor of floats is found: phi must "
            "be a tensor, or a tuple, list or dict of tensors"
        )
    with torch.no_grad():
        again = tensor_leaves(problem.phi(theta, features))
    if not all(same_numbers(ours, theirs) for ours, theirs in zip(again, tensor_leaves(phi), strict=True)):
        raise UserError(
            "the teacher gives another phi when it is called again with the same features: it must be a function "
            "of theta and s_t, without random numbers of its own"
        )


def look_at_student(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> Tensor:
    """The first step's loss in plain training, after two forward passes.

    Raises ``UserError`` for a loss that does not depend on the student, for a student that is another one when it is
    called again, and for one that writes into its parameters, also where autograd does not see it (``.data``).
    """
    own = trial(problem, state, step, phi)
    before = map_tensors(Tensor.clone, state.params)
    loss, again = _plain_loss(own), _plain_loss(own)
    if not same_tensors(state.params, before):
        raise writes_into_its_parameters(step.index)
    if not loss.requires_grad:
        raise UserError("the loss does not depend on the student's parameters")
    if not same_numbers(again, loss):
        raise not_replayed(step.index, loss, again)
    once(problem, "called with given parameters", lambda: _look_at_call(own))
    return loss.detach()


def once(problem: TeachingProblem, what: Hashable, look: Callable[[], None]) -> None:
    """A look that a problem needs once, whatever the student's seed: repeated only where it raises."""
    if what not in problem.derived:
        look()
        problem.derived[what] = True


def _plain_loss(at: Trial) -> Tensor:
    params = {name: param.detach().requires_grad_() for name, param in at.params.items()}
    with torch.enable_grad():
        return at.problem.train_loss(params, at.state.buffers, at.phi, at.step)[0]


def _look_at_call(own: Trial) -> None:
    """The gradient of a student that is called with given parameters against that of a module that holds them."""
    for at in (nearby(own), own):
        try:
            called, held = _plain_gradients(at)[1], _gradients_of_module(at)
        except NOT_TAKEN:
            continue
        apart = _apart(called, held, at)
        if apart > _bound(at):
            raise UserError(
                f"the student's gradient is off by {apart:.1%} when it is called with given parameters instead of "
                "those that it holds: activation checkpointing takes its forward pass again with the ones it holds, "
                "and a hook or a cache may do so too; take that out of the student (rmd[store=sqrt] keeps long runs "
                "small)"
            )
        return


def look_through_torch_func(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> None:
    """Raises ``Refused`` where a student's gradient by ``torch.func`` is not that of plain training.

    For a tensor that is not contiguous, as inside a Transformer layer, torch's dropout draws another mask there. Raises
    what torch raises for a student that ``torch.func`` does not take.
    """
    own = trial(problem, state, step, phi)
    loss, plain = _gradients_by_torch_func(own)[0], _plain_gradients(own)[0]
    if not same_numbers(loss, plain):
        raise other_student(loss, plain)
    near = nearby(own)
    try:
        found, wanted = _gradients_by_torch_func(near)[1], _plain_gradients(near)[1]
    except NOT_TAKEN:
        return
    apart = _apart(found, wanted, near)
    if apart > _bound(near):
        raise Refused(
            f"under this method the student's gradient is off by {apart:.1%} from that of plain training: it draws "
            "other random numbers and would differentiate another run",
            _PLAIN_INSTEAD,
        )


def _plain_gradients(at: Trial) -> tuple[Tensor, TensorDict]:
    found = student_gradient(at.problem, at.state, at.step, at.phi)
    return found.loss, found.gradients


def _gradients_of_module(at: Trial) -> TensorDict:
    module = module_at(at.problem.student, {**at.state.buffers, **at.params})
    params = {name: param for name, param in module.named_parameters() if name in at.params}
    with torch.enable_grad():
        return loss_gradients(at.problem.module_loss(module, at.phi, at.step), params)


def _gradients_by_torch_func(at: Trial) -> tuple[Tensor, TensorDict]:
    def loss_of(params: TensorDict) -> tuple[Tensor, Tensor]:
        loss, _ = at.problem.train_loss(params, at.state.buffers, at.phi, at.step)
        return loss, loss.detach()

    params = {name: param.detach() for name, param in at.params.items()}
    gradients, loss = torch.func.grad(loss_of, has_aux=True)(params)
    return loss, gradients


def _apart(ours: Tensors, theirs: Tensors, at: Trial) -> float:
    """Relative; a gradient that is nothing beside the parameters' rounding counts as that."""
    return relative_difference(ours, theirs, torch.finfo(at.problem.dtype).eps * max(1.0, global_norm(at.params)))


def _bound(at: Trial) -> float:
    return float(torch.finfo(at.problem.dtype).eps ** 0.5)


class KeptBatch:
    """The first batch as it was when it was drawn: a source that fills one buffer again changes it later.

    Methods that keep their steps would then go back through other batches than they were taken with.
    """

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._then = map_tensors(Tensor.clone, tuple(batch))

    def look(self, index: int) -> None:
        """Raises ``UserError`` where it has changed by the time that step ``index`` is reached."""
        if not same_tensors(tuple(self._batch), self._then):
            raise UserError(
                f"the batch of step 0 has changed by step {index}: train(index, seed) must return tensors that nothing "
                "writes into later; one that fills a buffer again returns a copy (tensor.clone(), torch.tensor(array))"
            )


def same_numbers(left: Tensor, right: Tensor) -> bool:
    """Up to what two kernels for one thing may differ by."""
    if not left.is_floating_point():
        return torch.equal(left, right)
    tolerance = torch.finfo(left.dtype).eps ** 0.5
    return left.shape == right.shape and torch.allclose(left, right, tolerance, tolerance, equal_nan=True)


def not_replayed(index: int, was: Tensor, now: Tensor) -> UserError:
    """A step that is another one when it is taken again."""
    return UserError(
        f"step {index} cannot be replayed: its loss was {was.item():.6g}, and is {now.item():.6g} now. Either its "
        "batch changes when it is read again, or the student draws random numbers that do not follow torch's seed, or "
        "keeps something between calls"
    )


def other_student(loss: Tensor, plain: Tensor) -> Refused:
    """A method under which the first loss is not plain training's."""
    return Refused(
        f"under this method the student's first loss is {loss.item():.6g}, in plain training {plain.item():.6g}: it "
        "draws other random numbers and would differentiate another run",
        _PLAIN_INSTEAD,
    )
