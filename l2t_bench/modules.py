"""Pure functions over ``nn.Module``: fresh parameters under a seed, calls with given ones, replayable randomness."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from l2t_bench.errors import UserError

_MASK = (1 << 64) - 1


def mix_seeds(*parts: int) -> int:
    """One 63-bit seed out of several integers (splitmix64 over the parts): equal parts, equal seed."""
    state = 0
    for part in parts:
        state = (state + (part & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """torch's global generators of the CPU and of ``device`` at ``seed`` inside the block, as before after it.

    ``torch.random.fork_rng`` does the same at sixty times the cost, which would count at every training step.
    """
    generators = [torch.default_generator]
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    for generator in generators:
        generator.manual_seed(seed)
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


@contextmanager
def twice_differentiable(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Kernels that have a second derivative: attention by plain mathematics, and no cuDNN under recurrent layers.

    The fused attention kernels, the CPU's too, and cuDNN's recurrent ones have none. Plain training takes the same
    kernels, so that what is compared is the same student.
    """
    with sdpa_kernel(SDPBackend.MATH), plain_recurrence(module, device):
        yield


@contextmanager
def plain_recurrence(module: nn.Module, device: torch.device) -> Iterator[None]:
    """No cuDNN under recurrent layers: it has no second derivative, and in eval mode not even a first one."""
    if device.type == "cuda" and any(isinstance(layer, nn.RNNBase) for layer in module.modules()):
        before = torch.backends.cudnn.enabled
        torch.backends.cudnn.enabled = False  # and nothing else, as ``flags`` does: it would allow TF32
        try:
            yield
        finally:
            torch.backends.cudnn.enabled = before
    else:
        yield


@contextmanager
def without_fast_attention() -> Iterator[None]:
    """No fused Transformer layers, which torch takes in eval mode and where no gradient is wanted: they have none."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def call(module: nn.Module, tensors: Mapping[str, Tensor], argument: Any) -> tuple[Any, dict[str, Tensor]]:
    """``module(argument)`` with these parameters and buffers; also the tensors as the call leaves them.

    Buffers that the forward pass writes into (BatchNorm's running statistics) must be cloned by the caller.
    """
    held = dict(tensors)
    output = functional_call(module, held, (argument,))  # writes replaced buffers back into `held`
    return output, held


def module_at(module: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy of ``module`` that holds these parameters and buffers, for libraries that step a module in place.

    Parameters and buffers that ``tensors`` does not name keep the values of ``module``.
    """
    own = copy.deepcopy(module)
    with torch.no_grad():
        for name, tensor in (*own.named_parameters(), *own.named_buffers()):
            if name in tensors:
                tensor.copy_(tensors[name])
    return own


class _Decoder(nn.Module):
    """A student's ``decode`` in the place of its ``forward``, so that it can be called with given parameters."""

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, inputs: Any) -> Any:
        return self.student.decode(inputs)  # type: ignore[operator]


def plain_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors that its layers hold as plain attributes, by name: neither parameters nor buffers."""
    return {
        f"{layer}.{name}" if layer else name: held
        for layer, owner in module.named_modules()
        for name, held in vars(owner).items()
        if isinstance(held, Tensor)
    }


def plain_numbers(module: nn.Module) -> dict[str, float]:
    """The numbers that its layers hold as plain attributes, by name: counters, say."""
    return {
        f"{layer}.{name}" if layer else name: held
        for layer, owner in module.named_modules()
        for name, held in vars(owner).items()
        if isinstance(held, int | float)
    }


def call_decode(module: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> Any:
    """``module.decode(inputs)`` with these parameters and buffers."""
    return call(_Decoder(module), {f"student.{name}": tensor for name, tensor in tensors.items()}, inputs)[0]


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training moves, by name: those that require a gradient."""
    return {name: param for name, param in module.named_parameters() if param.requires_grad}


