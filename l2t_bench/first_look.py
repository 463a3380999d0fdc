"""What is looked at before a run is lost over it: the teacher, and the student at some of its steps.

Not every library notices a loss that teaches nothing, and none a student that is another one each time it is called.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from l2t_bench.checksums import checksum
from l2t_bench.errors import Refused, UserError
from l2t_bench.modules import (
    float_leaves,
    graph_leaves,
    map_tensors,
    module_at,
    plain_numbers,
    plain_tensors,
    same_tensors,
    tensor_leaves,
)
from l2t_bench.parts import writes_into_its_parameters
from l2t_bench.precision import LowestPrecision
from l2t_bench.problem import Step, StudentState, TeachingProblem
from l2t_bench.tensors import TensorDict, Tensors, global_norm, relative_difference
from l2t_bench.training_step import loss_gradients, student_gradient
from l2t_bench.trial import FORMS, NOT_TAKEN, Trial, nearby, trial

_PRECISION = "lowest precision"
_COUNTED = "counted by the student"
_PLAIN_INSTEAD = "rmd[hvp=ror] replays plain training; or train without the layer's dropout"


def look_at_teacher(problem: TeachingProblem, theta: Tensors, features: Tensor, phi: Any) -> None:
    """Raises ``UserError`` for a phi that cannot teach, and for a teacher that is no function of theta and s_t."""
    if not float_leaves(phi):
        raise UserError(
            f"the teacher gives a {type(phi).__name__}, in which no tensor of floats is found: phi must "
            "be a tensor, or a tuple, list or dict of tensors"
        )
    look_at_leaves(float_leaves(phi), theta, "the teacher's phi")
    with torch.no_grad():
        again = tensor_leaves(problem.phi(theta, features))
    if not all(same_numbers(ours, theirs) for ours, theirs in zip(again, tensor_leaves(phi), strict=True)):
        raise UserError(
            "the teacher gives another phi when it is called again with the same features: it must be a function "
            "of theta and s_t, without random numbers of its own"
        )


def look_at_student(problem: TeachingProblem, state: StudentState, step: Step, phi: Any) -> Tensor:
    """The first step's loss in plain training.

    Raises ``UserError`` for a loss that does not depend on the student, or on a parameter that is not given to it, and
    as ``look_at_step`` does.
    """
    own = trial(problem, state, step, phi)
    loss = look_at_step(own)
    if not loss.requires_grad:
        raise UserError("the loss does not depend on the student's parameters")
    once(problem, "called with given parameters", lambda: _look_at_call(own))
    once(problem, "leaves", lambda: _look_at_student_leaves(own))
    once(problem, "precision", lambda: _look_at_precision(own))
    return loss.detach()


def look_at_beginning(problem: TeachingProblem, state: StudentState, seed: int) -> None:
    """Raises ``UserError`` where omega_0 of student ``seed``, drawn again, is another one than ``state``."""
    again = problem.init_student(seed)
    if not same_tensors((again.params, again.buffers), (state.params, state.buffers)):
        raise UserError(
            f"omega_0 of student {seed} is another one when it is drawn again: init=, or a layer's reset_parameters, "
            "must be a function of the seed; draw with torch.Generator().manual_seed(seed), or in reset_parameters by "
            "torch's own generator"
        )


def look_at_leaves(roots: Sequence[Tensor], given: Tensors, what: str) -> None:
    """Raises ``UserError`` where ``roots`` have a derivative by a tensor that is none of ``given``.

    A module is copied and called with given parameters; a lambda that holds the one that was handed in goes on with
    that one's, which would be a constant of the training without anybody having said so.
    """
    known = {id(tensor) for tensor in given.values()}
    for leaf in graph_leaves(roots):
        if id(leaf) not in known:
            raise UserError(
                f"{what} depends on a tensor of shape {tuple(leaf.shape)} that requires a gradient and is none of the "
                "parameters that are given to the module: a lambda, a hook or a loss that holds a layer of the module "
                "that was handed in goes on with that layer, which nobody trains. Take it from self in a method, from "
                "the hook's own arguments, or give it out with the output; detach() it where a constant is meant"
            )


def look_at_step(at: Trial) -> Tensor:
    """The step's loss, after two forward passes.

    Raises ``UserError`` for a student that is another one when it is called again, for one that writes into its
    parameters, also where autograd does not see it (``.data``), and for one that goes on moving a tensor which is
    neither parameter nor buffer: it would pass from one student to the next. A number that goes on moving may be no
    more than somebody's count: ``counted_in`` tells of it.
    """
    given = replace(at, state=replace(at.state, params=map_tensors(Tensor.clone, dict(at.params))))
    loss = _plain_loss(given)
    held, counts = _checksums_of_plain_tensors(at.problem), plain_numbers(at.problem.student)
    again = _plain_loss(given)
    now = _checksums_of_plain_tensors(at.problem)
    if moved := [name for name, then in held.items() if name in now and not torch.equal(now[name], then)]:
        raise UserError(
            f"the student's forward pass moves {moved[0]}, which is neither a parameter nor a buffer, at step "
            f"{at.step.index}: it would be carried into the next student's training; register_buffer makes it a part "
            "of the student's state"
        )
    counted = [name for name, value in plain_numbers(at.problem.student).items() if counts.get(name, value) != value]
    at.problem.derived[_COUNTED] = tuple(dict.fromkeys([*counted_in(at.problem), *counted]))
    if not same_tensors(given.params, at.params):
        raise writes_into_its_parameters(at.step.index)
    if not same_numbers(again, loss):
        raise not_replayed(at.step.index, loss, again)
    return loss


def _checksums_of_plain_tensors(problem: TeachingProblem) -> dict[str, Tensor]:
    return {name: checksum((held,)) for name, held in plain_tensors(problem.student).items()}


def _look_at_precision(at: Trial) -> None:
    with LowestPrecision() as watched:
        _plain_loss(at)
    at.problem.derived[_PRECISION] = watched.lowest


def computed_in(problem: TeachingProblem) -> torch.dtype:
    """The lowest precision that the first step was seen to compute in; the problem's own before one was looked at."""
    found: torch.dtype = problem.derived.get(_PRECISION, problem.dtype)
    return found


