"""Convolution and batch normalisation with second derivatives of their own, in fewer passes than torch's.

torch writes the second derivative of a batch normalisation as some thirty operators over whole activations, and takes
part of a convolution's by a convolution whose kernel is as large as the image. The derivatives here are the same,
written for what a step's gradient-vector product asks of them: they are a function of tensors, and know no student.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

_ATEN = torch.ops.aten
_PLAIN = (Tensor, nn.Parameter)
How = tuple[list[int], list[int], list[int], bool, list[int], int]
"""A convolution's stride, padding, dilation, whether it is transposed, output padding, groups."""


class OwnDoubleBackward(TorchFunctionMode):
    """Inside the block graphs of convolutions and train-mode batch normalisations are differentiated by this module.

    Left to torch: other layers; batch normalisation without scale and shift, by running statistics, or on a GPU, where
    cuDNN's is another kernel; padding that is given in words, inputs without a batch dimension, complex numbers;
    classes of tensors that override torch's functions; mixed precision (autocast); and all inside a transform of
    torch.func or forward-mode differentiation, which these functions have no rules for.
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        own = _OWN.get(func)
        if own is None or not _plain(types):
            return func(*args, **kwargs or {})
        found = own(*args, **kwargs or {})
        return func(*args, **kwargs or {}) if found is None else found


def _plain(types: Sequence[type]) -> bool:
    """Whether nothing around a call, and none of its tensors, wants rules that these functions have not."""
    transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    autocast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
    return all(each in _PLAIN for each in types) and not transformed and not autocast


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """As ``torch.conv1d``, ``conv2d`` and ``conv3d`` are called; ``None`` for what is torch's."""
    if isinstance(padding, str) or input.dim() != weight.dim() or input.is_complex() or weight.is_complex():
        return None
    dims = weight.dim() - 2
    how = (_each(stride, dims), _each(padding, dims), _each(dilation, dims), False, [0] * dims, groups)
    return _Convolution.apply(input, weight, bias, how)  # type: ignore[no-any-return]


def _each(value: Any, dims: int) -> list[int]:
    return [value] * dims if isinstance(value, int) else list(value) * (dims if len(value) == 1 else 1)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """As ``torch.nn.functional.batch_norm`` is called; ``None`` for what is torch's."""
    if not training or weight is None or bias is None or input.is_cuda:
        return None
    if input.numel() == input.shape[1]:  # one value a channel: torch's error
        return None
    running = None if running_mean is None or running_var is None else (running_mean, running_var, momentum)
    return _BatchNorm.apply(input, weight, bias, running, eps)  # type: ignore[no-any-return]


_OWN: Mapping[Any, Callable[..., Tensor | None]] = MappingProxyType(
    {
        torch.conv1d: _convolution,
        torch.conv2d: _convolution,
        torch.conv3d: _convolution,
        nn.functional.batch_norm: _batch_norm,
    }
)


class _Convolution(torch.autograd.Function):
    """x * w + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, how: How) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.how, ctx.biased = how, b is not None
        return _ATEN.convolution(x, w, b, *how)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        return *_ConvolutionBack.apply(*gradients, x, w, ctx.how, ctx.biased, wanted), None


class _ConvolutionBack(torch.autograd.Function):
    """g, x, w -> g * w', x * g and the sum of g: where b, or a gradient, is not wanted, ``None``."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, how: How, biased: bool, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, w)
        ctx.set_materialize_grads(False)
        ctx.how = how
        sizes = [w.shape[0]] if biased else None
        return tuple(_ATEN.convolution_backward(g, x, w, sizes, *how, list(wanted)))

    @staticmethod
    def backward(ctx: Any, *vectors: Tensor | None) -> tuple[Tensor | None, ...]:
        (g, x, w), (u, v, b), how = ctx.saved_tensors, vectors, ctx.how
        wants_g, wants_x, wants_w = ctx.needs_input_grad[:3]
        by_g = by_x = by_w = None
        if wants_g:
            by_g = _sum(
                None if u is None else _ATEN.convolution(u, w, b, *how),
                None if v is None else _ATEN.convolution(x, v, b if u is None else None, *how),
            )
            if by_g is None and b is not None:
                by_g = _by_channel(b, g).expand_as(g)
        if wants_x and v is not None:
            by_x = _ATEN.convolution_backward(g, x, v, None, *how, [True, False, False])[0]
        if wants_w and u is not None:
            by_w = _ATEN.convolution_backward(g, u, w, None, *how, [False, True, False])[1]
        return by_g, by_x, by_w, None, None, None