def frozen_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The others: constants of the training."""
    return {name: param for name, param in module.named_parameters() if not param.requires_grad}


def constants_of(module: nn.Module) -> dict[str, Tensor]:
    """What it computes with beside the parameters that training moves, by name: frozen ones, and buffers."""
    trained = trained_parameters(module)
    return {name: tensor for name, tensor in module.state_dict().items() if name not in trained}


def fresh_parameters(module: nn.Module, seed: int) -> tuple[nn.Module, list[str]]:
    """A copy of ``module``, re-initialised by its layers' ``reset_parameters`` under ``seed``; and what none covers.

    Every trainable parameter is overwritten by NaN first: one that is still NaN afterwards was not covered, whatever
    layer it sits in. Those get the values of ``module`` back and are named. Frozen parameters keep theirs, also where
    their layer's ``reset_parameters`` would draw them anew: they may have been trained elsewhere. So does a buffer that
    was made of the overwritten values, as ``spectral_norm``'s vectors are.
    """
    fresh = copy.deepcopy(module)
    trainable, frozen = trained_parameters(fresh), frozen_parameters(fresh)
    device = next((param.device for param in fresh.parameters()), torch.device("cpu"))
    with torch.no_grad(), seeded(seed, device):
        for param in trainable.values():
            param.fill_(torch.nan)
        for layer in fresh.modules():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()
        uncovered = [name for name, param in trainable.items() if bool(torch.isnan(param).any())]
        given = dict(module.named_parameters())
        for name in uncovered:
            trainable[name].copy_(given[name])
        for name, param in frozen.items():
            param.copy_(given[name])
        buffers = dict(module.named_buffers())
        for name, buffer in fresh.named_buffers():
            if bool(torch.isnan(buffer).any()):
                buffer.copy_(buffers[name])
    return fresh, uncovered


def cast(tree: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Every tensor of ``tree`` on ``device``, its floating-point tensors in ``dtype``; other leaves as they are."""

    def move(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(device=device, dtype=dtype if leaf.is_floating_point() else None)

    return pytree.tree_map(move, tree)


def tensor_leaves(tree: Any) -> list[Tensor]:
    """The tensors of a tree of tuples, lists and dicts, in order."""
    return [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def float_leaves(tree: Any) -> list[Tensor]:
    """Those of its tensors that have a derivative; a teacher may give an index beside them."""
    return [leaf for leaf in tensor_leaves(tree) if leaf.is_floating_point() or leaf.is_complex()]


def with_float_leaves(tree: Any, leaves: list[Tensor]) -> Any:
    """``tree`` with its ``float_leaves`` replaced, in order."""
    remaining = iter(leaves)
    return map_tensors(lambda leaf: next(remaining) if float_leaves(leaf) else leaf, tree)


def map_tensors(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """``tree`` with ``function`` applied to each of its tensors."""
    return pytree.tree_map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def graph_leaves(roots: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that the graphs of ``roots`` begin with: those that a derivative can be taken by."""
    left, seen, found = [root.grad_fn for root in roots], set(), []
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if type(node).__name__ == "AccumulateGrad":
            found.append(node.variable)  # type: ignore[attr-defined]
        left.extend(after for after, _ in node.next_functions)
    return found


def same_tensors(left: Any, right: Any) -> bool:
    """Whether two trees hold equal tensors at the same places, NaN beside NaN."""
    ours, theirs = tensor_leaves(left), tensor_leaves(right)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype or left.layout != right.layout:
        return False
    if left.layout is not torch.strided:
        left, right = left.to_dense(), right.to_dense()
    return torch.equal(left, right) or bool(((left == right) | (torch.isnan(left) & torch.isnan(right))).all())


def scalar(value: Any, what: str) -> Tensor:
    """``value`` as a 0-dimensional tensor, or a ``UserError`` that says which function must return a scalar."""
    if not isinstance(value, Tensor):
        raise UserError(f"{what} must return a scalar tensor, not {type(value).__name__}")
    if value.numel() != 1:
        raise UserError(f"{what} must return a scalar, not shape {tuple(value.shape)}: take its .mean()")
    return value.reshape(())
