"""What a gradient cell keeps of a result beside d_theta: hyper-gradients and d_omega0, as figures and as tensors."""

import math

from torch import Tensor

from l2t_bench.gradient import TeacherGradient
from l2t_bench.tensors import TensorDict, global_norm

LARGEST_KEPT = 100_000  # entries of a d_omega0 that is kept whole, which grows with the student; else its norm alone


def hyper_figures(result: TeacherGradient) -> dict[str, float | None]:
    """The derivatives of M~ by the optimiser's numbers and by omega_0; ``None`` for what is not finite.

    A number, such as the momentum, gives ``d_momentum``. What has an entry for each step gives its Euclidean norm and
    its sum, the derivative by a shift of all steps alike: ``d_lr_norm`` and ``d_lr_sum``. omega_0 gives
    ``d_omega0_norm``. Empty for a method that finds none of them.
    """
    figures = {name: figure for key, tensor in result.hyper.items() for name, figure in _told(f"d_{key}", tensor)}
    if result.d_omega0:
        figures["d_omega0_norm"] = global_norm(result.d_omega0)
    return {name: figure if math.isfinite(figure) else None for name, figure in figures.items()}


def hyper_tensors(result: TeacherGradient, largest: int = LARGEST_KEPT) -> TensorDict:
    """The same as tensors: ``hyper.lr`` (steps,), ``hyper.momentum`` (), ``d_omega0.NAME`` in NAME's own shape.

    d_omega0 only where it has at most ``largest`` entries.
    """
    first = result.d_omega0 or {}
    if sum(tensor.numel() for tensor in first.values()) > largest:
        first = {}
    return {
        **{f"hyper.{name}": tensor for name, tensor in result.hyper.items()},
        **{f"d_omega0.{name}": tensor for name, tensor in first.items()},
    }


def _told(name: str, tensor: Tensor) -> list[tuple[str, float]]:
    if tensor.dim() == 0:
        return [(name, float(tensor))]
    return [(f"{name}_norm", float(tensor.norm())), (f"{name}_sum", float(tensor.sum()))]
