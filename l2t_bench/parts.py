"""The parts of a problem when it is made: what cannot be copied, called with given parameters, or differentiated."""

import copy
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from l2t_bench.errors import UserError, said_first
from l2t_bench.modules import trained_parameters

_OLD_NORMS = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")


def own_copy(module: Any, part: str) -> nn.Module:
    """A copy of a student or a teacher. Raises ``UserError`` for what is no module, or none that can be copied."""
    if not isinstance(module, nn.Module):
        raise UserError(f"{part} must be a torch.nn.Module, not {type(module).__name__}")
    for name, layer in module.named_modules():
        if (why := _unfit(layer)) is not None:
            where = f"{part}'s {name}" if name else part
            raise UserError(f"the {where} ({type(layer).__name__}) {why}")
    if any(param.is_inference() for param in module.parameters()):
        raise UserError(f"the {part} was made in torch.inference_mode, and cannot be trained: make it outside")
    for name, param in module.named_parameters():
        if param._backward_hooks:
            raise UserError(
                f"the {part}'s {name} has a hook on its gradient, which is lost where the parameter is given anew at "
                "every step: compute what is meant in the forward pass"
            )
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"the {part} cannot be copied, and is never changed itself: {said_first(error)}") from error


def _unfit(layer: nn.Module) -> str | None:
    if isinstance(layer, torch.jit.ScriptModule):
        return "is a script: hand in the module that it was made of"
    if hasattr(layer, "_orig_mod"):
        return "is a compiled module: hand in the one inside, and take engine=compiled of rmd"
    if isinstance(layer, LazyModuleMixin) and layer.has_uninitialized_params():
        return "does not know its shapes yet: take a batch through it first"
    if any(type(hook).__module__ in _OLD_NORMS for hook in layer._forward_pre_hooks.values()):
        return "keeps what weight_norm or spectral_norm of torch.nn.utils computed last, and cannot be copied"
    return None


def in_train_mode(student: nn.Module) -> nn.Module:
    """The student, in train mode. Raises ``UserError`` for one of whose layers that would change what they do.

    A student handed in as a whole in eval mode was evaluated last, and no more is meant by it.
    """
    apart = [name for name, layer in student.named_modules() if student.training and not layer.training]
    student.train()
    for name in apart:
        if student.get_submodule(name).training:
            raise UserError(
                f"the student's {name} is in eval mode while the student is in train mode, and would be put into train "
                "mode with it: let the student's own train(mode) keep it as it is"
            )
    return student


def check_student(student: nn.Module) -> None:
    """Raises ``UserError`` for a student with nothing to train, or with layers that no method can differentiate."""
    if not any(True for _ in student.parameters()):
        raise UserError("the student has no parameters: there is nothing to train")
    if not trained_parameters(student):
        raise UserError("all of the student's parameters are frozen: there is nothing to train")
    for name, param in student.named_parameters():
        if param.is_complex():
            raise UserError(
                f"the student's {name} is complex, and the methods here differentiate real numbers: hold its real and "
                "imaginary part (torch.view_as_real), and make the complex number in the forward pass"
            )
    for name, layer in student.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            _check_embedding(name or type(layer).__name__, layer)


def _check_embedding(name: str, layer: nn.Embedding | nn.EmbeddingBag) -> None:
    if layer.sparse and layer.weight.requires_grad:
        raise UserError(
            f"the student's {name} is sparse=True, and sparse gradients have no second derivative: make it with "
            "sparse=False, which trains the same student"
        )
    if layer.scale_grad_by_freq:
        raise UserError(
            f"the student's {name} is scale_grad_by_freq=True: its step follows no gradient of the loss, and its "
            "second derivatives are not those of the step; make it without"
        )
    if layer.max_norm is not None:
        raise UserError(
            f"the student's {name} has max_norm={layer.max_norm:g}: its forward pass shortens rows of its weight in "
            "place, and no derivative is taken of that; make it without"
        )


def check_groups(student: nn.Module, optimizer: Any) -> None:
    """Raises ``UserError`` for a parameter group that no trained parameter of the student belongs to.

    A parameter belongs to the first group that it fits: one behind it may be left with none.
    """
    trained = trained_parameters(student)
    names, groups = list(dict(student.named_parameters())), getattr(optimizer, "groups", ())
    for position, group in enumerate(groups):
        fitting = [name for name in names if fnmatchcase(name, group.names)]
        if not fitting:
            raise UserError(f"no parameter of the student fits the group {group.names!r}; there are {', '.join(names)}")
        left = [name for name in fitting if name in trained]
        if not left:
            raise UserError(f"all parameters that fit the group {group.names!r} are frozen: {', '.join(fitting)}")
        if all(any(fnmatchcase(name, before.names) for before in groups[:position]) for name in left):
            raise UserError(
                f"every parameter that fits the group {group.names!r} belongs to a group before it, and a parameter "
                "belongs to the first that it fits: put the narrower group first"
            )


def writes_into_its_parameters(index: int) -> UserError:
    """A student that does so at step ``index``, whichever way it was found."""
    return UserError(
        f"the student's forward pass writes into its parameters at step {index}: no derivative is taken of that; "
        "compute the value that is meant, and leave the parameters to the optimiser"
    )