class _BatchNorm(torch.autograd.Function):
    """w y + b with y = (x - mean) r, r = 1 / sqrt(var + eps), per channel over batch and space.

    ``running``: mean, variance and momentum; the first two are written into.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor, running: tuple[Tensor, Tensor, float] | None, eps: float
    ) -> Tensor:
        if running is None:
            out, mean, r = _ATEN._native_batch_norm_legit.no_stats(x, w, b, True, 0.0, eps)
        else:
            *statistics, momentum = running
            out, mean, r = _ATEN._native_batch_norm_legit(x, w, b, *statistics, True, momentum, eps)
        ctx.save_for_backward(x, w, mean, r)
        ctx.eps = eps
        return out  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *_BatchNormBack.apply(*gradients, *ctx.saved_tensors, ctx.eps), None, None


class _BatchNormBack(torch.autograd.Function):
    """g, x, w -> w r P(g), <g, y> and <g, 1> by channel, with P(g) = g - mean(g) - y mean(g y), which is symmetric."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor, eps: float) -> tuple[Tensor, ...]:
        by_x, by_w, by_b = _back(g, x, w, mean, r, eps)
        ctx.save_for_backward(g, x, w, mean, r, by_w, by_b)
        ctx.eps = eps
        return by_x, by_w, by_b

    @staticmethod
    def backward(ctx: Any, *vectors: Tensor) -> tuple[Tensor | None, ...]:
        """Of <u, w r P(g)> + <v, <g, y>> + <b, <g, 1>>.

        dy = r P(dx) and dr = -r^2 mean(y dx). So by x it is

            -w r^2 (P(g m_u + u m_g) + y c) + v r P(g),   m_u = mean(u y), m_g = mean(g y),
                                                          c = mean(u g) - mean(u) mean(g) - m_u m_g,

        which is linear in u, g and x with numbers by channel: three passes. c is <g, P(u)> / count, whose terms have
        means taken out of them before they are multiplied: a difference of large means has no digits in float32.
        """
        g, x, w, mean, r, gy, g1 = ctx.saved_tensors
        u, v, b = vectors
        count = x.numel() // x.shape[1]
        pu, uy, u1 = _back(u, x, torch.ones_like(w), mean, r, ctx.eps)  # r P(u)
        if torch.is_grad_enabled():  # a third derivative is wanted: mean and r hang on x
            mean, r = _statistics(x, ctx.eps)
        m_u, u_mean, m_g, g_mean = uy / count, u1 / count, gy / count, g1 / count
        c = (pu * g).sum([0, *range(2, x.dim())]) / (count * r)
        scale, shift = w * r * r, v * r
        of_u, of_g, of_y = -scale * m_g, shift - scale * m_u, scale * (2 * m_u * m_g - c) - shift * m_g
        of_1 = scale * (m_g * u_mean + m_u * g_mean) - shift * g_mean
        by_x = torch.addcmul(_by_channel(of_1 - of_y * r * mean, x), u, _by_channel(of_u, x))
        by_x.addcmul_(g, _by_channel(of_g, x)).addcmul_(x, _by_channel(of_y * r, x))
        by_g = torch.addcmul(_by_channel(b - shift * mean, x), pu, _by_channel(w, x))
        by_g.addcmul_(x, _by_channel(shift, x))
        return by_g, by_x, count * r * c, None, None, None


def _back(g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    found: tuple[Tensor, Tensor, Tensor] = _ATEN.native_batch_norm_backward(
        g, x, w, None, None, mean, r, True, eps, [True, True, True]
    )
    return found


def _statistics(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """mean and r by channel."""
    var, mean = torch.var_mean(x, [0, *range(2, x.dim())], correction=0)
    return mean, (var + eps).rsqrt()


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.dim() - 2))


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other