def counted_in(problem: TeachingProblem) -> tuple[str, ...]:
    """The plain attributes of the student that hold a number which was seen to move in a forward pass."""
    found: tuple[str, ...] = problem.derived.get(_COUNTED, ())
    return found


def once(problem: TeachingProblem, what: Hashable, look: Callable[[], object]) -> None:
    """A look that a problem needs once, whatever the student's seed: repeated only where it raises."""
    if what not in problem.derived:
        look()
        problem.derived[what] = True


def _plain_loss(at: Trial) -> Tensor:
    return _loss_at(at, {name: param.detach().requires_grad_() for name, param in at.params.items()})


def _loss_at(at: Trial, params: Tensors) -> Tensor:
    with torch.enable_grad():
        return at.problem.train_loss(params, at.state.buffers, at.phi, at.step)[0]


def _look_at_student_leaves(at: Trial) -> None:
    params = {name: param.detach().requires_grad_() for name, param in at.params.items()}
    look_at_leaves([_loss_at(at, params)], params, "the student's loss")


def _look_at_call(own: Trial) -> None:
    """The gradient of a student that is called with given parameters against that of a module that holds them."""
    for form in FORMS:
        at = form(own)
        try:
            called, held = _plain_gradients(at)[1], _gradients_of_module(at)
        except NOT_TAKEN:
            continue
        if apart := gradients_apart(called, held, at.params):
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
        raise other_student(step.index, loss, plain)
    near = nearby(own)
    try:
        found, wanted = _gradients_by_torch_func(near)[1], _plain_gradients(near)[1]
    except NOT_TAKEN:
        return
    if apart := gradients_apart(found, wanted, near.params, computed_in(problem)):
        raise Refused(
            f"under this method the student's gradient is off by {apart:.1%} from that of plain training: it draws "
            "other random numbers and would differentiate another run",
            _PLAIN_INSTEAD,
        )


def look_through_patched(
    patch: Callable[[nn.Module], nn.Module], problem: TeachingProblem, state: StudentState, step: Step, phi: Any
) -> None:
    """Raises ``Refused`` where a student's gradient is another one in the module that ``patch`` makes of it.

    That module's ``parameters()`` are in the order of the student's.
    """
    own = trial(problem, state, step, phi)
    for at in (nearby(own), own):
        try:
            found, plain = _gradients_of_module(at, patch), _plain_gradients(at)[1]
        except NOT_TAKEN:
            continue
        if apart := gradients_apart(found, plain, at.params):
            raise Refused(
                f"under this method the student's gradient is off by {apart:.1%} from that of plain training: the "
                "module that is made of it does not follow what the student keeps beside its registered layers, such "
                "as layers in a plain list, or one of its methods as an attribute",
                "rmd takes it as it is; or keep layers in a ModuleList",
            )
        return


def _plain_gradients(at: Trial) -> tuple[Tensor, TensorDict]:
    found = student_gradient(at.problem, at.state, at.step, at.phi)
    return found.loss, found.gradients


def _gradients_of_module(at: Trial, patch: Callable[[nn.Module], nn.Module] = lambda module: module) -> TensorDict:
    held = module_at(at.problem.student, {**at.state.buffers, **at.params})
    module, names = patch(held), [name for name, _ in held.named_parameters()]
    params = {name: param for name, param in zip(names, module.parameters(), strict=True) if name in at.params}
    with torch.enable_grad():
        return loss_gradients(at.problem.module_loss(module, at.phi, at.step), params)


def _gradients_by_torch_func(at: Trial) -> tuple[Tensor, TensorDict]:
    def loss_of(params: TensorDict) -> tuple[Tensor, Tensor]:
        loss, _ = at.problem.train_loss(params, at.state.buffers, at.phi, at.step)
        return loss, loss.detach()

    params = {name: param.detach() for name, param in at.params.items()}
    gradients, loss = torch.func.grad(loss_of, has_aux=True)(params)
    return loss, gradients


def gradients_apart(
    ours: Tensors, theirs: Tensors, params: Tensors, computed: torch.dtype = torch.float64, summands: float = 0.0
) -> float:
    """How far two gradients at ``params`` are from each other, relative; 0 where half of the digits agree.

    ``computed``: what they were computed in, where that is coarser than the parameters are. A gradient that is nothing
    beside the parameters' rounding counts as that, and one that is nothing beside ``summands``, the lengths together of
    the parts that it is the sum of, as a hundredth of these.
    """
    own = torch.finfo(next(iter(params.values())).dtype).eps
    least = max(own * max(1.0, global_norm(params)), 0.01 * summands)
    apart = relative_difference(ours, theirs, least)
    return apart if apart > max(own, torch.finfo(computed).eps) ** 0.5 else 0.0


def same_numbers(left: Tensor, right: Tensor) -> bool:
    """Up to what two kernels for one thing may differ by, relative to the largest of ``right``."""
    if not left.is_floating_point():
        return torch.equal(left, right)
    if left.shape != right.shape:
        return False
    tolerance = torch.finfo(left.dtype).eps ** 0.5
    largest = float(right.detach().abs().nan_to_num(0.0, 0.0).max()) if right.numel() else 0.0
    return torch.allclose(left, right, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


def not_replayed(index: int, was: Tensor, now: Tensor) -> UserError:
    """A step that is another one when it is taken again."""
    return UserError(
        f"step {index} cannot be replayed: its loss was {was.item():.6g}, and is {now.item():.6g} now. Either its "
        "batch changes when it is read again, or the student draws random numbers that do not follow torch's seed, or "
        "keeps something between calls"
    )


def other_student(index: int, loss: Tensor, plain: Tensor) -> Refused:
    """A method under which the loss of step ``index`` is not plain training's."""
    return Refused(
        f"under this method the student's loss at step {index} is {loss.item():.6g}, in plain training "
        f"{plain.item():.6g}: it draws other random numbers and would differentiate another run",
        _PLAIN_INSTEAD,
    )
